"""A run directory received from a stranger: nothing in it is run, nothing outside of it is read or written, the sizes
that its files declare are checked, and texts in it are shown as they are written."""

from __future__ import annotations

import io
import json
import os
import pickle
import struct
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import pytest
from matplotlib.text import Text
from pydantic import BaseModel, model_validator
from test_plots import CONFIG, SUMMARY, facts, make, rows, sequences, words

from seqrnn import plots
from seqrnn.cli import reporting
from seqrnn.errors import DataError, printable
from seqrnn.plots import __main__ as plots_command
from seqrnn.plots import loss
from seqrnn.rundir import bounded, bounded_arrays, bounded_rows
from seqrnn.rundir.reader import RunReader
from seqrnn.schedule import distinct

resource = pytest.importorskip("resource")
ROOM = 2**29  # bytes


@pytest.fixture
def bounded_memory() -> Iterator[None]:
    """Allows half a GiB of memory more than is in use now."""
    limits = resource.getrlimit(resource.RLIMIT_AS)
    now = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (now + ROOM, limits[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, limits)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return make(tmp_path / "run", rows=rows(5), predictions=sequences(20))


def refusal(read: Callable[[], Any]) -> str:
    """Returns the reader's error, which is one line."""
    with pytest.raises(DataError) as caught:
        read()
    (problem,) = caught.value.problems
    assert "\n" not in problem
    return problem


class Trap:
    """An object that makes a file when it is unpickled."""

    def __reduce__(self) -> Any:
        return Path.touch, (Path("sprung"),)


# Nothing is run


def bomb(levels: int = 40) -> str:
    """Returns YAML whose aliases stand for nine of nine of nine … of a word."""
    lines = ["a0: &a0 lol"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, levels)]
    return "\n".join(lines)


CONFIGS = {
    "alias bomb": (bomb(), "aliases"),
    "merged aliases": ("a: &a {b: 1}\nc: {<<: *a}", "aliases"),
    "tag that makes an object": ("a: !!python/object/apply:os.mkdir [sprung]", "tag"),
    "tag of a name": ("a: !!python/name:os.system", "tag"),
    "tag of its own": ("a: !path sprung", "tag"),
    "environment": ("task: {name: '${oc.env:HOME}'}", "interpolations"),
    "resolver as a key": ("{'${oc.env:HOME}': 1}", "interpolations"),
    "resolver that is ours": ("task: {name: '${pid:}'}", "interpolations"),
    "deep lists": ("a: " + "[" * 100_000, "within one another"),
    "deep mappings": ("\n".join(" " * n + "a:" for n in range(200)), "within one another"),
    "huge": ("a: " + "b" * 2**19, "bytes"),
    "long word": ("a: " + "b" * 2**15, "characters"),
    "huge sexagesimal number": ("seed: 1" + ":59" * 3000, "bits"),
    "huge number": ("seed: " + "9" * 9999, "cannot be read"),
    "key twice": ("seed: 1\nseed: 2", "twice"),
    "two documents": ("seed: 1\n---\nseed: 2", "cannot be read"),
    "a date": ("seed: 2001-01-01", "date"),
    "no text": ("\x00\x01", "cannot be read"),
    "a list": ("- 1", "should hold a mapping"),
    "nothing": ("", "should hold a mapping"),
    "a task that is no mapping": ("task: sine", "task should be a mapping, not 'sine'"),
    "a rate that is a word": ("optimizer: {lr: fast}", "optimizer.lr should be a number, not 'fast'"),
    "streams that are true": ("schedule: {streams: true}", "schedule.streams should be a whole number, not True"),
    "a long name": (
        f"task: {{name: {'a' * 300}}}",
        "task.name should be text of at most 200 characters, not of 300: 'aaa",
    ),
}


@pytest.mark.timeout(20)
@pytest.mark.parametrize("name", CONFIGS)
def test_a_received_config_is_plain_values_or_refused(
    name: str, run: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, bounded_memory: None
) -> None:
    monkeypatch.chdir(tmp_path)
    text, expected = CONFIGS[name]
    (run / "config.yaml").write_text(text)
    problem = refusal(RunReader(run).config)
    assert str(run / "config.yaml") in problem
    assert expected in problem
    assert os.environ["HOME"] not in problem.replace(str(tmp_path), "")
    assert not Path("sprung").exists()


def test_a_recorded_config_is_read_as_it_was_written(run: Path) -> None:
    assert RunReader(run).config() == CONFIG
    (run / "config.yaml").write_text("optimizer: {lr: 1e-8, name: '1e5'}\nseed: 1_000\ntask: {_target_: os.getcwd}")
    config = RunReader(run).config()
    assert config["optimizer"] == {"lr": 1e-8, "name": "1e5"}
    assert config["seed"] == 1000
    assert config["task"] == {"_target_": "os.getcwd"}  # a word like any other


def test_a_command_that_reads_a_run_imports_no_plugin_that_its_user_has_not_named(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "sprung_plugin.py").write_text("raise SystemExit('ran')")
    monkeypatch.syspath_prepend(tmp_path)
    with (run / "config.yaml").open("a") as file:
        file.write("plugins: [sprung_plugin, other]\n")
    plots_command.main([str(run)])
    assert "sprung_plugin" not in sys.modules
    assert "--plugins sprung_plugin --plugins other" in refusal(lambda: RunReader(run).check_plugins([]))
    assert "asks to import other," in refusal(lambda: RunReader(run).check_plugins(["sprung_plugin"]))
    RunReader(run).check_plugins(["sprung_plugin", "other", "of_the_user"])
    (run / "config.yaml").write_text("plugins: [[sprung_plugin]]")
    assert "list of module names" in refusal(lambda: RunReader(run).check_plugins([]))


# Declared sizes are checked


def npy(header: str, data: bytes = b"", magic: bytes = b"\x93NUMPY\x01\x00") -> bytes:
    return magic + struct.pack("<H", len(header)) + header.encode() + data


def header(shape: str, dtype: str = "'<f8'") -> str:
    return f"{{'descr': {dtype}, 'fortran_order': False, 'shape': {shape}}}\n"


def archive(members: dict[str, bytes], kind: int = zipfile.ZIP_DEFLATED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", kind) as file:
        for name, data in members.items():
            file.writestr(name, data)
    return buffer.getvalue()


def zip_bomb(declared: int) -> bytes:
    """Returns an archive of an array of zeros, which is a thousand times larger than the file."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as file, file.open("a.npy", "w", force_zip64=True) as out:
        out.write(npy(header(f"({declared // 8},)")))
        for _ in range(declared // 2**20):
            out.write(bytes(2**20))
    return buffer.getvalue()


def saved(**arrays: Any) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def misdeclared(data: bytes) -> bytes:
    """Returns the archive with a directory that declares 100 bytes for an array that has more."""
    place = data.rindex(b"PK\x01\x02")
    return data[: place + 24] + struct.pack("<I", 100) + data[place + 28 :]


ARCHIVES: dict[str, tuple[Callable[[], bytes], str]] = {
    "zip bomb": (lambda: zip_bomb(2**28), "are the most that are read"),
    "declared shape": (lambda: archive({"a.npy": npy(header("(10**12,)"))}), "malformed"),
    "large declared shape": (lambda: archive({"a.npy": npy(header(f"({10**12},)"))}), "does not fit its 0 bytes"),
    "negative shape": (lambda: archive({"a.npy": npy(header("(-1,)"))}), "does not fit"),
    "a shape of many axes": (lambda: archive({"a.npy": npy(header(f"({'1,' * 60})"), bytes(8))}), "does not fit"),
    "pickled objects": (lambda: saved(a=np.array([Trap()], dtype=object)), "holds object"),
    "words": (lambda: saved(a=np.array(["a"])), "only numbers"),
    "records": (lambda: saved(a=np.zeros(1, [("x", "f8")])), "only numbers"),
    "code for a header": (lambda: archive({"a.npy": npy("__import__('os').mkdir('sprung')\n")}), "cannot be read"),
    "long header": (lambda: archive({"a.npy": npy(header(" " * 60_000 + "(1,)"), bytes(8))}), "cannot be read"),
    "header of version 2": (
        lambda: archive({"a.npy": npy(header("(1,)"), magic=b"\x93NUMPY\x02\x00")}),
        "version 1.0",
    ),
    "a member that is no array": (lambda: archive({"a.npy": pickle.dumps(Trap())}), "cannot be read"),
    "many members": (lambda: archive({f"{n}.npy": b"" for n in range(65)}), "at most 64 arrays"),
    "another packing": (lambda: archive({"a.npy": npy(header("(1,)"), bytes(8))}, zipfile.ZIP_LZMA), "packed"),
    "a size that is too small": (
        lambda: misdeclared(archive({"a.npy": npy(header("(90,)"), bytes(720))})),
        "cannot be read",
    ),
    "a comment": (lambda: saved(a=np.zeros(1))[:-2] + b"\x01\x00x", "its end is missing"),
    "half": (lambda: saved(a=np.zeros(100))[:-300], "its end is missing"),
    "a flipped bit": (lambda: saved(a=np.zeros(100)).replace(bytes(50), bytes(49) + b"\x01", 1), "cannot be read"),
    "a bare pickle": (lambda: pickle.dumps(Trap()), "no archive"),
    "nothing": (lambda: b"", "no archive"),
}


@pytest.mark.timeout(60)
@pytest.mark.parametrize("name", ARCHIVES)
def test_arrays_take_no_memory_that_is_not_there_and_no_code(
    name: str, run: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    monkeypatch.chdir(tmp_path)
    make_data, expected = ARCHIVES[name]
    monkeypatch.setattr(bounded_arrays, "MOST_BYTES", 2**27)
    (run / "predictions.npz").write_bytes(make_data())
    request.getfixturevalue("bounded_memory")
    problem = refusal(RunReader(run).predictions)
    assert problem.startswith(f"{run / 'predictions.npz'}: cannot be read: ")
    assert expected in problem
    assert not Path("sprung").exists()


def test_arrays_of_every_kind_are_read_as_they_were_saved(run: Path) -> None:
    arrays = {
        "floats": np.linspace(0, 1, 7, dtype=np.float32).reshape(7, 1),
        "columns": np.asfortranarray(np.arange(12.0).reshape(3, 4)),
        "bools": np.array([True, False]),
        "bytes": np.arange(5, dtype=np.uint8),
        "big": np.arange(3, dtype=">i8"),
        "one": np.array(2.5),
        "none": np.zeros((0, 3)),
    }
    np.savez_compressed(run / "predictions.npz", **arrays)
    for name, array in RunReader(run).predictions().items():
        np.testing.assert_array_equal(array, arrays[name])
        assert array.dtype == arrays[name].dtype


def test_truth_values_are_true_or_false(run: Path) -> None:
    (run / "predictions.npz").write_bytes(archive({"a.npy": npy(header("(3,)", "'|b1'"), b"\x00\x02\xff")}))
    assert RunReader(run).predictions()["a"].sum() == 2


def tensors(declared: int, header: dict[str, Any], data: bytes = b"") -> bytes:
    text = json.dumps(header).encode()
    return struct.pack("<Q", declared if declared >= 0 else len(text)) + text + data


WEIGHTS = {
    "a header without an end": tensors(2**63, {}),
    "a header longer than the file": tensors(10**6, {}),
    "offsets beyond the file": tensors(-1, {"a": {"dtype": "F32", "shape": [2**40], "data_offsets": [0, 2**42]}}),
    "a shape that does not fit": tensors(-1, {"a": {"dtype": "F32", "shape": [9], "data_offsets": [0, 4]}}, bytes(4)),
    "offsets the wrong way round": tensors(
        -1, {"a": {"dtype": "F32", "shape": [1], "data_offsets": [4, 0]}}, bytes(4)
    ),
    "a pickle": pickle.dumps(Trap()),
    "nothing": b"",
}


@pytest.mark.parametrize("name", WEIGHTS)
def test_weights_take_no_memory_that_is_not_there_and_no_code(
    name: str, run: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    (run / "weights.safetensors").write_bytes(WEIGHTS[name])
    assert str(run / "weights.safetensors") in refusal(RunReader(run).weights)
    assert not Path("sprung").exists()


ROWS = {
    "a word for a number": ('{"timesteps": "many"}\n', "line 1: timesteps should be a number, not 'many'"),
    "true for a number": (
        '{"timesteps": 1}\n{"timesteps": true}\n',
        "line 2: timesteps should be a number, not True",
    ),
    "a list for a number": ('{"timesteps": [1]}\n', "should be a number, not [1]"),
    "no mapping": ("[1]\n", "line 1: should be a mapping"),
    "a line without an end": ('{"a": "' + "a" * 2**21, "line 1 has more than"),
    "deep": ("[" * 50_000 + "\n", "nested too deeply"),
    "many columns": (json.dumps({str(n): n for n in range(5000)}) + "\n", "1 to 4,096 names"),
    "no columns": ("{}\n", "1 to 4,096 names"),
    "no JSON": ("timesteps,loss\n", "cannot be read"),
    "no text": ("\udcff\n", "cannot be read"),
}


@pytest.mark.parametrize("name", ROWS)
def test_rows_are_numbers_or_the_line_is_named(name: str, run: Path) -> None:
    text, expected = ROWS[name]
    (run / "metrics.jsonl").write_bytes(text.encode(errors="surrogateescape"))
    assert expected in refusal(RunReader(run).metrics)


def test_a_number_too_large_for_any_type_is_infinite(run: Path) -> None:
    (run / "metrics.jsonl").write_text('{"timesteps": 1' + "0" * 400 + "}\n")
    assert np.isinf(RunReader(run).metrics()["timesteps"]).all()
    assert "timesteps" in refusal(lambda: plots.draw(run) if (run / "predictions.npz").unlink() is None else None)


SUMMARIES = {
    "a word for a count": ({"updates": "many"}, "updates should be a whole number, not 'many'"),
    "another kind": ({"kind": "../../x"}, "kind should be 'regression' or 'classification', not '../../x'"),
    "scores that are none": ({"test": [1]}, "test should be a mapping, not [1]"),
    "a word for a score": ({"test": {"mae": "low"}}, "test.mae should be a number, not 'low'"),
    "a number for scores": ({"baselines": {"a": 3}}, "baselines.a should be a mapping, not 3"),
    "a long name of a baseline": (
        {"baselines": {"a" * 300: {}}},
        "a name in baselines should be text of at most 200 characters, not of 300",
    ),
    "half of a character": ({"status": "\ud800"}, "status should be text of valid characters, not '\\ud800'"),
    "half of a character in a name": (
        {"baselines": {"\ud800": {}}},
        "a name in baselines should be text of valid characters, not '\\ud800'",
    ),
}


@pytest.mark.parametrize("name", SUMMARIES)
def test_a_summary_is_of_the_right_types_or_the_key_is_named(name: str, run: Path) -> None:
    changes, expected = SUMMARIES[name]
    (run / "summary.json").write_text(json.dumps({**SUMMARY, **changes}))
    problem = refusal(RunReader(run).summary)
    assert str(run / "summary.json") in problem
    assert expected in problem


def test_a_sparse_file_of_any_size_is_not_read(run: Path, bounded_memory: None) -> None:
    reader = RunReader(run)
    for name, read in (
        ("config.yaml", reader.config), ("summary.json", reader.summary), ("metrics.jsonl", reader.metrics),
        ("predictions.npz", reader.predictions), ("weights.safetensors", reader.weights),
    ):  # fmt: skip
        with (run / name).open("ab") as file:
            file.truncate(2**36)
        expected = "has more than" if name == "metrics.jsonl" else "are the most that are read"
        assert expected in refusal(read)


# Nothing outside is read or written


def test_links_are_replaced_and_what_they_lead_to_stays(run: Path, tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("precious")
    (run / "loss.png").symlink_to(tmp_path / "precious")
    (run / "predictions.png").symlink_to(tmp_path / "not there yet")
    plots_command.main([str(run)])
    assert (tmp_path / "precious").read_text() == "precious"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["precious", "run"]
    assert not (run / "loss.png").is_symlink()


@pytest.mark.parametrize("name", ["config.yaml", "summary.json", "metrics.jsonl", "predictions.npz"])
def test_a_link_out_of_the_directory_is_not_read(name: str, run: Path, tmp_path: Path) -> None:
    (run / name).rename(tmp_path / "elsewhere")
    (run / name).symlink_to(tmp_path / "elsewhere")
    reader = RunReader(run)
    read = {"config.yaml": reader.config, "summary.json": reader.summary, "metrics.jsonl": reader.metrics}
    found = read.get(name, reader.predictions)
    assert f"{run / name}: is a link to {tmp_path / 'elsewhere'}" in refusal(found)
    (tmp_path / "elsewhere").rename(run / "here")
    (run / name).unlink()
    (run / name).symlink_to("here")
    assert found()


@pytest.mark.timeout(20)
def test_a_pipe_is_not_waited_for(run: Path) -> None:
    for name in ("summary.json", "config.yaml"):
        (run / name).unlink()
        os.mkfifo(run / name)
        assert name in refusal(lambda: plots.draw(run))


def test_a_new_run_follows_no_link_that_was_left_for_it(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "metrics.csv").symlink_to(tmp_path / "not there yet")
    with pytest.raises(Exception, match=r"already holds a run|is a link"):
        make(tmp_path / "run")
    assert not (tmp_path / "not there yet").exists()


def test_a_picture_that_cannot_be_written_is_a_line_and_the_others_are_drawn(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (run / "loss.png").mkdir()
    with pytest.raises(SystemExit) as stop:
        plots_command.main([str(run)])
    out, err = capsys.readouterr()
    assert stop.value.code == 2
    assert err.count("\n") == 1
    assert "loss.png" in err
    assert out.split() == [str(run / "predictions.png")]
    assert not list(run.glob(".*"))


# What is shown


def test_control_characters_are_shown_as_their_codes() -> None:
    assert printable("naïve 時間 🙂") == "naïve 時間 🙂"
    assert printable("\x1b[2J\x07\r\n") == r"\x1b[2J\x07\r\n"
    assert printable("\u202egpj\u2066\ud800\x9b") == r"\u202egpj\u2066\ud800\x9b"


def test_names_and_messages_of_a_stranger_move_no_cursor(run: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (run / "config.yaml").write_text(
        json.dumps({"optimizer": {"lr": "\x1b[2J"}, "task": {"name": "\x1b]0;title\x07"}})
    )
    (run / "summary.json").write_text(json.dumps({**SUMMARY, "kind": "\x1b[31m"}))
    other = run.rename(run.with_name("\x1b[31m run"))
    with pytest.raises(SystemExit):
        plots_command.main([str(other)])
    with pytest.raises(SystemExit):
        reporting.run(lambda: RunReader(other).summary())
    out, err = capfd.readouterr()
    assert r"\x1b[31m run" in err
    assert not set("\x1b\x07") & set(out + err)


@pytest.mark.first(2)
@pytest.mark.parametrize("name", ["$\\frac{$ $x$", "$a", "\\$x$", "a\x1b[31m", "\\alpha", "<b>&", "two\nlines"])
def test_a_name_is_written_into_pictures_as_it_is(name: str, tmp_path: Path) -> None:
    summary = {"loss": name, "data_note": name, "status": name, "baselines": {name: {"loss": 1.0, "mae": 1.0}}}
    directory = make(tmp_path / "run", {"name": name}, rows(5))
    (directory / "summary.json").write_text(json.dumps({**SUMMARY, **summary}))
    assert len(plots.draw(directory)) == 1
    figure = loss.draw({"timesteps": np.arange(2.0), "train_loss": np.ones(2)}, facts({"name": name}, **summary))
    text = words(figure)
    assert "\x1b" not in text
    math = [text for text in figure.findobj(Text) if text.get_text().count("$") > text.get_text().count("\\$")]
    assert all("mathdefault" in text.get_text() for text in math)


# Counts


@pytest.mark.timeout(30)
@pytest.mark.parametrize("changes", [{"task.train_timesteps": 10**15}, {"schedule.epochs": 2**53}], ids=str)
def test_absurd_counts_are_counted_without_being_gone_through(changes: dict[str, int], command: Any) -> None:
    line = [f"{key}={value}" for key, value in changes.items()]
    finished = command(*line, "task.validation_sequences=2", "task.test_sequences=2", "schedule.max_updates=3")
    assert finished.exit_code == 0, finished.err
    assert finished.summary["updates"] == 3


def test_batches_that_are_alike_stand_for_one_another() -> None:
    from helpers import make_schedule, make_task

    task = make_task("integral", train_timesteps=4000, sequence_length=70)
    batches = task.train(0, 3)
    schedule = make_schedule(streams=3, window=20, epochs=2)
    assert sum(count for _, count in distinct(batches)) == len(batches)
    assert schedule.count_updates(batches) == schedule.count_updates(list(batches))
    assert schedule.count_updates(task.train(0, 3)) == 2 * 4 * len(batches)


def test_a_checksum_is_compared(run: Path) -> None:
    data = np.arange(100.0)
    np.savez(run / "predictions.npz", a=data)
    content = (run / "predictions.npz").read_bytes()
    place = content.index(data.tobytes())
    (run / "predictions.npz").write_bytes(content[:place] + b"\x01" + content[place + 1 :])
    assert "CRC" in refusal(RunReader(run).predictions)


# Models of JSON files


class Point(BaseModel):
    """A model whose values have bounds of their own."""

    name: bounded.Name
    value: float | None


class Points(BaseModel):
    """A model of a file, with all that such a model may be made of."""

    version: Literal[1]
    points: bounded.Items[Point]
    pairs: bounded.Items[bounded.Items[tuple[float, float]]] = []
    scores: bounded.ByName[bounded.ByName[float | None]] = {}

    @model_validator(mode="after")
    def _check_lengths(self) -> Self:
        if len(self.pairs) > len(self.points):
            raise ValueError("pairs should be at most as many as points")
        return self


SOUND = {"version": 1, "points": [{"name": "a", "value": None}], "pairs": [[[1, 2.5]]], "scores": {"a": {"b": 1}}}
MISTAKES = {
    "another version": ({"version": 2}, "version should be 1, not 2"),
    "a number for a name": ({"points": [{"name": 3, "value": 0}]}, "points[0].name should be text, not 3"),
    "true for a number": ({"points": [{"name": "a", "value": True}]}, "points[0].value should be a number, not True"),
    "a word for a number": ({"points": [{"name": "a", "value": "1"}]}, "points[0].value should be a number, not '1'"),
    "a missing value": ({"points": [{"name": "a"}]}, "has no points[0].value; was it written by another version"),
    "a mapping for a list": ({"points": {}}, "points should be a list, not {}"),
    "a list for a mapping": ({"scores": [1]}, "scores should be a mapping, not [1]"),
    "a pair of one": ({"pairs": [[[1]]]}, "has no pairs[0][0][1]"),
    "a pair of three": ({"pairs": [[[1, 2, 3]]]}, "pairs[0][0] should be a list of at most 2 items, not [1, 2, 3]"),
    "a long name": ({"points": [{"name": "a" * 300, "value": 1}]}, "points[0].name should be text of at most 200"),
    "a long key": ({"scores": {"a" * 300: {}}}, "a name in scores should be text of at most 200 characters"),
    "a rule of the model": ({"pairs": [[], []]}, "pairs should be at most as many as points"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_in_a_file_of_a_model_is_named_with_its_key_and_value(name: str, tmp_path: Path) -> None:
    path = tmp_path / "points.json"
    path.write_text(json.dumps(SOUND))
    read = bounded.read_model(path, Points)
    assert (read.points[0].value, read.pairs, read.scores) == (None, [[(1.0, 2.5)]], {"a": {"b": 1.0}})
    changes, expected = MISTAKES[name]
    path.write_text(json.dumps({**SOUND, **changes}))
    assert refusal(lambda: bounded.read_model(path, Points)).startswith(f"{path}: {expected}")


FLOODS = {
    "wrong items": '{"version": 1, "points": [' + "[]," * 1_300_000 + "[]]}",
    "wrong values": '{"scores": {' + ",".join(f'"{n}": {{"a": ""}}' for n in range(200_000)) + "}}",
    "deep lists": '{"points": ' + "[" * 1_000_000,
    "deep mappings of no field": '{"x": ' + '{"a": ' * 500_000,
    "a huge number": '{"version": ' + "9" * 4_000_000 + "}",
}


@pytest.mark.timeout(30)
@pytest.mark.parametrize("name", FLOODS)
def test_a_file_full_of_mistakes_takes_no_memory_for_each(name: str, tmp_path: Path, bounded_memory: None) -> None:
    path = tmp_path / "points.json"
    path.write_text(FLOODS[name])
    with pytest.raises(DataError) as caught:
        bounded.read_model(path, Points)
    assert len(caught.value.problems) <= bounded.MOST_PROBLEMS
    assert all(len(problem) < 500 for problem in caught.value.problems)


# More rows than fit into memory


def many_rows(path: Path, count: int, evaluate_every: int) -> None:
    with path.open("w") as file:
        for number in range(count):
            evaluation = number / 2 if number % evaluate_every == 0 else None
            file.write(json.dumps({"timesteps": number, "train_loss": 1.0, "eval_loss": evaluation}) + "\n")


@pytest.mark.parametrize("count", [1, 29, 30, 31, 59, 60, 61, 64, 1000, 1023])
def test_rows_are_thinned_evenly_and_keep_the_evaluations_and_the_last(
    count: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "metrics.jsonl"
    many_rows(path, count, evaluate_every=100)
    monkeypatch.setattr(bounded_rows, "MOST_VALUES", 180)  # 60 rows
    columns = bounded_rows.read_rows(path)
    timesteps, evaluations = columns["timesteps"], columns["eval_loss"]
    assert len(timesteps) == count if count < 60 else 30 <= len(timesteps) <= 62
    assert timesteps[-1] == count - 1
    gaps = np.diff(timesteps)
    assert (gaps > 0).all()
    assert gaps.max(initial=1) <= 2 * 2 ** np.ceil(np.log2(max(1, count / 59)))
    evaluated = np.isfinite(evaluations)
    assert timesteps[evaluated].tolist() == list(range(0, count, 100))
    np.testing.assert_array_equal(evaluations[evaluated], timesteps[evaluated] / 2)


@pytest.mark.long
@pytest.mark.timeout(300)
def test_more_rows_than_fit_into_memory_can_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bounded_memory: None
) -> None:
    path, count, blanks = tmp_path / "metrics.jsonl", 250_000, b" " * 700  # as many bytes as 5,000,000 usual rows
    path.write_bytes((b'{"timesteps": 0,' + blanks + b'"train_loss": 1}\n') * count)
    assert len(bounded_rows.read_rows(path)["timesteps"]) == count
    monkeypatch.setattr(bounded_rows, "MOST_VALUES", 2**16)
    assert 2**14 <= len(bounded_rows.read_rows(path)["timesteps"]) <= 2**15
