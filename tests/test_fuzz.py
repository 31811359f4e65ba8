"""Thousands of random inputs: each gives a result, or an error message, and nothing else.

They are the same ones every time. ``SEQRNN_FUZZ=20 pytest -m long tests/test_fuzz.py`` tries twenty times as many,
other ones each time.
"""

from __future__ import annotations

import contextlib
import copy
import json
import logging
import math
import os
import random
import shutil
import subprocess
import sys
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from faults import Server
from helpers import Finished
from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import OmegaConf, open_dict

from seqrnn import composition, config_files, errors
from seqrnn.cli import job
from seqrnn.plots import __main__ as plots_command
from seqrnn.rundir.bounded_arrays import read_tensors
from seqrnn.rundir.names import CONFIG, METRICS_JSONL, PREDICTIONS, SAMPLES, SNAPSHOTS, SUMMARY

Command = Callable[..., Finished]

MORE = int(os.environ.get("SEQRNN_FUZZ", "1"))
LINES, PARTS = 320 * MORE, 4  # override lines, in so many tests
COMMANDS = 20 * MORE  # more lines, through all of the command
PROCESSES = 6 * MORE  # more lines, each in a process of its own
DAMAGES = 80 * MORE  # run directories
SLOWEST = 60.0  # seconds that a line may take
ROOM = 6 * 2**30  # bytes of address space that a line may take
ERRORS = (2, 3)  # a mistake; a run that diverged


def words(text: str) -> list[str]:
    return text.split()


def choices(group: str) -> list[str]:
    return sorted(path.stem for path in (Path(config_files.config_directory()) / group).glob("*.yaml"))


GROUPS = {group: choices(group) for group in ("task", "model", "optimizer", "schedule")}
GROUPS["experiment"] = [*choices("experiment"), "null"]
USUAL = words("""
1 2 3 5 8 0.5 0.1 1e-3 0.0 1_000 true false null auto linear mlp l1 mse cosine step plateau torch compiled
""")
STRANGE = [
    *words("""
    0 -1 -0.0 1e-400 1e400 1e308 -1e308 1e20 1e21 nan -nan inf -inf 1e15 1000000000000000 9007199254740992
    9007199254740993 18446744073709551616 0x10 1:30 '1' '' "" many None TRUE yes ~ naïve 時間 🙂 a\\=b \\$x '[red]'
    '[/red]' '$x$' '$\\frac$' ../../etc ~nosuchuser/x [] {} [1,2] [[1],[2]] {a:1} {a:{b:c}} [a,b {a: ' " ( ) = == 1,2
    /dev/null a,b ${seed} ${nowhere} ${task} ${task.name} ${oc.env:HOME} ${oc.env:NO_SUCH_VARIABLE} ${oc.eval:1}
    ${oc.decode:1} ${oc.select:seed} ${pid:} ${now:%Y} ${now:} ${nosuch:1,2} ${ ${} ${:} ${hydra:run.dir}
    ${.epochs} ${..seed} ??? ${schedule.epochs} ${schedule.window} _target_ {_target_:os.getcwd}
    !!python/name:os.system range(3) choice(1,2) interval(0,1) int(3) float(2) str(3) bool(1) shuffle(1,2) glob(*)
    sort(3,1) extend_list(1) nosuch(3)
    """),
    "", "' '", "'a b'", "9" * 400, "a" * 5000, "'\u202egpj.exe'", "'\x1b[31mred'", "'two\nlines'", "'\ud800'", "'\0'",
]  # fmt: skip
FOREIGN = words("""
nosuch task.nosuch model.hiden_size optimizer.beta3 schedule.windw a.b.c.d seed.x task.name.x model.init_std.x
model.init_std.head.weight suggested.nosuch plots suggested task model.name _target_ model._target_ task._target_ 0
1.2 é task.ключ hydra.job.name hydra.verbose hydra.mode hydra.nosuch hydra.job.chdir hydra.output_subdir
hydra.help.header hydra.searchpath hydra/launcher hydra/job_logging hydra.job.num hydra.callbacks.x._target_
hydra.launcher._target_ hydra.job_logging.root defaults task@model model@x experiment
""")  # keys that do not exist, and keys of hydra


def keys_of(values: Any, before: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, dict) and value:
            yield from keys_of(value, f"{before}{key}.")
        else:
            yield f"{before}{key}", value


@cache
def all_keys() -> dict[str, dict[str, Any]]:
    """Returns, for each choice of a group, its keys with their values; for ``""``, the keys of all choices."""
    found: dict[str, dict[str, Any]] = {"": {}}
    with initialize_config_dir(config_files.config_directory(), version_base="1.3"):
        for group in ("task", "model", "optimizer", "schedule"):
            for choice in GROUPS[group]:
                values = dict(keys_of(OmegaConf.to_container(compose("config", [f"{group}={choice}"]), resolve=True)))
                values = {key: value for key, value in values.items() if key not in ("smoke", "plots.draw")}
                found[f"{group}={choice}"] = {key: values[key] for key in values if key.startswith(f"{group}.")}
                found[""] |= values
    return found


def like(value: Any, rng: random.Random) -> str:
    """Returns a value of the same kind, which is valid more often than not."""
    if isinstance(value, bool):
        return rng.choice(["true", "false"])
    if isinstance(value, int):
        return str(max(1, int(value * rng.choice([0.5, 1, 2])) + rng.randrange(3)))
    if isinstance(value, float):
        return repr(value * rng.choice([0.1, 0.5, 1.0, 1.5]))
    return rng.choice(["null", "1", "2", "4"]) if value is None else str(value)


def any_value(rng: random.Random) -> str:
    kind = rng.random()
    if kind < 0.2:
        return rng.choice(USUAL)
    if kind < 0.3:
        return str(rng.choice([1, -1]) * rng.randrange(10 ** rng.randrange(1, 20)))
    if kind < 0.4:
        return "".join(rng.choice("0aé=,.:[]{}()$'\"\\ ~+-/@!#%\t") for _ in range(rng.randrange(1, 8)))
    return rng.choice(STRANGE)


def a_line(rng: random.Random) -> list[str]:
    """Returns overrides of a command line; a third of the lines is valid."""
    if rng.random() < 0.1:
        line = [f"experiment={rng.choice(GROUPS['experiment'])}"]
        values = all_keys()[""]
    else:
        line = [f"{group}={rng.choice(GROUPS[group])}" for group in ("task", "model", "optimizer", "schedule")]
        values = {key: value for choice in line for key, value in all_keys()[choice].items()}
        values |= {key: value for key, value in all_keys()[""].items() if "." not in key or key.startswith("plots.")}
        line = rng.sample(line, 4)[: rng.choice([2, 4, 4, 4])]
    is_plain = rng.random() < 0.4
    for _ in range(rng.choice([1, 1, 2, 2, 3])):
        if is_plain:
            key = rng.choice(list(values))
            line.append(f"{key}={like(values[key], rng)}")
            continue
        key = (
            rng.choice(FOREIGN)
            if rng.random() < 0.15
            else rng.choice(list(all_keys()[""] if rng.random() < 0.1 else values))
        )
        how = rng.random()
        if how < 0.05:
            line.append(f"~{key}")
        elif how < 0.08:
            line.append(rng.choice([key, f"{key}==1", f"=1{key}", f"+{key}", f"~{key}=1", f"++{key}"]))
        else:
            line.append(f"{'+' if how < 0.11 else '++' if how < 0.14 else ''}{key}={any_value(rng)}")
    rng.shuffle(line)
    return line


@contextmanager
def bounded_memory() -> Iterator[None]:
    """Limits the memory of this process, so that a line that asks for too much fails instead of swapping."""
    resource = pytest.importorskip("resource")
    status = Path("/proc/self/statm")
    if not status.exists():
        yield
        return
    limits = resource.getrlimit(resource.RLIMIT_AS)
    now = int(status.read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (now + ROOM, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, limits)


@pytest.fixture
def quickly(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Iterator[Callable[..., Finished]]:
    """Does what the command does, without the slow parts: hydra composes once, each file is parsed once,
    and the errors of lines that cannot be composed are not explained."""
    load = cache(OmegaConf.load)
    monkeypatch.setattr(OmegaConf, "load", lambda file: copy.deepcopy(load(str(getattr(file, "name", file)))))

    def run(*line: str) -> Finished:
        code, message, directory = 0, "", Path(line[-1].partition("=")[2])
        capfd.readouterr()
        try:
            config = compose("config", list(line), return_hydra_config=True)
            config.hydra.runtime.output_dir = str(directory)
            config.hydra.job.num, config.hydra.mode = 0, RunMode.RUN
            HydraConfig.instance().set_config(config)
        except Exception as error:  # which the command diagnoses, whatever it is
            code, message = 2, composition._first_lines(error)
        else:
            with open_dict(config):
                del config["hydra"]
            try:
                job.train.__wrapped__(config)  # type: ignore[attr-defined]
            except SystemExit as stop:
                code = int(stop.code or 0)
        out, err = capfd.readouterr()
        return Finished(code, out, err + errors.printable(message), directory)

    all_keys()
    with initialize_config_dir(config_files.config_directory(), version_base="1.3"):
        yield run


def check(line: list[str], run: Callable[..., Finished], directory: Path) -> int:
    begun = time.monotonic()
    try:
        with bounded_memory():
            finished = run(*line, "smoke=true", "plots.draw=false", f"hydra.run.dir={directory}")
    except BaseException as error:
        raise AssertionError(f"{line}: {error!r}") from error
    finally:
        torch.set_num_threads(1)
    spent = time.monotonic() - begun
    assert finished.exit_code == 0 or finished.exit_code in ERRORS, f"{line}: {finished}"
    assert "Traceback" not in finished.out + finished.err, f"{line}: {finished.err}"
    assert "\x1b" not in finished.out + finished.err, f"{line}: {finished}"
    assert finished.exit_code != 2 or finished.err.strip(), f"{line}: no word of what is wrong"
    assert spent < SLOWEST, f"{line}: {spent:.1f} s"
    return finished.exit_code


def lines(part: int, count: int) -> Iterator[list[str]]:
    rng = random.Random(part if MORE == 1 else f"{time.time()} {part}")
    return (a_line(rng) for _ in range(count))


@pytest.mark.long
@pytest.mark.timeout(300 * MORE)
@pytest.mark.parametrize("part", range(1, PARTS + 1))
def test_any_line_of_overrides_gives_a_run_or_an_error(
    part: int, quickly: Callable[..., Finished], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    count = LINES // PARTS
    monkeypatch.chdir(tmp_path)
    for precision in ("float32", "float64"):  # compiled code is compiled before the clock runs
        small = ["smoke=true", "plots.draw=false"]
        assert quickly("task=sine", f"precision={precision}", *small, f"hydra.run.dir={precision}").exit_code == 0
    found = Counter(check(line, quickly, tmp_path / str(number)) for number, line in enumerate(lines(part, count)))
    assert min(found[0], found[2]) > count // 8, found
    assert {path.name for path in tmp_path.iterdir()} <= {"float32", "float64", "outputs", *map(str, range(count))}


@pytest.mark.long
@pytest.mark.timeout(300 * MORE)
def test_any_line_of_overrides_is_answered_by_the_command(command: Command, tmp_path: Path) -> None:
    for number, line in enumerate(lines(PARTS + 1, COMMANDS)):
        check(line, command, tmp_path / str(number))


HYDRA = [
    ["hydra.mode=MULTIRUN"], ["hydra.mode=nosuch"], ["hydra.job.chdir=true"], ["hydra.job_logging.root=null"],
    ["hydra.launcher._target_=os.getcwd", "-m"], ["hydra.sweeper._target_=os.getcwd", "-m"],
    ["hydra/launcher=nosuch", "-m"], ["hydra.verbose=[nosuch"], ["hydra.output_subdir=x"], ["hydra.run.dir=null"],
    ["hydra.run.dir='\x1b[31m'"], ["hydra.run.dir=" + "a" * 300], ["hydra.searchpath=[nosuch://x]"],
    ["hydra.job.num=x"], ["+hydra.job_logging.handlers.x.class=nosuch", "hydra.verbose=true"], ["hydra=null"],
    ["~hydra"], ["--nosuch"],
]  # fmt: skip


@pytest.fixture(autouse=True)
def _own_logging(monkeypatch: pytest.MonkeyPatch) -> None:
    """Restores logging after each test."""
    monkeypatch.setattr(logging.root, "handlers", [])
    monkeypatch.setattr(logging.root, "level", logging.WARNING)


@pytest.mark.long
@pytest.mark.parametrize("line", HYDRA, ids=lambda line: line[0][:40])
def test_hydras_own_keys_are_no_way_to_a_traceback(line: list[str], command: Command) -> None:
    finished = command("task=sine", "smoke=true", "plots.draw=false", *line)
    assert finished.exit_code in (0, *ERRORS), finished
    assert "Traceback" not in finished.err
    assert "no such key; did you mean hydra?" not in finished.err
    assert "\x1b" not in finished.out + finished.err


@pytest.mark.long
@pytest.mark.timeout(300 * MORE)
def test_any_line_of_overrides_is_answered_by_a_process_of_its_own(tmp_path: Path) -> None:
    for number, line in enumerate(lines(PARTS + 2, PROCESSES)):
        line = [text for text in line if not set("\0\ud800") & set(text)]  # which no process can be given
        line += ["smoke=true", "plots.draw=false", f"hydra.run.dir={number}"]
        done = subprocess.run(
            [sys.executable, "-m", "seqrnn.train", *line],
            cwd=tmp_path, capture_output=True, text=True, timeout=120,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )  # fmt: skip
        assert done.returncode in (0, *ERRORS), f"{line}: {done}"
        assert "Traceback" not in done.stderr, f"{line}: {done.stderr}"


# Run directories


@pytest.fixture(scope="module")
def runs(server: Server, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two real run directories with every kind of file."""
    folder = tmp_path_factory.mktemp("runs")
    for task in ("sincos", "mnist"):
        line = (f"task={task}", "smoke=true", "plots.animation=true", f"hydra.run.dir={task}")
        assert server.run(*line, cwd=folder).exit_code == 0
    return [folder / "sincos", folder / "mnist"]


def bytes_changed(data: bytes, rng: random.Random) -> bytes:
    """Returns the data with bits flipped, a piece removed or repeated, the end removed, or bytes inserted."""
    for _ in range(rng.choice([1, 1, 2, 5])):
        place, length = rng.randrange(len(data) + 1), rng.choice([1, 4, 64])
        match rng.randrange(6):
            case 0:
                data = data[:place]
            case 1:
                data = data[:place] + data[place + length :]
            case 2:
                data = data[:place] + rng.randbytes(length) + data[place:]
            case 3:
                data = data[: place + length] + data[place:]
            case 4:
                data = (
                    data[:place]
                    + rng.choice([b"\x1b[2J", b"\0", b"9" * 40, b"&a *a", b"${pid:}", b"$", b"[", b"{"])
                    + data[place:]
                )
            case 5 if data:
                place = min(place, len(data) - 1)
                data = data[:place] + bytes([data[place] ^ 1 << rng.randrange(8)]) + data[place + 1 :]
    return data


VALUES: list[Any] = [
    None, True, False, 0, 1, -1, 2**53, 2**63, -(2**70), 10**400, 0.5, -1e300, 1e308, math.nan, math.inf, "",
    "a" * 300, "\x1b]0;x\x07", "$\\frac{", "$x$", "\n\n", "regression", "classification", "sine", "sincos",
    "diverged", "\u202e", "\ud800", [], {}, [1], [[]], {"a": 1}, {"": {"loss": 1}}, {"a": {"loss": "x"}}, {"*": None},
]  # fmt: skip


def value_changed(values: Any, rng: random.Random) -> Any:
    """Returns a tree of values in which one value is replaced or removed."""
    keys = list(values) if isinstance(values, dict) else []
    if not keys or rng.random() < 0.1:
        return rng.choice(VALUES)
    key = rng.choice(keys)
    changed = {**values, key: value_changed(values[key], rng)}
    if rng.random() < 0.1:
        del changed[key]
    return changed


def array_changed(arrays: dict[str, Any], rng: random.Random) -> dict[str, Any]:
    """Returns the arrays with one of another shape, type or content, or without one."""
    name = rng.choice(list(arrays))
    array = arrays[name]
    match rng.randrange(8):
        case 0:
            array = array[: rng.randrange(3)]
        case 1:
            array = array.swapaxes(0, -1)
        case 2:
            array = array[None] if rng.random() < 0.5 else array[0]
        case 3:
            array = array.astype(rng.choice(["?", "i1", "u8", "f2", "f4", "f8", "c8", "S4", "U3", "O", "M8[s]"]))
        case 4:
            array = np.full_like(array, rng.choice([0, 1, 3, 100]))
        case 5 if array.dtype.kind == "f":
            array = np.where(
                np.random.default_rng(0).random(array.shape) < 0.5, array, rng.choice([np.nan, np.inf, 1e300])
            )
        case 6:
            array = np.zeros(rng.choice([(), (0,), (0, 3, 1), (2, 2), (5000,), (1, 1, 1), (3, 1, 5000)]), array.dtype)
        case _:
            return {key: value for key, value in arrays.items() if key != name}
    return {**arrays, name: array}


def damaged(run: Path, rng: random.Random, folder: Path) -> tuple[Path, str]:
    """Returns a copy of a run directory in which one file is damaged, and a description of the damage. Of the other
    files, only those are copied that a picture needs."""
    name = rng.choice([CONFIG, SUMMARY, METRICS_JSONL, PREDICTIONS, SNAPSHOTS, SAMPLES])
    if not (run / name).exists():
        name = CONFIG
    copy_to = folder / f"run{rng.random()}"
    copy_to.mkdir()
    beside = [name] if name.endswith("npz") else [METRICS_JSONL, rng.choice([PREDICTIONS, SNAPSHOTS])]
    for file in {CONFIG, SUMMARY, *beside}:
        shutil.copy(run / file, copy_to / file)
    path, how = copy_to / name, rng.random()
    if how < 0.5:
        path.write_bytes(bytes_changed(path.read_bytes(), rng))
        return copy_to, f"{name}: bytes"
    if name.endswith("npz"):
        with np.load(path) as arrays:
            np.savez_compressed(path, **array_changed(dict(arrays), rng))
    elif name == METRICS_JSONL:
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        place = rng.randrange(len(rows))
        rows[place] = value_changed(rows[place], rng)
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        values = OmegaConf.to_container(OmegaConf.load(path)) if name == CONFIG else json.loads(path.read_text())
        path.write_text(json.dumps(value_changed(values, rng)))  # which is YAML as well
    return copy_to, f"{name}: {path.read_bytes()[:3000]!r}"


@pytest.mark.long
@pytest.mark.timeout(300 * MORE)
@pytest.mark.parametrize("part", range(1, 5))
def test_any_damage_to_a_run_directory_is_a_line_or_nothing(
    part: int, runs: list[Path], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    rng, count = random.Random(part if MORE == 1 else f"{time.time()} {part}"), DAMAGES // 4
    found: Counter[int] = Counter()
    for _ in range(count):
        directory, what = damaged(rng.choice(runs), rng, tmp_path)
        before = {path.name: path.read_bytes() for path in directory.iterdir()}
        code, begun = 0, time.monotonic()
        try:
            with bounded_memory(), warnings.catch_warnings():
                plots_command.main([str(directory)])
        except SystemExit as stop:
            code = int(stop.code or 0)
        except BaseException as error:
            raise AssertionError(f"{what}: {error!r}") from error
        out, err = capfd.readouterr()
        found[code] += 1
        assert code in (0, 2), what
        assert (code == 2) == bool(err), f"{what}: {err}"
        assert "Traceback" not in err, f"{what}: {err}"
        assert "does not fit together" not in err, f"{what}: {err}"  # every damage has a message of its own
        assert not set("\x1b\x07\u202e") & set(out + err), f"{what}: {out} {err}"
        assert time.monotonic() - begun < SLOWEST, what
        assert {name: (directory / name).read_bytes() for name in before} == before
        assert {path.suffix for path in directory.iterdir() if path.name not in before} <= {".png", ".gif"}
        shutil.rmtree(directory)
    assert min(found[0], found[2]) > count // 10, found
    assert not list(tmp_path.iterdir())


@pytest.mark.long
def test_any_damage_to_weights_is_an_error_or_other_weights(runs: list[Path], tmp_path: Path) -> None:
    rng = random.Random(0)
    path = tmp_path / "weights.safetensors"
    for _ in range(DAMAGES):
        path.write_bytes(bytes_changed((runs[0] / path.name).read_bytes(), rng))
        with bounded_memory(), contextlib.suppress(errors.DataError):
            assert all(isinstance(tensor, torch.Tensor) for tensor in read_tensors(path).values())
