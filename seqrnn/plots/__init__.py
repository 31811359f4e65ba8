"""Pictures of a run, drawn from its directory alone, so that they can be drawn again at any time.

    loss.png         the losses and the metric of a run as it went, and its trivial baselines
    predictions.png  what the trained network predicts of the test data (seqrnn.plots.picture)
    residuals.png    the residuals of forecasts, their autocorrelation and distribution (seqrnn.plots.forecasts)
    horizon.png      the errors of forecasts by step of the horizon, beside those of the baselines
    animation.gif    the fit as it improved (runs with plots.animation=true)
    samples.png      training examples (classification)

``python -m seqrnn.plots RUN_DIR`` draws them, and diagnosis.png (``seqrnn.diagnosis.page``), again. No window is ever
opened, and nothing global is changed: figures are matplotlib objects without pyplot, drawn with matplotlib's own
defaults, whatever a matplotlibrc says.

Everything is imported when something is drawn: matplotlib is slow, and ``python -m seqrnn.plots`` imports this file
before it can remove the current directory, which may come from anyone, from the module search path.
"""

from __future__ import annotations

TYPE_CHECKING = False  # as in typing, which is not imported here
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path


def draw(
    directory: Path,
    survive: type[Exception] | None = None,
    announce: Callable[[Path], object] = lambda path: None,
    others: Sequence[Callable[[Path], list[Path]]] = (),
) -> list[Path]:
    """Draws every picture that a run directory has data for, also where the run diverged or was interrupted.

    Args:
        survive: errors that keep only their own picture from being drawn; None: DataError.
        announce: called with each file when it has been written.
        others: draw further pictures from the directory; each returns the files that it wrote.

    Returns:
        The files written. Each is written whole or not at all.

    Raises:
        DataError: it is not a run directory, or files of it are missing or damaged; all other pictures were drawn.
    """
    from seqrnn.errors import DataError

    _quiet_matplotlib()
    from seqrnn.plots import drawing

    return drawing.draw(directory, survive or DataError, announce, others)


def draw_samples(directory: Path) -> list[Path]:
    """Draws ``samples.png``: the first training examples of a classification task, with their classes.

    Raises:
        DataError: it is not a run directory, or a file of it is missing or damaged.
    """
    _quiet_matplotlib()
    from seqrnn.plots import drawing

    return drawing.draw_samples(directory)


def _quiet_matplotlib() -> None:
    """Keeps the first import of matplotlib in an installation from logging that it has listed the fonts."""
    import logging

    logging.getLogger("matplotlib.font_manager").setLevel(logging.ERROR)
