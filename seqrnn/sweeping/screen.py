"""What all parts of a sweep print with."""

from __future__ import annotations

from rich.text import Text

from seqrnn.errors import printable
from seqrnn.recording.terminal import Screen


def print_text(screen: Screen, text: str) -> None:
    """Prints a sentence, in several lines where the screen is narrow."""
    screen.print(Text(printable(text)))


def print_line(screen: Screen, text: str) -> None:
    """Prints a path or a command in one line, however long it is, so that it can be copied."""
    screen.print(Text(printable(text)), soft_wrap=True)


def count_of(number: int) -> str:
    """Returns a number of jobs in words."""
    return f"{number:,} job{'s' * (number != 1)}"
