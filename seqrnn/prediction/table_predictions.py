"""Predictions of new tables in their own units. T timesteps, H steps of the horizon, K targets, O outputs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from seqrnn import evaluation
from seqrnn.device import DeviceContext
from seqrnn.errors import ConfigError
from seqrnn.models.network import Network
from seqrnn.models.protocol import State
from seqrnn.tables.preprocessing import Encoded, Feature, Preprocessing
from seqrnn.tables.sequences import Sequence
from seqrnn.tables.times import wall_clock
from seqrnn.tasks.protocol import Chunk, Stored

ORIGINS_AT_ONCE = 1024
Array = NDArray[Any]


@dataclass(frozen=True)
class SequencePredictions:
    """Predictions of one sequence.

    Args:
        predicted: (T, H, K) in units of the table: of the steps after each timestep (of a regression: of the timestep
            itself, H = 1).
        actual: (T, H, K), what came there; NaN where that is not known.
        origins: (T, K), the last known value at each timestep.
        positions: (T, H), the timesteps of the sequence that are predicted, beyond its end too.
        usable: (T,) False where an input was interpolated, which knows the future: such a prediction is not judged.
    """

    sequence: Sequence
    predicted: NDArray[np.float64]
    actual: NDArray[np.float64]
    origins: NDArray[np.float64]
    positions: NDArray[np.int64]
    usable: NDArray[np.bool_]

    @property
    def judged(self) -> NDArray[np.float64]:
        """(T, H, K): the actual values that predictions are judged by; NaN where one is not."""
        return np.where(self.usable[:, None, None], self.actual, np.nan)

    @property
    def latest(self) -> SequencePredictions:
        """The predictions from the last timestep alone."""
        names = ("predicted", "actual", "origins", "positions", "usable")
        return replace(self, **{name: getattr(self, name)[-1:] for name in names})


def check_horizon(preprocessing: Preprocessing, horizon: int | None) -> int:
    """Returns how many steps are predicted.

    Args:
        horizon: as the user asks for; None: as many as the run was trained for.

    Raises:
        ConfigError: the run cannot predict so many.
    """
    if horizon is None:
        return preprocessing.horizon
    if not preprocessing.is_forecast:
        raise ConfigError(f"--horizon {horizon}: a {preprocessing.kind} has none; leave it out")
    if horizon > preprocessing.horizon and preprocessing.mode == "direct":
        raise ConfigError(
            f"--horizon {horizon}: the run was trained to predict {preprocessing.horizon} steps directly; ask for at "
            f"most {preprocessing.horizon}, or train with task.horizon={horizon} or task.mode=recursive"
        )
    return horizon


def outputs_of(network: Network, encoded: Encoded, context: DeviceContext) -> Array:
    """Returns the outputs (T, O) of a network for a whole sequence."""
    count = len(encoded)
    inputs = torch.from_numpy(encoded.inputs())[:, None]
    valid = torch.ones(count, 1, dtype=torch.bool)
    starts = torch.from_numpy(encoded.starts)[:, None]
    chunk = Chunk(inputs, torch.zeros(count, 1, 0), valid, starts)
    return evaluation.predict(network, [Stored(chunk)], context).outputs[:, 0]


def predict_sequence(
    network: Network, sequence: Sequence, encoded: Encoded, horizon: int, context: DeviceContext
) -> SequencePredictions:
    """Returns the predictions of a forecast or a regression at each timestep of a sequence."""
    preprocessing = encoded.preprocessing
    kept = np.arange(len(sequence)) if encoded.kept is None else encoded.kept
    lead = 1 if preprocessing.is_forecast else 0
    positions = kept[:, None] + lead + np.arange(horizon)
    origins = encoded.origins
    if preprocessing.is_forecast and preprocessing.mode == "recursive" and horizon > 1:
        predicted = _recursive(network, sequence, encoded, kept, horizon, context)
    else:
        outputs = outputs_of(network, encoded, context)
        predicted = preprocessing.to_units(outputs[:, None], origins[:, None])[:, 0, :horizon]
    actual = _actual(preprocessing, sequence, positions)
    return SequencePredictions(sequence, predicted, actual, origins, positions, encoded.usable)


def _actual(preprocessing: Preprocessing, sequence: Sequence, positions: NDArray[np.int64]) -> NDArray[np.float64]:
    """Returns the values (T, H, K) at timesteps of a sequence; NaN beyond its end, and without such a column."""
    columns = []
    for name in preprocessing.targets:
        values = sequence.numbers.get(name, np.full(len(sequence), np.nan))
        columns.append(np.append(values, np.nan)[np.minimum(positions, len(sequence))])
    return np.stack(columns, axis=-1)


def _recursive(
    network: Network,
    sequence: Sequence,
    encoded: Encoded,
    kept: NDArray[np.int64],
    horizon: int,
    context: DeviceContext,
) -> NDArray[np.float64]:
    """Returns forecasts (T, H, K) that feed each predicted value back as the next input.

    Other columns stay as they were last known; those that are known in advance, and the calendar, are read where they
    are there.
    """
    preprocessing = encoded.preprocessing
    future = _Future(sequence, encoded, kept, horizon)
    found = np.empty((len(encoded), horizon, len(preprocessing.targets)))
    for rows, outputs, state in _states(network, encoded, context):
        here, levels = encoded.here[rows].copy(), encoded.origins[rows]
        for step in range(horizon):
            if step:
                inputs = torch.from_numpy(future.inputs(here, rows, step))[None]
                with torch.inference_mode(), context.precision():
                    made, state = network(inputs.to(context.device, context.dtype), state)
                outputs = made[0].cpu().numpy()
            values = preprocessing.to_units(outputs[None], levels[None])[0, :, 0]
            found[rows, step] = values
            _feed_back(preprocessing, here, values, levels)
            levels = values
    return found


def _states(
    network: Network, encoded: Encoded, context: DeviceContext
) -> Iterator[tuple[NDArray[np.int64], Array, State]]:
    """Yields groups of timesteps with the outputs (B, O) at each, and the state after each as that of a stream."""
    inputs = torch.from_numpy(encoded.inputs())[:, None, None].to(context.device, context.dtype)  # (T, 1, 1, I)
    initial = network.initial_state(1)
    state = initial
    for begin in range(0, len(encoded), ORIGINS_AT_ONCE):
        rows = np.arange(begin, min(begin + ORIGINS_AT_ONCE, len(encoded)))
        outputs, states = [], []
        with torch.inference_mode(), context.precision():
            for row in rows:
                made, state = network(inputs[row], initial if encoded.starts[row] else state)
                outputs.append(made[0])
                states.append(state)
            together = tuple(torch.cat(parts, dim=1) for parts in zip(*states, strict=True))
        yield rows, torch.cat(outputs).cpu().numpy(), together


def _feed_back(
    preprocessing: Preprocessing, here: Array, values: NDArray[np.float64], before: NDArray[np.float64]
) -> None:
    """Writes predicted values (B, K) over the inputs that hold the targets.

    Args:
        before: (B, K), the values a timestep before.
    """
    for begin, feature in _targets(preprocessing):
        number = preprocessing.targets.index(feature.column)
        now, was = values[:, number], before[:, number]
        if preprocessing.log:
            now, was = np.log(now), np.log(was)
        here[:, begin] = ((now - was if preprocessing.difference else now) - feature.mean) / feature.scale
        if feature.masked:
            here[:, begin + feature.width - 1] = 0.0


def _targets(preprocessing: Preprocessing) -> Iterator[tuple[int, Feature]]:
    begin = 0
    for feature in preprocessing.here:
        if feature.role == "target":
            yield begin, feature
        begin += feature.width


class _Future:
    """What is read at the timesteps that a forecast has reached, beyond the end of the sequence too."""

    def __init__(self, sequence: Sequence, encoded: Encoded, kept: NDArray[np.int64], horizon: int) -> None:
        self.encoded, self.kept = encoded, kept
        self.clock: NDArray[np.int64] | None = None
        if encoded.clock is not None:
            zone = encoded.preprocessing.time.timezone
            times = times_of(encoded.preprocessing, sequence, horizon)
            self.clock = wall_clock(times, zone) if zone else times

    def inputs(self, here: Array, rows: NDArray[np.int64], step: int) -> Array:
        """Returns the inputs (B, I) of the timesteps ``step`` after ``rows``.

        Args:
            here: (B, ·), what is read at the present.
        """
        preprocessing, ahead = self.encoded.preprocessing, self.encoded.ahead
        parts = [here]
        if ahead.shape[1]:
            parts.append(ahead[np.minimum(rows + step + 1, len(ahead) - 1)])
        if self.clock is not None:
            parts.append(preprocessing.phases(self.clock[self.kept[rows] + step]))
        return np.concatenate(parts, axis=-1).astype(np.float32)


def times_of(preprocessing: Preprocessing, sequence: Sequence, beyond: int) -> Array:
    """Returns the times of a sequence and of ``beyond`` timesteps after its end: nanoseconds since 1970, or numbers;
    without a column of times, the numbers of the rows in the file."""
    if sequence.times is None:
        own = sequence.numbering  # no row was inserted: there are no times that could be missing
        rows = own + np.arange(len(sequence)) if isinstance(own, int) else own
        return np.append(rows, rows[-1] + 1 + np.arange(beyond))
    later = preprocessing.step.times_at(sequence.times[-1], 1 + np.arange(beyond))
    return np.append(sequence.times, later)
