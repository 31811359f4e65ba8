"""The directory of ``python -m seqrnn.predict --stream --learn``: what it holds, and what is left after a kill."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from live_rows import INTEGRAL, SCHEDULES, learning, load, rows
from predicting import Command, MakeRun

import seqrnn
from seqrnn.prediction import learning_directory
from seqrnn.rundir.atomic import replacing


def test_what_was_killed_continues_from_its_last_checkpoint(
    trained: MakeRun, command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = load(trained(*INTEGRAL, *SCHEDULES["tbptt"]))
    monkeypatch.setattr(learning_directory, "CHECKPOINTS_EVERY", "0s")  # after each row
    given = rows()
    learner = learning(run)
    kept = learning_directory.LearningDirectory(tmp_path / "d", learner, print)
    for row in given[:40]:
        learner.answer(row)
        kept.write()
    shutil.copytree(tmp_path / "d", tmp_path / "killed")  # as it is when the process disappears
    (tmp_path / "killed" / "checkpoints" / ".tmp-1-000000000041.safetensors").write_bytes(b"half")
    kept.close()

    second = learning(run)
    learning_directory.LearningDirectory(tmp_path / "killed", second, print).close()
    assert second.learner.rows == 40
    assert [second.answer(row) for row in given[40:]] == [learner.answer(row) for row in given[40:]]
    newest = max((tmp_path / "killed" / "checkpoints").glob("0*.safetensors"))
    newest.write_bytes(newest.read_bytes()[:-10])  # damaged: the one before it is used
    messages: list[str] = []
    older = learning(run)
    learning_directory.LearningDirectory(tmp_path / "killed", older, messages.append).close()
    assert older.learner.rows == 39
    assert "damaged" in messages[0]


def test_the_run_stays_as_it_was_and_the_directory_is_one_of_a_run(
    trained: MakeRun, command: Command, tmp_path: Path
) -> None:
    run = trained(*INTEGRAL, *SCHEDULES["tbptt"])

    def digest() -> dict[str, str]:
        files = [path for path in run.directory.rglob("*") if path.is_file()]
        return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}

    before = digest()
    text = "".join(json.dumps(row) + "\n" for row in rows())
    first = command(run.directory, "--stream", "--learn", "d", "--lr", 0.01, stdin=text)
    assert first.code == 0
    assert digest() == before
    learned = seqrnn.load(tmp_path / "d")
    assert learned.summary["status"] == "learning"
    assert not torch.equal(learned.network().head.weight, run.network().head.weight)
    assert command(tmp_path / "d", "--timesteps", 100).code == 0
    next_line = json.dumps({"input": 0.25}) + "\n"
    more = command(run.directory, "--stream", "--learn", "d", "--lr", 0.01, stdin=next_line)
    assert [answer["timestep"] for answer in more.answers] == [30]


def test_a_directory_that_is_not_of_this_run_is_refused(trained: MakeRun, command: Command, tmp_path: Path) -> None:
    run = trained(*INTEGRAL, *SCHEDULES["tbptt"])
    other = trained("task=integral", "model=lstm", "model.hidden_size=8")
    assert command(run.directory, "--stream", "--learn", "d", stdin="[0.1]").code == 0
    command(other.directory, "--stream", "--learn", "d").refused("another network learns there: model is lstm")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").touch()
    command(run.directory, "--stream", "--learn", "full").refused("full: holds other files; choose a new directory")
    command(run.directory, "--stream", "--learn", "full/x").refused("holds other files")
    command(run.directory, "--learn", "e").refused("--learn: only with --stream")
    command(run.directory, "--stream", "--lr", "1").refused("--lr: only with --learn")
    command(run.directory, "--stream", "--learn", "e", "--lr", "0").refused("--lr: 0: should be a positive number")
    command(run.directory, "--stream", "--learn", "e", "--state", "s").refused("--state: not with --learn")
    learner = learning(load(run))
    held = learning_directory.LearningDirectory(tmp_path / "d", learner, print)
    command(run.directory, "--stream", "--learn", "d").refused("d: is being written by process")
    held.close()


@pytest.mark.long
@pytest.mark.parametrize("call", range(5))  # two copies, the summary, the name of the run; then weights
def test_what_was_killed_while_it_began_is_begun_anew(
    call: int, trained: MakeRun, command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As it is when the process disappears before it writes one of its first files."""
    directory = trained(*INTEGRAL, *SCHEDULES["tbptt"]).directory
    line = json.dumps({"input": 0.25}) + "\n"
    with monkeypatch.context() as patch:
        calls = iter(range(100))

        def killed(path: Path, **more: Any) -> Any:
            if next(calls) == call:
                os.link(path.parent / "checkpoints" / ".owner", tmp_path / "owner")
                raise SystemExit(9)
            return replacing(path, **more)

        patch.setattr(learning_directory, "replacing", killed)
        assert command(directory, "--stream", "--learn", "d", stdin=line).code == 9
    os.link(tmp_path / "owner", tmp_path / "d" / "checkpoints" / ".owner")
    again = command(directory, "--stream", "--learn", "d", stdin=line)
    assert again.code == 0, again.err
    assert [answer["timestep"] for answer in again.answers] == [int(call == 4)]


def test_nothing_is_learned_through_a_link(trained: MakeRun, command: Command, tmp_path: Path) -> None:
    directory = trained(*INTEGRAL, *SCHEDULES["tbptt"]).directory
    line = json.dumps({"input": 0.25}) + "\n"
    assert command(directory, "--stream", "--learn", "d", stdin=line).code == 0
    (tmp_path / "d" / "checkpoints").rename(tmp_path / "precious")
    (tmp_path / "d" / "checkpoints").symlink_to(tmp_path / "precious")
    before = sorted(path.name for path in (tmp_path / "precious").iterdir())
    refused = command(directory, "--stream", "--learn", "d", stdin=line)
    assert refused.code == 2
    assert "checkpoints: is a link, and nothing is written through links" in refused.err
    assert sorted(path.name for path in (tmp_path / "precious").iterdir()) == before


def test_a_process_that_is_killed_loses_what_came_since_its_last_checkpoint(trained: MakeRun, tmp_path: Path) -> None:
    run = load(trained(*INTEGRAL, *SCHEDULES["overlapping"]))
    given = rows(400)
    script = (
        "import sys\n"
        "from seqrnn import predict\n"
        "from seqrnn.prediction import learning_directory\n"
        "learning_directory.CHECKPOINTS_EVERY = '0s'\n"
        "from seqrnn.checkpoints import manager\n"
        "manager.SHARE = 1e9\n"  # a checkpoint after each row, whatever it costs
        "predict.main(sys.argv[1:])\n"
    )
    arguments = [str(run.run.directory), "--stream", "--learn", str(tmp_path / "d"), "--lr", "0.01"]
    process = subprocess.Popen(
        [sys.executable, "-c", script, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdin is not None
    assert process.stdout is not None
    answered = 0
    for row in given[:150]:
        process.stdin.write(json.dumps(row) + "\n")
        process.stdin.flush()
        process.stdout.readline()
        answered += 1
    process.kill()  # while it writes a checkpoint, as likely as not
    process.communicate()

    second, uninterrupted = learning(run), learning(run)
    learning_directory.LearningDirectory(tmp_path / "d", second, print).close()
    assert answered - 1 <= second.learner.rows <= answered
    expected = [uninterrupted.answer(row) for row in given]
    rest = [second.answer(row) for row in given[second.learner.rows :]]
    assert rest == expected[-len(rest) :]
