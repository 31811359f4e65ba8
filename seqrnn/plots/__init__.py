"""Pictures of a run, drawn from its directory alone, so that they can be drawn again at any time.

    loss.png         the losses and the metric of a run as it went, and its trivial baselines
    predictions.png  what the trained network makes of the test data: a picture for each kind of task
    animation.gif    the fit as it improved (runs with plots.animation=true)
    samples.png      training examples (classification)

``python -m seqrnn.plots RUN_DIR`` draws them again. No window is ever opened, and nothing global is changed: figures
are matplotlib objects without pyplot. matplotlib is imported when something is drawn, not before, and of the modules
here only those that draw it.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from seqrnn.errors import DataError
from seqrnn.run import PREDICTIONS, SAMPLES, SNAPSHOTS, RunReader

Arrays = dict[str, NDArray[Any]]
SEQUENCES = ("inputs", "targets", "outputs", "valid", "starts")
CLASSES = ("outputs", "targets", "examples", "example_inputs")


def draw(directory: Path) -> list[Path]:
    """Draws every picture that a run directory has data for, also where the run diverged or was interrupted.

    Returns:
        The files written. Each is written whole or not at all.

    Raises:
        DataError: it is not a run directory, or files of it are missing or damaged; what could be drawn was.
    """
    from seqrnn.plots import loss, style
    from seqrnn.plots.facts import Facts

    run = RunReader(directory)
    facts = Facts(run.config(), run.summary())

    def losses() -> list[Path]:
        metrics = run.metrics()
        return [style.save(loss.draw(metrics, facts), directory / "loss.png")] if metrics else []

    def predictions() -> list[Path]:
        if not (directory / PREDICTIONS).is_file():
            return []
        is_classes = facts.kind == "classification"
        arrays = _with(run.predictions(), CLASSES if is_classes else SEQUENCES, directory / PREDICTIONS)
        own = facts.task if facts.task in ("sine", "sincos") else None
        picture = import_module(f"seqrnn.plots.{own or ('classification' if is_classes else 'sequence')}")
        return [style.save(picture.draw(arrays, facts), directory / "predictions.png")]

    def animated() -> list[Path]:
        snapshots = run.snapshots()
        if snapshots is None:
            return []
        from seqrnn.plots import animation

        frames = _with(snapshots, ("timesteps", "inputs", "targets", "outputs"), directory / SNAPSHOTS)
        return [animation.save(frames, facts, directory / "animation.gif")]

    def samples() -> list[Path]:
        return draw_samples(directory) if (directory / SAMPLES).is_file() else []

    paths: list[Path] = []
    problems: list[str] = []
    for picture in (losses, predictions, animated, samples):
        try:
            paths += picture()
        except DataError as error:  # a damaged file spoils its own picture, and no other
            problems += error.problems
    if problems:
        raise DataError(*problems)
    return paths


def draw_samples(directory: Path) -> list[Path]:
    """Draws ``samples.png``: the first training examples of a classification task, with their classes.

    Raises:
        DataError: it is not a run directory, or a file of it is missing or damaged.
    """
    from seqrnn.plots import samples, style
    from seqrnn.plots.facts import Facts

    run = RunReader(directory)
    try:
        summary = run.summary()
    except DataError:  # samples are drawn before a run has begun
        summary = {}
    arrays = _with(run.samples(), ("inputs", "targets"), directory / SAMPLES)
    return [style.save(samples.draw(arrays, Facts(run.config(), summary)), directory / "samples.png")]


def _with(arrays: Arrays, names: tuple[str, ...], path: Path) -> Arrays:
    missing = [name for name in names if name not in arrays]
    if missing:
        raise DataError(f"{path}: has no {', '.join(missing)}; was it written by another version of seqrnn?")
    return arrays
