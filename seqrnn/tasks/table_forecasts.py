"""The forecasts of task=csv in the units of its table, and the baselines that they are compared with."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seqrnn.forecasting import autoregression, naive
from seqrnn.forecasting.autoregression import RidgeAutoregression, Sequences
from seqrnn.forecasting.report import Forecasts, Labels
from seqrnn.rundir.bounded import MOST_NAME_CHARACTERS
from seqrnn.tables.dataset import Dataset
from seqrnn.tables.preprocessing import Preprocessing
from seqrnn.tasks.protocol import Predicted
from seqrnn.tasks.table_batch import TableBatch

Array = NDArray[np.float64]
PIECE = 2**16  # timesteps of training data that are read at a time
MOST_WORK = 3e10  # multiplications of a fit: some seconds
MOST_JUDGED = 2**20  # predicted values of a predictor that a report judges: the latest, for the sake of memory
LEAST_JUDGED = 1000  # timesteps that it judges in any case
MOST_SERIES_NAMED = 1000


def in_units(predictions: Predicted) -> tuple[Array, Array]:
    """Returns forecasts and actual values, (T, N, steps ahead, targets) each; actual values are NaN where a value is
    missing or does not count."""
    origins, actual = (
        np.concatenate([getattr(batch, name) for batch in predictions.batches], axis=1)
        for name in ("origins", "actual")
    )
    forecast = _preprocessing(predictions).to_units(predictions.outputs, origins)
    actual[~predictions.valid] = np.nan
    return forecast, actual


def _preprocessing(predictions: Predicted) -> Preprocessing:
    """Returns the preprocessing of what predictions are judged by."""
    found: Preprocessing = predictions.batches[0].data.preprocessing
    return found


def forecasts_of(made: Mapping[str, Predicted]) -> Forecasts:
    """Returns the forecasts of several predictors for the same data, from the first timestep that counts; of very
    long data, the latest of them."""
    first = next(iter(made.values()))
    timesteps, series = first.valid.shape
    preprocessing = _preprocessing(first)
    each = series * preprocessing.steps_ahead * len(preprocessing.targets)
    begin = max(int(first.valid.any(axis=1).argmax()), timesteps - max(LEAST_JUDGED, MOST_JUDGED // each))
    times = np.concatenate([batch.times for batch in first.batches], axis=1)
    actual = in_units(first)[1][begin:].copy()  # no view, which would keep the whole
    found = {}
    for name, one in made.items():
        values = in_units(one)[0][begin:].copy()
        values[~first.valid[begin:]] = np.nan
        found[name] = values
    series = tuple(str(key) for batch in first.batches for key in batch.keys)
    share_time = all(batch.share_time for batch in first.batches)
    return Forecasts(times[begin:], actual, found, series, share_time)


def labels_of(data: Dataset, made: Predicted, units: Array) -> Labels:
    """Returns what the forecasts of a table are called.

    Args:
        made: of any predictor.
        units: (targets,), see ``Labels``.
    """
    preprocessing = data.preprocessing
    keys = [str(key) for batch in made.batches for key in batch.keys]
    return Labels(
        tuple(name[:MOST_NAME_CHARACTERS] for name in preprocessing.targets),
        tuple(key[:MOST_NAME_CHARACTERS] for key in keys[:MOST_SERIES_NAMED]) if len(keys) > 1 else (),
        lead=int(preprocessing.is_forecast),
        period=data.season if data.season > 1 else None,
        units=tuple(float(unit) for unit in units),
    )


def fit_linear(batch: TableBatch) -> RidgeAutoregression | None:
    """Fits the linear model to the training data, of very long data to pieces that are spread evenly over it.

    Args:
        batch: the training data in one stream.

    Returns:
        None where there is too little of it.
    """
    size = batch.data.preprocessing.input_size
    lags = autoregression.default_lags(size, batch.timesteps)
    pieces = -(-batch.timesteps // PIECE)
    fits = batch.data.preprocessing.output_size if batch.data.misses_targets else 1
    affordable = max(1, int(MOST_WORK / (lags * size) ** 2 / PIECE / fits))
    chosen = np.unique(np.linspace(0, pieces - 1, min(pieces, affordable)).round().astype(int))
    return autoregression.fit(_pieces(batch, chosen), lags, batch.data.misses_targets)


def _pieces(batch: TableBatch, chosen: NDArray[np.int64]) -> Iterator[Sequences]:
    for number in chosen:
        chunk = batch.read(number * PIECE, min((number + 1) * PIECE, batch.timesteps))
        yield Sequences(chunk.inputs.numpy(), chunk.targets.numpy(), chunk.valid.numpy(), chunk.starts.numpy())


def naive_outputs(inputs: NDArray[Any], preprocessing: Preprocessing, period: int | None) -> Array:
    """Returns what the naive forecast would be as the output of a network, (T, B, O).

    Args:
        inputs: of a forecast, (T, B, I); the first of them are the targets.
        period: timesteps of the season that is repeated; None: the present value is.
    """
    features = preprocessing.here
    columns = np.cumsum([0, *(feature.width for feature in features)])[: len(preprocessing.targets)]
    scale, mean = (np.array([getattr(one, name) for one in features[: len(columns)]]) for name in ("scale", "mean"))
    levels = inputs[..., columns].astype(np.float64) * scale + mean
    if preprocessing.difference:
        levels = levels.cumsum(axis=0)  # but for a constant, which changes do not depend on
    steps = preprocessing.steps_ahead
    made = naive.persistence(levels, steps) if period is None else naive.seasonal_naive(levels, steps, period)
    if preprocessing.difference:
        made -= levels[:, :, None]
    made = (made - np.array(preprocessing.output_mean)) / np.array(preprocessing.output_scale)
    flat: Array = made.reshape(*inputs.shape[:2], -1)
    return flat
