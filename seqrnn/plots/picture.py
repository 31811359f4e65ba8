"""Chooses the picture of a run's predictions: the one that its task asks for, or that of its kind of task."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any, Protocol, cast

from matplotlib.figure import Figure, SubFigure
from numpy.typing import NDArray

from seqrnn.plots import pictures
from seqrnn.plots.facts import Facts
from seqrnn.plots.style import Array
from seqrnn.rundir.formats import PICTURES

Arrays = Mapping[str, NDArray[Any]]
ShowFrame = Callable[[Array], str]


class PredictionsPicture(Protocol):
    """What a file in ``seqrnn/plots/pictures`` has. It may also have ``AXES``, the axes of the arrays that it is
    drawn from (``seqrnn.plots.arrays``); without it, they are those of its kind of task."""

    def draw(self, arrays: Arrays, facts: Facts) -> Figure:
        """Draws predictions.png.

        Args:
            arrays: those of predictions.npz, checked (``seqrnn.plots.arrays``).
        """

    def animate(self, arrays: Arrays, outputs: Array, facts: Facts) -> tuple[Figure, SubFigure, ShowFrame]:
        """Draws the first frame of an animation.

        Args:
            arrays: those of snapshots.npz, checked.
            outputs: of the F frames that are shown, (F, T, n, O).

        Returns:
            The figure, its body, and a function that changes the figure to the outputs (T, n, O) of another frame and
            returns a line about it.
        """


def find(facts: Facts) -> PredictionsPicture:
    """Returns the picture that the task of a run asks for; the default of its kind, if there is none of that name."""
    names = PICTURES[facts.kind]
    name = facts.picture.name if facts.picture.name in names else names[0]  # it may come from a received file
    return cast(PredictionsPicture, import_module(f"{pictures.__name__}.{name}"))
