"""A request for a run: its config, its directory, and whether it is resumed."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from seqrnn.errors import printable, shell_quoted
from seqrnn.keys import as_override

TRAIN = ("python", "-m", "seqrnn.train")
OWN_LAUNCHER = re.compile(r"hydra/launcher=\w+")  # a name, which chooses a file of conf/
TAKEOVER_SECONDS = 60.0  # that a requeued job waits for the process that it replaces


@dataclass(frozen=True)
class RunRequest:
    """A run to be made or resumed.

    Args:
        values: its config.
        directory: its run directory.
        overrides: the overrides of the command line.
        resuming: whether the directory holds this run, which is resumed.
        reason: why it is resumed, if the user did not name the directory: "resume=auto", or a requeued job.
    """

    values: dict[str, Any]
    directory: Path
    overrides: Sequence[str]
    resuming: bool = False
    reason: str = ""

    @property
    def lock_timeout(self) -> float:
        """Seconds to wait at most for another process that still writes the directory."""
        return TAKEOVER_SECONDS if self.reason else 0.0


class SafeLine(NamedTuple):
    """A command line that runs no code of whoever has written its words, and the words that were left out for that,
    both as they are shown."""

    text: str
    left_out: list[str]


def safe_line(words: Sequence[str], flags: Sequence[str] = ()) -> SafeLine:
    """Returns the command line that trains with overrides that may come from anyone, for somebody who pastes it:
    without those that can run code (see ``runs_no_code``).

    Args:
        flags: of the command itself.
    """
    kept = [word for word in words if runs_no_code(word)]
    left_out = [printable(word) for word in words if not runs_no_code(word)]
    return SafeLine(printable(" ".join(map(shell_quoted, [*TRAIN, *flags, *kept]))), left_out)


def safe_command(line: str) -> SafeLine:
    """Returns a command line that may come from anyone, as ``safe_line`` does; an empty one if it is no training."""
    try:
        words = shlex.split(line)
    except ValueError:  # a quote that does not end
        words = []
    if tuple(words[:3]) != TRAIN:
        return SafeLine("", [printable(line)] if line else [])
    return safe_line(words[3:])


def runs_no_code(word: str) -> bool:
    """Returns whether an override that may come from anyone imports no module (``plugins``), changes nothing of what
    hydra runs or writes (its own keys), reads no config file that is not seqrnn's and could do either, and is no
    flag."""
    if OWN_LAUNCHER.fullmatch(word):
        return True
    left, _, value = word.strip().lstrip("+~").strip().partition("=")
    key = re.split(r"[@:]", left)[0].strip()
    if key.startswith("-") or re.split(r"[./]", key)[0] in ("hydra", "plugins") or key == "sweep.file":
        return False
    if key == "sweep.space":  # overrides within an override
        return not any(text in value for text in ("hydra", "plugins", "..", "${"))
    if key == "sweep" and "{" in value:  # which may hold either
        return False
    chooses_file = "." not in key and key not in ("resume", "init_from")
    return not (chooses_file and (".." in value or "${" in value))  # hydra follows .. out of the folders of configs


def resume_command(directory: str, values: Mapping[str, Any]) -> str:
    """Returns the command line that resumes a run."""
    words = [*TRAIN, as_override("resume", directory)]
    if values.get("plugins"):
        words.append(f"plugins=[{','.join(values['plugins'])}]")
    return shlex.join(words)


def diagnosis_command(directory: str, values: Mapping[str, Any]) -> str:
    """Returns the command line that diagnoses a run."""
    modules = [word for name in values.get("plugins") or () for word in ("--plugins", name)]
    return shlex.join(["python", "-m", "seqrnn.diagnose", directory, *modules])


def drawing_command(directory: str) -> str:
    """Returns the command line that draws the pictures of a run again."""
    return shlex.join(["python", "-m", "seqrnn.plots", directory])
