"""Pictures that a helper process draws: none is lost, whichever process is killed, and no process is left."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from seqrnn.plots import helper
from seqrnn.plots.helper import Helper, draw_pending, pending_line
from seqrnn.rundir.reader import RunReader
from seqrnn.rundir.writer import RunWriter

CONFIG = {"task": {"name": "integral"}, "model": {"name": "gru"}, "seed": 3, "smoke": False}
SUMMARY = {"status": "finished", "kind": "regression", "loss": "l1", "updates": 2, "wall_seconds": 0.1 + 0.2}


def make(directory: Path, *problems: str) -> Path:
    """Writes a run that has ended and left its picture to others, after these other problems."""
    run = RunWriter(directory, CONFIG, [])
    for updates in (1, 2):
        run.record({"timesteps": 50 * updates, "updates": updates, "train_loss": 0.3 / updates})
    run.write_summary({**SUMMARY, "problems": [*problems, pending_line(directory)]})
    run.log_path.write_text("finished\n", encoding="utf-8")
    run.close()
    return directory


def is_drawn(directory: Path) -> bool:
    """Whether the picture is there, and nothing says that it is not."""
    return (directory / "loss.png").exists() and "problems" in RunReader(directory).summary() and not left(directory)


def left(directory: Path) -> list[str]:
    problems: list[str] = RunReader(directory).summary()["problems"]
    return problems


def test_pending_pictures_are_drawn_once_and_the_summary_is_as_if_the_run_had_drawn_them(tmp_path: Path) -> None:
    directory = make(tmp_path / "a run")
    assert left(directory) == [
        f"pictures: not drawn yet when this was written; if they are missing: python -m seqrnn.plots '{directory}'"
    ]
    draw_pending(directory)
    assert (directory / "loss.png").exists()
    assert (directory / "train.log").read_text(encoding="utf-8") == "finished\n"
    as_drawn = RunWriter(tmp_path / "other", CONFIG, [])
    as_drawn.write_summary({**SUMMARY, "problems": []})
    as_drawn.close()
    assert (directory / "summary.json").read_bytes() == (tmp_path / "other/summary.json").read_bytes()
    (directory / "loss.png").unlink()
    draw_pending(directory)  # nothing is pending any more
    assert not (directory / "loss.png").exists()


def test_a_picture_that_cannot_be_drawn_is_reported_as_the_run_reports_it(tmp_path: Path) -> None:
    directory = make(tmp_path / "run", "something else")
    with (directory / "metrics.jsonl").open("a", encoding="utf-8") as metrics:
        metrics.write("damaged\n")
    draw_pending(directory)
    other, problem = left(directory)
    assert other == "something else"
    assert "metrics.jsonl" in problem
    assert (directory / "train.log").read_text(encoding="utf-8").splitlines() == [
        "finished",
        f"could not be drawn: {problem}",
        "draw the pictures with:",
        f"python -m seqrnn.plots {directory}",
    ]


@pytest.mark.parametrize("what", ["nothing", "a file", "no summary", "a damaged summary"])
def test_what_is_no_run_with_pending_pictures_is_left_alone(tmp_path: Path, what: str) -> None:
    directory = tmp_path / "run"
    if what == "a file":
        directory.write_text("")
    elif what != "nothing":
        make(directory)
        (directory / "summary.json").unlink()
        if what == "a damaged summary":
            (directory / "summary.json").write_text("{")
    draw_pending(directory)
    assert not list(tmp_path.rglob("*.png"))


def test_a_run_that_another_process_writes_keeps_its_summary(tmp_path: Path) -> None:
    directory = make(tmp_path / "run")
    resumed = RunWriter(directory, CONFIG, [], resuming=True)
    draw_pending(directory)
    assert left(directory) == [pending_line(directory)]
    resumed.close()


@pytest.mark.long
def test_the_process_draws_and_when_it_is_killed_this_process_draws_the_rest(tmp_path: Path) -> None:
    runs = [make(tmp_path / str(number)) for number in range(4)]
    lines: list[str] = []
    with Helper(lines.append) as pictures:
        pictures.draw(runs[0])
        process = pictures._process
        assert process is not None
        pictures._wait_for_one()
        assert is_drawn(runs[0])
        os.kill(process.pid, signal.SIGTERM if sys.platform == "win32" else signal.SIGKILL)
        process.wait()
        for directory in runs[1:]:
            pictures.draw(directory)
    assert [is_drawn(directory) for directory in runs] == [True] * 4
    (line,) = lines
    assert line.startswith("note: this process draws the pictures, as its helper cannot: ")


def noting(drawn: list[Path]) -> Callable[[Path], list[str]]:
    """Stands for drawing."""

    def draw(directory: Path) -> list[str]:
        drawn.append(directory)
        return []

    return draw


def test_where_no_process_can_be_started_this_process_draws(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[Path] = []
    monkeypatch.setattr(helper, "draw_or_explain", noting(drawn))
    monkeypatch.setattr(sys, "executable", str(tmp_path / "no python"))
    runs, lines = [make(tmp_path / str(number)) for number in range(2)], []
    with Helper(lines.append) as pictures:
        for directory in runs:
            pictures.draw(directory)
            assert drawn[-1] == directory
    assert drawn == runs
    assert lines == [
        f"note: this process draws the pictures, as its helper cannot: {tmp_path / 'no python'}: "
        "No such file or directory"
    ]


def process_of(script: str) -> Any:
    """A process in place of the helper."""
    command = [sys.executable, "-c", script]
    return subprocess.Popen(command, bufsize=0, stdin=subprocess.PIPE, stdout=subprocess.PIPE)


def asleep() -> Any:
    """A process in place of the helper, which never answers."""
    return process_of("import sys; sys.stdin.read()")


@pytest.mark.skipif(sys.platform == "win32", reason="a process cannot interrupt itself there")
def test_whoever_interrupts_the_wait_ends_the_process_and_the_run_says_how_it_is_drawn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory, process = make(tmp_path / "run"), asleep()
    monkeypatch.setattr(helper, "_start", lambda: process)
    signal.signal(signal.SIGALRM, signal.default_int_handler)
    signal.setitimer(signal.ITIMER_REAL, 0.2)
    try:
        with pytest.raises(KeyboardInterrupt), Helper(pytest.fail) as pictures:
            pictures.draw(directory)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
    assert process.returncode == -signal.SIGKILL
    assert left(directory) == [pending_line(directory)]


def test_where_the_process_is_behind_this_process_draws_at_once_and_the_others_are_drawn_in_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[Path] = []
    monkeypatch.setattr(helper, "draw_or_explain", noting(drawn))
    monkeypatch.setattr(helper, "_start", asleep)
    lines: list[str] = []
    with Helper(lines.append) as pictures:
        for number in range(helper.MOST_WAITING):
            pictures.draw(make(tmp_path / str(number)))
        assert not drawn
        late = make(tmp_path / "late")
        pictures.draw(late)
        assert drawn == [late]
        assert pictures._process is not None
        pictures._process.kill()
    assert len(drawn) == helper.MOST_WAITING + 1
    assert len(lines) == 1


def test_a_run_that_the_process_has_drawn_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The process answers; then it gets the next run, and this process draws none."""
    drawn: list[Path] = []
    monkeypatch.setattr(helper, "draw_or_explain", noting(drawn))
    answering = "import os, sys\nfor line in sys.stdin.buffer: os.write(1, b'.')"
    monkeypatch.setattr(helper, "_start", lambda: process_of(answering))
    with Helper(pytest.fail) as pictures:
        for number in range(helper.MOST_WAITING + 3):
            directory = make(tmp_path / str(number))
            pictures.draw(directory)
            helper.settle(directory, [])  # as the process would
        assert len(pictures._waiting) == 1
    assert not drawn


@pytest.mark.long
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_parent_that_is_killed_loses_no_picture_and_leaves_no_process(tmp_path: Path, number: int) -> None:
    runs = [make(tmp_path / str(index)) for index in range(3)]
    script = (
        "import json, sys, time\n"
        "from pathlib import Path\n"
        "from seqrnn.plots.helper import Helper\n"
        "with Helper(print) as pictures:\n"
        "    for name in json.loads(sys.argv[1]): pictures.draw(Path(name))\n"
        "    print(pictures._process.pid, flush=True)\n"
        "    time.sleep(60)\n"
    )
    command = [sys.executable, "-c", script, json.dumps([str(directory) for directory in runs])]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        parent.send_signal(number)
    until = time.monotonic() + 60
    while time.monotonic() < until and not has_ended(child):
        time.sleep(0.05)
    assert has_ended(child)
    assert [is_drawn(directory) for directory in runs] == [True] * 3


def has_ended(process: int) -> bool:
    """Whether a process has ended, also if nobody has asked for its exit code yet."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True
