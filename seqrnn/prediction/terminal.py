"""What the commands of predictions print with."""

from __future__ import annotations

from rich.text import Text

from seqrnn.errors import printable
from seqrnn.prediction.trained import TrainedRun
from seqrnn.recording.terminal import Screen

NEW = "new data"  # what is scored, where it is not the test of the run


def title(trained: TrainedRun) -> Screen:
    """Returns the screen, after it has shown which run predicts."""
    screen = Screen(highlight=False)
    screen.print(Text(printable(f"seqrnn: predictions of {trained.name}"), style="bold"))
    return screen


def line(screen: Screen, text: str) -> None:
    """Prints a line."""
    screen.print(Text(printable(text)))


def counted(number: int, noun: str) -> str:
    """Returns a number with its noun, in the plural where it is needed."""
    return f"{number:,} {noun}{'s' * (number != 1)}"
