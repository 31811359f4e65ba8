"""Thousands of inputs that nobody thought of: each gives a result, or an error that says so, and nothing else.

``SEQRNN_FUZZ=20 pytest tests/test_fuzz.py`` tries twenty times as many, others than the fixed ones of every day.
"""

from __future__ import annotations

import copy
import os
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import Finished
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from seqrnn import cli, overrides

Command = Callable[..., Finished]

MORE = int(os.environ.get("SEQRNN_FUZZ", "1"))
LINES, PARTS = 2000 * MORE, 8  # override lines, in so many tests
THOROUGH = 10  # of so many lines, one is diagnosed in full
SLOWEST = 20.0  # seconds that a line may take
ROOM = 6 * 2**30  # bytes of address space that a line may take
ERRORS = (2, 3)  # a mistake; a run that diverged

GROUPS = {
    "task": ["sine", "sincos", "integral", "mnist"],
    "model": ["elman", "rnn", "gru", "lstm"],
    "optimizer": ["sgd", "adam", "adamw", "nadam", "radam", "rmsprop", "adagrad"],
    "schedule": ["online", "tbptt", "accumulate", "full", "minibatch"],
    "experiment": [
        "sine_online", "sincos_lstm", "sincos_lstm_carry", "mnist_lstm", "mnist_lstm_best", "integral_forgetting",
        "integral_accumulated", "null",
    ],
}  # fmt: skip
USUAL = [
    "1", "2", "3", "5", "8", "0.5", "0.1", "1e-3", "0.0", "1_000", "true", "false", "null", "auto", "linear", "mlp", "l1",
    "mse", "cosine", "step", "plateau", "torch",
]  # fmt: skip
STRANGE = [
    "0", "-1", "-0.0", "1e-400", "1e400", "1e308", "-1e308", "1e20", "1e21", "nan", "-nan", "inf", "-inf", "1e15",
    "1000000000000000", "9007199254740992", "9007199254740993", "18446744073709551616", "9" * 400, "0x10", "1:30",
    "'1'", "''", "", "' '", "many", "None", "TRUE", "yes", "~", "naïve", "時間", "🙂", "'a b'", r"a\=b", r"\$x",
    "'\u202egpj.exe'", "'\x1b[31mred'", "'$x$'", "'$\\frac$'", "'[red]'", "'[/red]'", "../../etc", "~nosuchuser/x",
    "/dev/null", "a" * 5000, "[]", "{}", "[1,2]", "[[1],[2]]", "{a:1}", "{a:{b:c}}", "[a,b", "{a:", "'", '"', "(", ")",
    "${seed}", "${nowhere}", "${task}", "${task.name}", "${oc.env:HOME}", "${oc.env:NO_SUCH_VARIABLE}", "${oc.eval:1}",
    "${oc.decode:1}", "${oc.select:seed}", "${pid:}", "${now:%Y}", "${now:}", "${nosuch:1,2}", "${", "${}", "${:}",
    "${hydra:run.dir}", "${.epochs}", "${..seed}", "???", "_target_", "{_target_:os.getcwd}", "!!python/name:os.system",
    "${schedule.epochs}", "${schedule.window}", "range(3)", "choice(1,2)", "interval(0,1)", "int(3)", "float(2)",
    "str(3)", "bool(1)", "shuffle(1,2)", "glob(*)", "sort(3,1)", "extend_list(1)", "nosuch(3)", "1,2", "a,b", "=", "==",
]  # fmt: skip
FOREIGN = [  # keys that are nobody's, or hydra's
    "nosuch", "task.nosuch", "model.hiden_size", "optimizer.beta3", "schedule.windw", "a.b.c.d", "seed.x", "task.name.x",
    "model.init_std.x", "model.init_std.head.weight", "suggested.nosuch", "plots", "suggested", "task", "model.name",
    "_target_", "model._target_", "task._target_", "0", "1.2", "é", "task.ключ", "hydra.job.name", "hydra.verbose",
    "hydra.mode", "hydra.nosuch", "hydra.job.chdir", "hydra.output_subdir", "hydra.help.header", "hydra.searchpath",
    "hydra/launcher", "hydra/job_logging", "hydra.job.num", "hydra.callbacks.x._target_", "hydra.launcher._target_",
    "hydra.job_logging.root", "defaults", "task@model", "model@x", "override model", "experiment",
]  # fmt: skip


def keys_of(values: Any, before: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, dict) and value:
            yield from keys_of(value, f"{before}{key}.")
        else:
            yield f"{before}{key}", value


@cache
def all_keys() -> dict[str, dict[str, Any]]:
    """For each choice of a group, the keys with their values that there are then; for ``""``, those of all."""
    found: dict[str, dict[str, Any]] = {"": {}}
    with initialize_config_dir(cli.config_directory(), version_base="1.3"):
        for group in ("task", "model", "optimizer", "schedule"):
            for choice in GROUPS[group]:
                values = dict(keys_of(OmegaConf.to_container(compose("config", [f"{group}={choice}"]), resolve=True)))
                values = {key: value for key, value in values.items() if key not in ("smoke", "plots.draw")}
                found[f"{group}={choice}"] = {key: values[key] for key in values if key.startswith(f"{group}.")}
                found[""] |= values
    return found


def like(value: Any, rng: random.Random) -> str:
    """A value of the same kind, which is sound more often than not."""
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
    """Overrides of a command line; a third of the lines is sound."""
    if rng.random() < 0.1:
        line = [f"experiment={rng.choice(GROUPS['experiment'])}"]
        values = all_keys()[""]
    else:
        line = [f"{group}={rng.choice(GROUPS[group])}" for group in ("task", "model", "optimizer", "schedule")]
        values = {key: value for choice in line for key, value in all_keys()[choice].items()}
        values |= {key: value for key, value in all_keys()[""].items() if "." not in key or key.startswith("plots.")}
        line = rng.sample(line, 4)[: rng.choice([2, 4, 4, 4])]
    is_tame = rng.random() < 0.4
    for _ in range(rng.choice([1, 1, 2, 2, 3])):
        if is_tame:
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
    """What asks for too much memory gets none, instead of everybody else's."""
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
def quick(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[bool], None]]:
    """Each config file is parsed once; and whether the next line, if it does not compose, is diagnosed, which takes as
    long as a dozen others, or told what hydra said."""
    load, diagnose, is_thorough = cache(OmegaConf.load), overrides.diagnose, True

    def choose(thorough: bool) -> None:
        nonlocal is_thorough
        is_thorough = thorough

    def explain(error: Exception, arguments: Sequence[str], directory: str) -> overrides.Diagnosis:
        if is_thorough:
            return diagnose(error, arguments, directory)
        return overrides.Diagnosis([overrides._first_lines(error)], [])

    monkeypatch.setattr(OmegaConf, "load", lambda file: copy.deepcopy(load(str(getattr(file, "name", file)))))
    monkeypatch.setattr(overrides, "diagnose", explain)
    yield choose


@pytest.mark.timeout(600 * MORE)
@pytest.mark.parametrize("part", range(PARTS))
def test_any_line_of_overrides_gives_a_run_or_an_error(
    part: int, command: Command, quick: Callable[[bool], None], tmp_path: Path
) -> None:
    rng = random.Random(part if MORE == 1 else f"{time.time()} {part}")
    found: Counter[int] = Counter()
    assert command("task=sine", "smoke=true", "plots.draw=false", "hydra.run.dir=warm").exit_code == 0
    for number in range(LINES // PARTS):
        line = a_line(rng)
        quick(number % THOROUGH == 0)
        begun = time.monotonic()
        try:
            with bounded_memory():
                finished = command(*line, "smoke=true", "plots.draw=false", f"hydra.run.dir={tmp_path}/{number}")
        except BaseException as error:
            raise AssertionError(f"{line}: {error!r}") from error
        torch.set_num_threads(1)
        spent = time.monotonic() - begun
        found[finished.exit_code] += 1
        assert finished.exit_code == 0 or finished.exit_code in ERRORS, f"{line}: {finished}"
        assert "Traceback" not in finished.out + finished.err, f"{line}: {finished.err}"
        assert "\x1b" not in finished.out + finished.err, f"{line}: {finished}"
        assert finished.exit_code != 2 or finished.err.strip(), f"{line}: no word of what is wrong"
        assert spent < SLOWEST, f"{line}: {spent:.1f} s"
    print(f"{dict(found)} of {LINES // PARTS} lines")
    assert min(found[0], found[2]) > LINES // PARTS // 5
    assert {path.name for path in tmp_path.iterdir()} <= {"warm", "outputs", *map(str, range(number + 1))}
