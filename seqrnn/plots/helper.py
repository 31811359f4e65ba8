"""Draws the pictures of runs that have ended in a helper process, while the next run of a sweep trains.

A run that leaves its pictures to the helper says so among the problems in its summary.json. Whoever draws them
removes that line, so it is still there if the computer failed in between, and tells how they are drawn. The helper
works from the run directory alone. It ends when the connection to its parent ends, after the runs that it was given:
a parent that is killed loses no picture, and leaves no process behind.
"""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

from seqrnn import plots
from seqrnn.errors import ConfigError, DataError, reason_of
from seqrnn.rundir.atomic import replacing
from seqrnn.rundir.lock import Lock
from seqrnn.rundir.names import LOCK, LOG, OWNER, SUMMARY
from seqrnn.rundir.reader import RunReader
from seqrnn.rundir.request import drawing_command
from seqrnn.rundir.strict_json import to_json

MOST_WAITING = 4  # runs that the helper has not drawn yet; beyond them, its parent draws, too
DRAWN = b"."  # the helper's answer when it is done with a run
PENDING = "pictures: not drawn yet when this was written"
# The helper imports from where its parent does, whatever the current directory and the environment are.
COMMAND = "import sys; sys.path[:] = sys.argv[1:]; from seqrnn.plots import helper; helper.serve()"


def pending_line(directory: Path) -> str:
    """Returns what summary.json says of a run whose pictures are left to ``draw_pending``."""
    return f"{PENDING}; if they are missing: {drawing_command(str(directory))}"


def draw_or_explain(directory: Path) -> list[str]:
    """Draws the pictures of a run; returns a line for each that could not be drawn."""
    try:
        plots.draw(directory, survive=Exception)
    except DataError as error:
        return list(error.problems)
    except Exception as error:  # matplotlib cannot be imported
        return [f"no pictures: {reason_of(error)}"]
    return []


def draw_pending(directory: Path) -> None:
    """Draws the pictures of a run that left them to others, and writes into its summary.json and train.log what could
    not be drawn, as the run would have done. Does nothing for other runs."""
    if is_pending(_summary(directory)):
        settle(directory, draw_or_explain(directory))


def _summary(directory: Path) -> dict[str, Any]:
    """Returns the summary of a run; empty where there is none."""
    try:
        return RunReader(directory).summary()
    except DataError:
        return {}


def is_pending(summary: Mapping[str, Any]) -> bool:
    """Returns whether a run has left its pictures to ``draw_pending``."""
    return any(str(problem).startswith(PENDING) for problem in summary.get("problems", ()))


def settle(directory: Path, not_drawn: Sequence[str]) -> None:
    """Replaces the line about pending pictures, if the summary of a run has it, by what could not be drawn."""
    if not is_pending(_summary(directory)):
        return
    lock = Lock(directory / LOCK, directory / OWNER)
    try:
        lock.acquire()
    except (ConfigError, OSError):  # the run is being resumed, and draws its pictures again
        return
    try:
        summary = _summary(directory)
        if is_pending(summary):
            others = [problem for problem in summary["problems"] if not str(problem).startswith(PENDING)]
            text = to_json({**summary, "problems": [*others, *not_drawn]}, indent=2) + "\n"
            with replacing(directory / SUMMARY) as path:
                path.write_text(text, encoding="utf-8")
        if not_drawn:
            with (directory / LOG).open("a", encoding="utf-8") as log:
                log.writelines(f"could not be drawn: {problem}\n" for problem in not_drawn)
                log.write(f"draw the pictures with:\n{drawing_command(str(directory))}\n")
    except OSError:  # a full disk: the summary still tells how the pictures are drawn
        pass
    finally:
        lock.release()


class Helper:
    """A process that draws pictures. It starts with the first run; leaving the ``with`` block waits for the last one.

    Where runs are shorter than drawing, this process draws some of the pictures; all of them, if the other cannot
    start or is killed.

    Args:
        announce: called with a line for the user if that happens.
    """

    def __init__(self, announce: Callable[[str], object]) -> None:
        self._announce = announce
        self._waiting: deque[Path] = deque()  # runs that the process was given and has not answered
        self._process: subprocess.Popen[bytes] | None = None
        self._is_lost = False

    def draw(self, directory: Path) -> None:
        """Has the pictures of a run drawn, if they are pending: by the process, or here if ``MOST_WAITING`` runs are
        before it."""
        if not is_pending(_summary(directory)):
            return
        while self._waiting and not is_pending(_summary(self._waiting[0])):
            self._wait_for_one()  # its answer is on its way
        if self._is_lost or len(self._waiting) == MOST_WAITING:
            draw_pending(directory)
        else:
            self._hand_over(directory.absolute())
        while self._is_lost and self._waiting:
            self._wait_for_one()

    def _hand_over(self, directory: Path) -> None:
        """Gives a run to the process, which starts with the first one."""
        self._waiting.append(directory)
        try:
            if self._process is None:
                self._process = _start()
            assert self._process.stdin is not None
            self._process.stdin.write(json.dumps(str(directory)).encode() + b"\n")
        except OSError as error:
            self._take_over(reason_of(error))

    def _wait_for_one(self) -> None:
        """Waits until the pictures of the first waiting run are drawn."""
        if self._process is not None:
            assert self._process.stdout is not None
            if self._process.stdout.read(1) != DRAWN:
                self._take_over(f"it ended with exit code {self._process.wait()}")
        if self._process is None:
            draw_pending(self._waiting[0])
        self._waiting.popleft()

    def _take_over(self, reason: str) -> None:
        self._is_lost = True
        self._end()
        self._announce(f"note: this process draws the pictures, as its helper cannot: {reason}")

    def _end(self) -> None:
        """Ends the process; at once, if runs are left to draw."""
        process, self._process = self._process, None
        if process is None:
            return
        if self._waiting:
            process.kill()
        for pipe in (process.stdin, process.stdout):
            assert pipe is not None
            with suppress(OSError):
                pipe.close()
        process.wait()

    def __enter__(self) -> Helper:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            while (
                self._waiting and kind is not KeyboardInterrupt
            ):  # the second Ctrl-C: its user does not want to wait
                self._wait_for_one()
        finally:
            self._end()


def _start() -> subprocess.Popen[bytes]:
    """Starts the process, out of reach of a terminal's Ctrl-C: its parent decides when it ends."""
    return subprocess.Popen(
        [sys.executable, "-c", COMMAND, *sys.path],
        bufsize=0,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0),
    )


def serve() -> None:
    """Draws the pictures of the runs that the standard input names, until it ends; answers each."""
    answers = os.dup(1)
    os.dup2(2, 1)  # nothing else may answer
    with suppress(Exception):  # a matplotlib that cannot be imported is explained when something is to be drawn
        from seqrnn.plots import drawing  # noqa: F401
    gc.freeze()  # what was imported stays
    for line in sys.stdin.buffer:
        draw_pending(Path(json.loads(line)))
        with suppress(OSError):  # the parent has gone
            os.write(answers, DRAWN)
