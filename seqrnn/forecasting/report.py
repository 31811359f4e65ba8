"""How good forecasts are: scores in the units of the data beside those of baselines, intervals and what they cover,
errors by step of the horizon, and residuals. T timesteps, N series, H steps, K targets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seqrnn.forecasting import conformal, metrics
from seqrnn.forecasting.intervals import Interval, Intervals, as_lists
from seqrnn.forecasting.residuals import MOST_CORRELATED, autocorrelation, ljung_box, white_noise_band
from seqrnn.forecasting.verdict import verdict

Array = NDArray[np.float64]
CONFIDENCES = (0.5, 0.8, 0.9, 0.95)
SHOWN = 0.9  # the confidence that summaries and pictures show
LEAST_COVERED = 20  # values of a series, without which its coverage is too uncertain
USUAL_COVERAGE = (0.85, 0.95)  # of intervals of 90 %; beyond, a run says so
LEAST_CORRECTIONS = 100  # of the intervals of a series that shares no time with others
MOST_LAGS = 50  # of the autocorrelation
MOST_STORED = 2**22  # numbers in each array of forecast.npz
ALL = (0, 1, 2)  # axes: timesteps, series and steps, but not targets


@dataclass(frozen=True)
class Forecasts:
    """Forecasts of several predictors for the same data.

    Args:
        times: (T, N), of each origin: datetime64[ns], or the numbers of rows.
        actual: (T, N, H, K), what came at the steps after each origin; NaN where it is missing or not judged.
        made: by predictor, (T, N, H, K). The network is the first.
        series: what tells the N series apart; empty: they are those of the other data in the same order, if they are
            as many.
        share_time: whether times of different series can be compared, which numbers of rows cannot.
    """

    times: NDArray[Any]
    actual: Array
    made: Mapping[str, Array]
    series: tuple[str, ...] = ()
    share_time: bool = True


@dataclass(frozen=True)
class Labels:
    """What a forecast is called.

    Args:
        targets: names of the K targets, each of at most ``bounded.MOST_NAME_CHARACTERS`` characters.
        series: names of the N series; empty for a single one without a name.
        lead: timesteps from an origin to its first step: 1 for a forecast, 0 for a regression.
        period: timesteps of the season that the seasonal baseline repeats, or None.
        units: of each target, by which errors are divided before their mean over targets is taken, such as standard
            deviations; empty: 1.
    """

    targets: tuple[str, ...]
    series: tuple[str, ...] = ()
    lead: int = 1
    period: int | None = None
    units: tuple[float, ...] = ()


@dataclass(frozen=True)
class Report:
    """
    Args:
        scores: by predictor and metric, what needs the distribution of errors: ``crps`` and ``coverage_90``.
        summary: ``forecast`` in summary.json.
        intervals: intervals.json.
        arrays: forecast.npz.
        verdict: a sentence, where the network does not beat the best baseline, or the data cannot tell.
    """

    scores: dict[str, dict[str, float]]
    summary: dict[str, Any]
    intervals: Intervals
    arrays: dict[str, NDArray[Any]]
    verdict: str | None

    @property
    def coverage_line(self) -> str:
        """A line about what the intervals cover."""
        covered = [one for one in self.intervals.intervals if one.coverage is not None]
        if not covered:
            return "no prediction intervals: there is too little validation data"
        wanted = ", ".join(f"{100 * one.confidence:g}" for one in covered)
        found = ", ".join(f"{100 * one.coverage:.1f}" for one in covered if one.coverage is not None)
        return f"intervals of {wanted} % cover {found} % of the test data"

    @property
    def coverage_notes(self) -> list[str]:
        """Lines about intervals of 90 % that cover much less or more than that, of all series or of one."""
        one = self.intervals.with_confidence(SHOWN)
        if one is None or one.coverage is None:
            return []
        notes, (low, high) = [], USUAL_COVERAGE
        if not low <= one.coverage <= high:
            notes.append(
                f"note: intervals of 90 % cover {100 * one.coverage:.1f} % of the test data: they are too "
                f"{'narrow' if one.coverage < low else 'wide'}, as the test data differ from the validation data"
            )
        if one.worst_coverage is not None and one.worst_coverage < low:
            reason = (
                "its test data differ from its validation data"
                if self.intervals.scales
                else "all series have intervals of the same width"
            )
            notes.append(
                f"note: intervals of 90 % cover only {100 * one.worst_coverage:.1f} % of the series "
                f"{one.worst_series}: {reason}"
            )
        return notes


def point_scores(actual: Array, forecast: Array, scale: Array) -> dict[str, float]:
    """Returns mae, rmse, smape and mase, each the mean over the targets of which a value is known.

    Args:
        actual, forecast: (T, N, H, K).
        scale: (N, K) or (K,), of ``metrics.naive_scale`` on the training data.
    """
    scale = np.broadcast_to(scale, (actual.shape[1], actual.shape[-1]))[None, :, None]
    mase = metrics.mase(actual, forecast, scale, ALL)
    return {
        "mae": metrics.over_targets(metrics.mae(actual, forecast, ALL), actual),
        "rmse": metrics.over_targets(metrics.rmse(actual, forecast, ALL), actual),
        "smape": metrics.over_targets(metrics.smape(actual, forecast, ALL), actual),
        "mase": metrics.over_targets(mase, np.where(scale > 0, actual, np.nan)),  # of targets that vary in training
    }


def make_report(validation: Forecasts, test: Forecasts, labels: Labels) -> Report:
    """Judges forecasts of test data, with intervals that are calibrated on forecasts of validation data.

    Args:
        validation: of the same predictors and targets, before the test data; its series may be others.
    """
    network = next(iter(test.made))
    horizon, targets = test.actual.shape[2:]
    calibration, own = (one.actual - one.made[network] for one in (validation, test))
    unscaled = _pooled(calibration)
    scales = np.ones((own.shape[1], targets))
    same = _same_series(validation, test)
    has_scales = same is not None and own.shape[1] > 1 and bool(labels.series)
    times = validation.times
    if same is not None:
        times = times[:, same]
        calibration = np.where((same >= 0)[:, None, None], np.take(calibration, same, axis=1), np.nan)
    if has_scales:
        scales = conformal.scales(calibration)
        calibration, own = calibration / scales[:, None], own / scales[:, None]
    calibration = _in_order_of_time(calibration, times)
    intervals = []
    for confidence in CONFIDENCES:  # the ends of one confidence at a time: there may be millions
        ends = _adapted(calibration, own, test, confidence)
        split = conformal.split(unscaled, confidence)
        covered = _covered(own, ends.lower, ends.upper)
        split_covered = _share(_covered(own * scales[:, None], *split))
        intervals.append(_interval(covered, split_covered, ends.last, split, confidence, labels.series))
        if confidence == SHOWN:
            lower, upper = ends.lower * scales[:, None], ends.upper * scales[:, None]
            within, by_series = covered, _coverage(covered, (0, 2))
            after = (ends.last[1] - ends.last[0]) * scales.mean(axis=0)
        del ends, covered
    scores, by_step = {}, {}
    units = np.array(labels.units or (1.0,) * targets)
    for name, made in test.made.items():
        pooled = _pooled(validation.actual - validation.made[name])
        covered = within if name == network else _covered(test.actual - made, *conformal.split(pooled, SHOWN))
        crps = metrics.judged(metrics.crps(test.actual, made, pooled), test.actual, ALL) / units  # (K,)
        scores[name] = {
            "crps": metrics.over_targets(crps, test.actual),
            "coverage_90": float(_coverage(covered)),
        }
        axes = (0, 1)
        by_step[name] = {
            "mae": _over_targets(metrics.mae(test.actual, made, axes) / units),
            "rmse": _over_targets(metrics.rmse(test.actual, made, axes) / units),
            "coverage_90": _coverage(covered, axes).tolist(),
        }
    widths = np.concatenate([_pooled(upper - lower), after[None]])
    first = (own * scales[:, None])[:, :, 0]  # (T, N, K): one step ahead
    summary = {
        "horizon": horizon,
        "lead": labels.lead,
        "targets": list(labels.targets),
        "series": list(labels.series),
        "is_dated": np.issubdtype(test.times.dtype, np.datetime64),
        "period": labels.period,
        "origins": int((~np.isnan(test.actual)).any(axis=(2, 3)).sum()),
        "width_90": float(metrics.mean(metrics.mean(widths / units, (0, 1)))),
        "coverage_by_series": [float(share) for share in by_series[: len(labels.series)]],
        "intervals": [
            {
                "confidence": one.confidence,
                "coverage": one.coverage,
                "worst_series": one.worst_series,
                "worst_coverage": one.worst_coverage,
                "split_coverage": one.split_coverage,
            }
            for one in intervals
        ],
        "by_step": by_step,
        "by_target": _by_target(test, labels) if targets > 1 else {},
        "residuals": [
            {"target": name, **_residuals(first[..., number])} for number, name in enumerate(labels.targets)
        ],
    }
    return Report(
        scores,
        summary,
        Intervals(
            horizon=horizon,
            targets=list(labels.targets),
            calibration=int((~np.isnan(unscaled)).sum(axis=0).max(initial=0)),
            scales={
                name: [float(scale) for scale in each]
                for name, each in zip(labels.series, scales, strict=False)
                if has_scales
            },
            intervals=intervals,
        ),
        _arrays(test, network, lower, upper),
        verdict(test.times, test.actual, test.made, network, units, share_time=test.share_time),
    )


def _adapted(calibration: Array, residuals: Array, test: Forecasts, confidence: float) -> conformal.Adapted:
    """Returns the adaptive intervals of the test data. Series that share no time know nothing of each other: the
    intervals of each follow its own values, and only those after all forecasts have followed the values of all."""
    together = conformal.adaptive(calibration, residuals, test.times, confidence)
    series = test.times.shape[1]
    if test.share_time or series == 1:
        return together
    most = max(LEAST_CORRECTIONS, conformal.MOST_CORRECTIONS // series)
    alone = [
        conformal.adaptive(calibration, residuals[:, [n]], test.times[:, [n]], confidence, most=most)
        for n in range(series)
    ]
    lower, upper = (np.concatenate([getattr(one, side) for one in alone], axis=1) for side in ("lower", "upper"))
    return conformal.Adapted(lower, upper, together.last)


def _interval(
    covered: Array,
    split_coverage: float | None,
    last: tuple[Array, Array],
    split: tuple[Array, Array],
    confidence: float,
    series: Sequence[str],
) -> Interval:
    lower, upper = last
    worst_series, worst_coverage = _worst(covered, series)
    return Interval(
        confidence=confidence,
        coverage=_share(covered),
        worst_series=worst_series,
        worst_coverage=worst_coverage,
        split_coverage=split_coverage,
        lower=as_lists(lower),
        upper=as_lists(upper),
        split_lower=as_lists(split[0]),
        split_upper=as_lists(split[1]),
    )


def _worst(covered: Array, names: Sequence[str]) -> tuple[str | None, float | None]:
    """Returns the series that is covered least, and how much of it is; None where there are not several that have at
    least ``LEAST_COVERED`` values each."""
    shares = _coverage(covered, (0, 2))
    counts = (~np.isnan(covered)).sum(axis=(0, 2, 3))
    if len(shares) < 2 or len(names) != len(shares) or not (counts >= LEAST_COVERED).any():
        return None, None
    worst = int(np.argmin(np.where(counts >= LEAST_COVERED, shares, np.inf)))
    return names[worst], float(shares[worst])


def _same_series(validation: Forecasts, test: Forecasts) -> NDArray[np.int64] | None:
    """Returns the number of each of the test data's series among those of the validation data, -1 for one that is not
    there. None: all of them are others."""
    count = test.times.shape[1]
    if not validation.series or not test.series:
        return np.arange(count) if validation.times.shape[1] == count else None
    places = {name: number for number, name in enumerate(validation.series)}
    found = np.array([places.get(name, -1) for name in test.series])
    return found if (found >= 0).any() else None


def _in_order_of_time(residuals: Array, times: NDArray[Any]) -> Array:
    """Returns residuals (T, N, H, K) as (M, H, K), without timesteps that have no forecast."""
    made = conformal.forecasts_made(residuals, times)
    found: Array = residuals[made][np.argsort(times[made], kind="stable")]
    return found


def _pooled(values: Array) -> Array:
    """Returns (T, N, H, K) as (T · N, H, K)."""
    return values.reshape(-1, *values.shape[2:])


def _covered(residuals: Array, lower: Array, upper: Array) -> Array:
    """Returns 1 where a residual (T, N, H, K) lies within its interval, (T, N, H, K) or (H, K); NaN where either is
    missing."""
    unknown = np.isnan(residuals) | np.isnan(lower) | np.isnan(upper)
    return np.where(unknown, np.nan, (lower <= residuals) & (residuals <= upper))


def _coverage(covered: Array, axes: tuple[int, ...] = ALL) -> Array:
    """Returns the share of values (T, N, H, K) within their intervals over ``axes``, its mean over the targets of
    which a value is known."""
    return metrics.mean(metrics.mean(covered, axes), -1)


def _share(covered: Array) -> float | None:
    share = float(_coverage(covered))
    return share if np.isfinite(share) else None


def _over_targets(values: Array) -> list[float]:
    """Returns the mean over targets of (H, K)."""
    return [float(value) for value in metrics.mean(values, 1)]


def _by_target(test: Forecasts, labels: Labels) -> dict[str, dict[str, dict[str, float]]]:
    """Returns mae and rmse by target and predictor."""
    errors = {
        name: (metrics.mae(test.actual, made, ALL), metrics.rmse(test.actual, made, ALL))
        for name, made in test.made.items()
    }
    return {
        target: {name: {"mae": float(mae[k]), "rmse": float(rmse[k])} for name, (mae, rmse) in errors.items()}
        for k, target in enumerate(labels.targets)
    }


def _residuals(residuals: Array) -> dict[str, Any]:
    """Returns mean, deviation and autocorrelation of residuals (T, N), of which the longest series is taken.

    Of a long series, the autocorrelation is that of its latest ``MOST_CORRELATED`` residuals.
    """
    series = residuals[:, int((~np.isnan(residuals)).sum(axis=0).argmax())]
    known = series[~np.isnan(series)]
    latest = series[-MOST_CORRELATED:]
    count = int((~np.isnan(latest)).sum())
    lags = max(1, min(MOST_LAGS, count // 4))
    correlation = autocorrelation(latest, lags)
    return {
        "count": len(known),
        "mean": float(known.mean()) if len(known) else None,
        "deviation": float(known.std()) if len(known) else None,
        "autocorrelation": [float(value) for value in correlation],
        "band": white_noise_band(count),
        "ljung_box_p": ljung_box(correlation[: min(lags, 10) + 1], count),
    }


def _arrays(test: Forecasts, network: str, lower: Array, upper: Array) -> dict[str, NDArray[Any]]:
    """Returns the last timesteps, and the first series, of times, actual values, forecasts and interval ends.

    Args:
        lower, upper: (T, N, H, K), from the forecasts.
    """
    timesteps, series, horizon, targets = test.actual.shape
    each = horizon * targets
    kept = min(series, max(1, MOST_STORED // (timesteps * each)))
    last = slice(-min(timesteps, max(1, MOST_STORED // (kept * each))), None)
    times = test.times[last, :kept]
    return {
        "times": times.astype("datetime64[ns]").astype(np.int64) if times.dtype.kind == "M" else times,
        "actual": test.actual[last, :kept],
        "forecast": test.made[network][last, :kept],
        "lower": lower[last, :kept],
        "upper": upper[last, :kept],
    }
