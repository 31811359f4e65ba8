"""Pictures of a run, drawn from its directory alone, so that they can be drawn again at any time.

    loss.png         the losses and the metric of a run as it went, and its trivial baselines
    predictions.png  what the trained network makes of the test data: a picture for each kind of task
    animation.gif    the fit as it improved (runs with plots.animation=true)
    samples.png      training examples (classification)

``python -m seqrnn.plots RUN_DIR`` draws them, and diagnosis.png (``seqrnn.diagnosis.page``), again. No window is ever
opened, and nothing global is changed: figures are matplotlib objects without pyplot. matplotlib is imported when
something is drawn, not before, and of the modules here only those that draw it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from importlib import import_module
from pathlib import Path

from seqrnn.errors import DataError
from seqrnn.rundir.names import METRICS_JSONL, PREDICTIONS, SAMPLES, SNAPSHOTS
from seqrnn.rundir.reader import RunReader


def draw(
    directory: Path,
    survive: type[Exception] = DataError,
    tell: Callable[[Path], object] = lambda path: None,
    others: Sequence[Callable[[Path], list[Path]]] = (),
) -> list[Path]:
    """Draws every picture that a run directory has data for, also where the run diverged or was interrupted.

    Args:
        survive: what may go wrong with a picture without keeping the others from being drawn.
        tell: is called with each file when it has been written.
        others: draw further pictures from the directory; each returns the files that it wrote.

    Returns:
        The files written. Each is written whole or not at all.

    Raises:
        DataError: it is not a run directory, or files of it are missing or damaged; what could be drawn was.
    """
    from seqrnn.plots import arrays, loss, style
    from seqrnn.plots.facts import Facts

    run = RunReader(directory)
    facts = Facts(run.config(), run.summary())
    is_classes = facts.kind == "classification"

    def losses() -> list[Path]:
        metrics = run.metrics()
        if not metrics:
            return []
        arrays.check_columns(metrics, directory / METRICS_JSONL)
        return [style.save(loss.draw(metrics, facts), directory / "loss.png")]

    def predictions() -> list[Path]:
        if not run.has(PREDICTIONS):
            return []
        axes = arrays.CLASSES if is_classes else arrays.SEQUENCES
        found = arrays.checked(run.predictions(), axes, directory / PREDICTIONS, is_classes)
        own = facts.task if facts.task in ("sine", "sincos") and not is_classes else None
        picture = import_module(f"seqrnn.plots.{own or ('classification' if is_classes else 'sequence')}")
        return [style.save(picture.draw(found, facts), directory / "predictions.png")]

    def animated() -> list[Path]:
        snapshots = run.snapshots()
        if snapshots is None:
            return []
        from seqrnn.plots import animation

        axes = arrays.GUESSES if is_classes else arrays.COURSES
        frames = arrays.checked(snapshots, axes, directory / SNAPSHOTS, is_classes)
        return [animation.save(frames, facts, directory / "animation.gif")]

    def samples() -> list[Path]:
        return draw_samples(directory) if run.has(SAMPLES) else []

    paths: list[Path] = []
    problems: list[str] = []
    pictures: list[Callable[[], list[Path]]] = [losses, predictions, animated, samples]
    pictures += [partial(other, directory) for other in others]
    for picture in pictures:
        try:
            for path in picture():
                tell(path)
                paths.append(path)
        except survive as error:  # a damaged file spoils its own picture, and no other
            problems += error.problems if isinstance(error, DataError) else [_said(directory, error)]
    if problems:
        raise DataError(*problems)
    return paths


def _said(directory: Path, error: Exception) -> str:
    if isinstance(error, OSError):
        where = error.filename2 or error.filename or directory
        return f"{where}: {error.strerror or error}; may it be written, and is there room?"
    return (
        f"{directory}: what it holds does not fit together: {type(error).__name__}: {error}; "
        "HYDRA_FULL_ERROR=1 shows where"
    )


def draw_samples(directory: Path) -> list[Path]:
    """Draws ``samples.png``: the first training examples of a classification task, with their classes.

    Raises:
        DataError: it is not a run directory, or a file of it is missing or damaged.
    """
    from seqrnn.plots import arrays, samples, style
    from seqrnn.plots.facts import Facts

    run = RunReader(directory)
    try:
        summary = run.summary()
    except DataError:  # samples are drawn before a run has begun
        summary = {}
    found = arrays.checked(run.samples(), arrays.SAMPLES, directory / SAMPLES)
    return [style.save(samples.draw(found, Facts(run.config(), summary)), directory / "samples.png")]
