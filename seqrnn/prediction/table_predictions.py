"""Predictions of new tables in their own units. T timesteps, H steps of the horizon, K targets, O outputs."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from seqrnn import evaluation, recursion
from seqrnn.device import DeviceContext
from seqrnn.errors import ConfigError
from seqrnn.models.network import Network
from seqrnn.tables.encoding import Encoded
from seqrnn.tables.preprocessing import Preprocessing
from seqrnn.tables.recursion import RecursiveForecasts
from seqrnn.tables.sequences import Sequence
from seqrnn.tables.times import wall_clock
from seqrnn.tasks.protocol import Chunk, Stored

Array = NDArray[Any]


@dataclass(frozen=True)
class SequencePredictions:
    """Predictions of one sequence.

    Args:
        predicted: (T, H, K) in units of the table: of the steps after each timestep (of a regression: of the timestep
            itself, H = 1); NaN where an input was interpolated, so that it knows the future.
        actual: (T, H, K), what came there; NaN where that is not known.
        origins: (T, K), the last known value at each timestep.
        positions: (T, H), the timesteps of the sequence that are predicted, beyond its end too.
        usable: (T,) see ``seqrnn.tables.encoding.Encoded``: where it is False, a prediction is not judged.
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

    def latest(self, preprocessing: Preprocessing) -> SequencePredictions:
        """Returns the forecasts from the last observed timestep alone: rows at the end that hold nothing but times
        and what is known in advance are the future."""
        present = self.positions[:, 0] - 1
        observed = np.flatnonzero(_observed(preprocessing, self.sequence)[present])
        last = int(observed[-1]) if observed.size else len(present) - 1
        names = ("predicted", "actual", "origins", "positions", "usable")
        return replace(self, **{name: getattr(self, name)[last : last + 1] for name in names})


def _observed(preprocessing: Preprocessing, sequence: Sequence) -> NDArray[np.bool_]:
    """Returns (T,) whether a row has any value of a column that is read at its own timestep, not in advance."""
    columns: list[NDArray[np.bool_]] = []
    for feature in preprocessing.here:
        is_number = feature.kind == "number"
        columns.append(
            ~np.isnan(sequence.numbers[feature.column]) if is_number else sequence.codes[feature.column] >= 0
        )
    found: NDArray[np.bool_] = np.logical_or.reduce(columns)
    return found


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
    return evaluation.predict(network, [_batch(encoded)], context).outputs[:, 0]


def _batch(encoded: Encoded) -> Stored:
    """Returns a sequence as a batch of one stream without targets."""
    count = len(encoded)
    inputs = torch.from_numpy(encoded.inputs())[:, None]
    valid = torch.ones(count, 1, dtype=torch.bool)
    starts = torch.from_numpy(encoded.starts)[:, None]
    return Stored(Chunk(inputs, torch.zeros(count, 1, 0), valid, starts))


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
    predicted[encoded.interpolated] = np.nan
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
    """Returns forecasts (T, H, K) that feed each predicted value back as the next input, beyond the end of the
    sequence too."""
    preprocessing, clock = encoded.preprocessing, _clock_beyond(sequence, encoded, horizon)
    found = np.empty((len(encoded), horizon, len(preprocessing.targets)))

    def begin(rows: NDArray[np.int64], _: NDArray[np.int64]) -> RecursiveForecasts:
        def later(distance: int) -> list[Array]:
            inputs: list[Array] = []
            if encoded.ahead.shape[1]:
                inputs.append(encoded.known(distance + 1)[rows])
            if clock is not None:
                inputs.append(preprocessing.phases(clock[kept[rows] + distance]))
            return inputs

        return RecursiveForecasts(preprocessing, encoded.here[rows], encoded.origins[rows], later)

    wanted = np.ones((len(encoded), 1), bool)
    for rows, _, forecasts in recursion.forecast(network, _batch(encoded), wanted, begin, horizon, context):
        found[rows] = forecasts.values
    return found


def _clock_beyond(sequence: Sequence, encoded: Encoded, horizon: int) -> NDArray[np.int64] | None:
    """Returns what a clock shows at the timesteps of a sequence and at so many after its end; None: the run has no
    calendar."""
    if encoded.clock is None:
        return None
    zone = encoded.preprocessing.time.timezone
    times = times_of(encoded.preprocessing, sequence, horizon)
    return wall_clock(times, zone) if zone else times


def times_of(preprocessing: Preprocessing, sequence: Sequence, beyond: int) -> Array:
    """Returns the times of a sequence and of ``beyond`` timesteps after its end: nanoseconds since 1970, or numbers;
    without a column of times, the numbers of the rows in the file."""
    if sequence.times is None:
        own = sequence.numbering  # no row was inserted: there are no times that could be missing
        rows = own + np.arange(len(sequence)) if isinstance(own, int) else own
        return np.append(rows, rows[-1] + 1 + np.arange(beyond))
    later = preprocessing.step.times_at(sequence.times[-1], 1 + np.arange(beyond))
    return np.append(sequence.times, later)
