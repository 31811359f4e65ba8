"""Draws the pictures of a run directory. ``seqrnn.plots`` has the same functions, without importing anything."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from seqrnn.errors import DataError
from seqrnn.plots import arrays, loss, picture, style
from seqrnn.plots.facts import Facts
from seqrnn.rundir.names import FORECAST, METRICS_JSONL, PREDICTIONS, PREPROCESSING, SAMPLES, SNAPSHOTS
from seqrnn.rundir.reader import RunReader
from seqrnn.tables.preprocessing import Preprocessing


def draw(
    directory: Path,
    survive: type[Exception],
    announce: Callable[[Path], object],
    others: Sequence[Callable[[Path], list[Path]]],
) -> list[Path]:
    """Draws every picture that there is data for (``seqrnn.plots.draw``)."""
    run = RunReader(directory)
    facts = Facts(run.config(), run.summary())
    is_classes = facts.kind == "classification"

    def losses() -> list[Path]:
        metrics = run.metrics()
        if not metrics:
            return []
        arrays.check_columns(metrics, directory / METRICS_JSONL)
        return [style.save(loss.draw(metrics, facts), directory / "loss.png")]

    def forecasts() -> list[Path]:
        if facts.forecast is None or not run.has(FORECAST):
            return []
        from seqrnn.plots import forecasts

        found = arrays.checked(run.forecast(), arrays.FORECAST, directory / FORECAST)
        drawn = [
            style.save(forecasts.draw_forecasts(found, facts.forecast, facts), directory / "predictions.png"),
            style.save(forecasts.draw_residuals(found, facts.forecast, facts), directory / "residuals.png"),
        ]
        if facts.forecast.horizon > 1:
            drawn.append(style.save(forecasts.draw_horizon(facts.forecast, facts), directory / "horizon.png"))
        return drawn

    def predictions() -> list[Path]:
        if run.has(FORECAST):  # the same, in the units of the data
            return []
        if not run.has(PREDICTIONS):
            return []
        chosen = picture.find(facts)
        axes = getattr(chosen, "AXES", arrays.CLASSES if is_classes else arrays.SEQUENCES)
        found = arrays.checked(run.predictions(), axes, directory / PREDICTIONS, is_classes)
        return [style.save(chosen.draw(found, facts), directory / "predictions.png")]

    def animated() -> list[Path]:
        snapshots = run.snapshots()
        if snapshots is None:
            return []
        from seqrnn.plots import animation

        axes = arrays.CLASS_FRAMES if is_classes else arrays.SEQUENCE_FRAMES
        frames = arrays.checked(snapshots, axes, directory / SNAPSHOTS, is_classes)
        return [animation.save(frames, facts, directory / "animation.gif")]

    def samples() -> list[Path]:
        return draw_samples(directory) if run.has(SAMPLES) else []

    paths: list[Path] = []
    problems: list[str] = []
    pictures: list[Callable[[], list[Path]]] = [losses, forecasts, predictions, animated, samples]
    pictures += [partial(other, directory) for other in others]
    with style.defaults():
        for draw_one in pictures:
            try:
                drawn = draw_one()
            except survive as error:  # a damaged file keeps only its own picture from being drawn
                problems += error.problems if isinstance(error, DataError) else [_described(directory, error)]
            else:
                for path in drawn:
                    announce(path)
                paths += drawn
    if problems:
        raise DataError(*problems)
    return paths


def _described(directory: Path, error: Exception) -> str:
    if isinstance(error, OSError):
        where = error.filename2 or error.filename or directory
        return f"{where}: {error.strerror or error}; may it be written, and is there room?"
    return (
        f"{directory}: what it holds does not fit together: {type(error).__name__}: {error}; "
        "HYDRA_FULL_ERROR=1 shows where"
    )


def draw_samples(directory: Path) -> list[Path]:
    """Draws ``samples.png`` (``seqrnn.plots.draw_samples``)."""
    from seqrnn.plots import samples

    run = RunReader(directory)
    try:
        summary = run.summary()
    except DataError:  # samples are drawn before there is a summary
        summary = {}
    found = arrays.checked(run.samples(), arrays.SAMPLES, directory / SAMPLES)
    names = run.document(PREPROCESSING, Preprocessing).input_names if run.has(PREPROCESSING) else []
    with style.defaults():
        return [style.save(samples.draw(found, Facts(run.config(), summary), names), directory / "samples.png")]
