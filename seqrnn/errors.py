"""The errors that a user can mend. They are shown without a traceback, and each kind has its exit code."""

from __future__ import annotations

import difflib
import re
import shlex
import sys
import unicodedata
from collections.abc import Iterable
from pathlib import Path

NO_TEMPORARY_FILES = "No usable temporary directory"  # as the standard library begins to say it
OUT_OF_MEMORY = re.compile("can't allocate memory|out of memory|Storage size calculation overflowed")


class UserError(Exception):
    """An error that a user can mend; commands show it without a traceback.

    Args:
        problems: one line each: what was wrong, where, its value, and what to do.
    """

    exit_code = 2
    shown = False  # whether it has been printed

    def __init__(self, *problems: str) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems

    def __reduce__(self) -> tuple[type[UserError], tuple[str, ...]]:
        return type(self), self.problems  # launchers send a job's error between processes


class ConfigError(UserError):
    """Every problem of a config that cannot be run."""


class DataError(UserError):
    """Data, or a file of a run, that is missing or damaged."""


class Diverged(UserError):
    """The loss, a gradient or an output of the network became NaN or infinite."""

    exit_code = 3


class Pruned(UserError):
    """A search has ended a run that is worse than others were by then."""


class Interrupted(KeyboardInterrupt):
    """A signal has ended the run, after everything was written.

    Args:
        signum: the number of the signal.
    """

    def __init__(self, signum: int) -> None:
        super().__init__(f"interrupted by signal {signum}")
        self.signum, self.exit_code = signum, 128 + signum  # as shells count

    def __reduce__(self) -> tuple[type[Interrupted], tuple[int]]:
        return type(self), (self.signum,)  # launchers send it between processes


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Returns ``'; did you mean X?'`` for the known word nearest to ``word``, or an empty string."""
    nearest = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f"; did you mean {nearest[0]}?" if nearest else ""


def shell_quoted(text: str) -> str:
    """Returns a word as it is typed in a shell; what holds single quotes, as overrides do, is in double ones."""
    has_meaning = any(sign in text for sign in ('"', "$", "`", "!", r"\\", "\n"))  # within double quotes
    if "'" in text and not has_meaning and not text.endswith("\\"):
        return f'"{text}"'
    return shlex.quote(text)


def printable(text: str) -> str:
    """Returns text from anyone as one line that is safe to print. A character that would move the cursor, change
    colours, hide what follows or turn the direction of writing is replaced by its code, such as ``\\x1b``."""
    if text.isprintable():
        return text
    return "".join(
        letter if letter.isprintable() or unicodedata.category(letter) == "Zs" else _code(letter) for letter in text
    )


def _code(letter: str) -> str:
    return letter.encode("unicode_escape").decode("ascii")


def reason_of(error: BaseException) -> str:
    """Returns what went wrong, for people."""
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return str(error) or repr(error)


def place_of(error: OSError) -> str:
    """Returns the file that an error is about, ``standard output`` if that cannot be written, or ``TMPDIR`` if no
    folder for temporary files can be; an empty text if none is known."""
    if str(error.strerror).startswith(NO_TEMPORARY_FILES):
        return "TMPDIR"
    if error.filename:
        return str(error.filename)
    try:
        sys.stdout.flush()  # which tries again to write what could not be written
    except OSError as of_output:
        return "standard output" if of_output.errno == error.errno else ""
    return ""


def explained(error: BaseException, directory: Path) -> BaseException:
    """Returns an error of the machine, such as a full disk, as an error that says what to do; any other as it is.

    Args:
        directory: the run directory, for an error that names no file.
    """
    if isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and OUT_OF_MEMORY.search(str(error))):
        reason = str(error).partition("\n")[0].rpartition("DefaultCPUAllocator: ")[2]
        return UserError(
            f"out of memory: {reason or 'no more to be had'}; make the network, schedule.streams, schedule.window or "
            "the task's sizes smaller"
        )
    if isinstance(error, OSError) and not isinstance(error, BrokenPipeError):
        where = place_of(error) or directory
        return UserError(f"{where}: {error.strerror or error}; what was written before is there")
    return error
