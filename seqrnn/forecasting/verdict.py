"""Whether a network is better than the best baseline, as far as the data can tell."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from seqrnn.forecasting import bootstrap, metrics
from seqrnn.forecasting.groups import group

Array = NDArray[np.float64]
Outcome = Literal["better", "worse", "unclear"]
LINEAR = "ridge autoregression"
CONFIDENCE = 0.95
MOST_TIMESTEPS = 2**18  # more would narrow the interval by little, and take much memory


def outcome(difference: float, low: float, high: float, is_higher_better: bool = False) -> Outcome:
    """Returns which is better by the score of a network minus that of a baseline, and the interval of the difference.

    ``unclear`` where the interval contains 0 or is not known. A network whose difference is not finite is worse.
    """
    if not np.isfinite(difference):
        return "worse"
    if np.isnan(low) or np.isnan(high) or low <= 0 <= high:
        return "unclear"
    return "better" if (low > 0) == is_higher_better else "worse"


def verdict(
    times: NDArray[Any],
    actual: Array,
    made: Mapping[str, Array],
    network: str,
    units: Array | float = 1.0,
    *,
    share_time: bool = True,
) -> str | None:
    """Returns a sentence with both errors where the network is worse than the best baseline, or where the data cannot
    tell; None where it is better.

    Args:
        times: (T, N), of each origin; errors of the same time depend on each other, of whichever series they are.
        actual: (T, N, H, K); NaN where a value is missing or not judged.
        made: forecasts by predictor, (T, N, H, K).
        units: (K,) by which errors are divided before the mean over the targets of which a value is known.
        share_time: whether times of different series can be compared.
    """
    errors = {
        name: metrics.over_targets(metrics.rmse(actual, values, (0, 1, 2)) / units, actual)
        for name, values in made.items()
    }
    baselines = [name for name in made if name != network and np.isfinite(errors[name])]
    if not baselines:
        return None
    best = min(baselines, key=lambda name: errors[name])
    low, high = difference_interval(times, actual, made[network], made[best], units, share_time=share_time)
    found = outcome(errors[network] - errors[best], low, high)
    if found == "better":
        return None
    other, note = ("the linear model", f" ({LINEAR})") if best == LINEAR else (best, "")
    numbers = f"RMSE {errors[network]:.4g} against {errors[best]:.4g}{note}"
    if found == "worse":
        return f"does not beat {other}: {numbers}"
    return f"the test data cannot tell whether it beats {other}: {numbers}"


def difference_interval(
    times: NDArray[Any],
    actual: Array,
    network: Array,
    baseline: Array,
    units: Array | float = 1.0,
    confidence: float = CONFIDENCE,
    *,
    share_time: bool = True,
) -> tuple[float, float]:
    """Returns the interval of the RMSE of a network minus that of a baseline; NaN where it cannot be known.

    Of a longer test, the latest ``MOST_TIMESTEPS`` timesteps decide.
    """
    times, actual, network, baseline = (values[-MOST_TIMESTEPS:] for values in (times, actual, network, baseline))
    judged = ~np.isnan(actual)  # (T, N, H, K)
    rows, sequences = np.nonzero(judged.any(axis=(2, 3)))
    known = judged[rows, sequences]  # (N', H, K)
    squares = [
        np.where(known, ((made - actual)[rows, sequences] / units) ** 2, 0.0).sum(axis=1)
        for made in (network, baseline)
    ]
    counts = known.sum(axis=1).astype(np.float64)  # (N', K)
    losses = squares[0].sum(axis=1) / counts.sum(axis=1)
    groups = group(times[rows, sequences], sequences, losses, actual.shape[2], share_time=share_time)
    drawn, has_values = [], counts.any(axis=0)  # (K,)
    for mine, other, number in groups.drawn_sums(np.stack([*squares, counts], axis=1)):  # (K,) each
        with np.errstate(invalid="ignore", divide="ignore"):
            differences = np.sqrt(mine / number) - np.sqrt(other / number)
        drawn.append(float(differences[has_values].mean()))
    values = np.array(drawn)
    if not len(values) or not np.isfinite(values).all():
        return np.nan, np.nan
    low, high = bootstrap.interval(values, confidence)
    return float(low), float(high)
