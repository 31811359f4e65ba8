"""Conformal intervals: the finite-sample guarantee, and how they follow data that drifts."""

from __future__ import annotations

import numpy as np
import pytest

from seqrnn.forecasting import conformal

RNG = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def _seeded() -> None:
    """Every test draws the same numbers, whichever ran before."""
    global RNG
    RNG = np.random.default_rng(0)


def coverage(values: np.ndarray, lower: np.ndarray, upper: np.ndarray) -> float:
    """Returns the share of values within their intervals, where there are intervals."""
    known = np.broadcast_to(np.isfinite(lower) & np.isfinite(upper), values.shape)
    return float(((lower <= values) & (values <= upper))[known].mean())


def test_the_ends_are_the_residuals_of_the_ranks_that_guarantee_coverage() -> None:
    residuals = RNG.permutation(np.arange(1.0, 100.0)).reshape(-1, 1, 1)  # 99: ranks (99 + 1) · 0.05 = 5 and 95
    lower, upper = conformal.split(residuals, 0.9)
    assert (lower.item(), upper.item()) == (5, 95)


@pytest.mark.parametrize("confidence", [0.5, 0.8, 0.9, 0.95])
@pytest.mark.parametrize("count", [39, 57, 200])
def test_coverage_of_exchangeable_data_is_at_least_the_confidence(confidence: float, count: int) -> None:
    drawn = RNG.gumbel(size=(4000, count + 1))
    lower, upper = conformal.split(drawn[:, :-1].T[:, :, None], confidence)  # (count, H = 4000, K = 1)
    share = coverage(drawn[:, -1:], lower, upper)
    assert confidence - 0.02 < share < confidence + 2 / (count + 1) + 0.02


def test_too_few_residuals_make_no_interval() -> None:
    assert conformal.least_residuals(0.9) == 19
    for count, known in ((18, False), (19, True)):
        ends = conformal.split(RNG.standard_normal((count, 1, 1)), 0.9)
        assert all(np.isfinite(end).all() == known for end in ends)
    assert np.isnan(conformal.split(np.empty((0, 2, 1)), 0.9)[0]).all()


def test_each_step_and_target_has_its_own_interval_and_missing_residuals_do_not_count() -> None:
    residuals = RNG.standard_normal((500, 3, 2)) * np.array([1, 2, 3])[:, None]
    holes = residuals.copy()
    holes[::2, 1, 0] = np.nan
    lower, upper = conformal.split(holes, 0.9)
    alone = conformal.split(residuals[1::2, 1:2, :1], 0.9)
    assert (lower[1, 0], upper[1, 0]) == (alone[0].item(), alone[1].item())
    assert (np.diff(upper - lower, axis=0)[:, 1] > 0).all()


def test_a_confidence_is_a_share() -> None:
    with pytest.raises(ValueError, match="between 0 and 1"):
        conformal.split(np.zeros((9, 1, 1)), 90)


def adaptive(
    calibration: np.ndarray,
    residuals: np.ndarray,
    confidence: float,
    times: np.ndarray | None = None,
    **others: float,
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the ends of forecasts (T, N, H, K), those of one after all of them behind them. Calibration data is
    (M, N, H, K) here; without times, the forecasts of a row are made at one time."""
    pooled = calibration.reshape(-1, *residuals.shape[2:])
    times = np.broadcast_to(np.arange(len(residuals))[:, None], residuals.shape[:2]) if times is None else times
    found = conformal.adaptive(pooled, residuals, times, confidence, **others)  # type: ignore[arg-type]
    last = [np.broadcast_to(end, (1, *residuals.shape[1:])) for end in found.last]
    return np.concatenate([found.lower, last[0]]), np.concatenate([found.upper, last[1]])


def test_adaptive_intervals_cover_drifting_data_and_split_ones_do_not() -> None:
    growing = np.linspace(1, 6, 4000).reshape(-1, 1, 1, 1)
    residuals = RNG.standard_normal((4000, 1, 2, 1)) * growing
    calibration, test = residuals[:800], residuals[800:]
    fixed = conformal.split(calibration[:, 0], 0.9)
    lower, upper = adaptive(calibration, test, 0.9)
    assert coverage(test, *(np.broadcast_to(end, test.shape) for end in fixed)) < 0.7
    assert 0.87 < coverage(test, lower[:-1], upper[:-1]) < 0.93


def test_adaptive_intervals_know_nothing_from_after_their_origin() -> None:
    calibration, test = RNG.standard_normal((100, 2, 3, 1)), RNG.standard_normal((300, 2, 3, 1))
    changed = test.copy()
    for step in range(3):  # the actual values from timestep 150 on
        changed[149 - step :, :, step] += 50
    before, after = (adaptive(calibration, values, 0.9) for values in (test, changed))
    for one, other in zip(before, after, strict=True):
        np.testing.assert_array_equal(one[:150], other[:150])
        assert (one[150:] != other[150:]).any()


def test_without_drift_adaptive_intervals_are_about_as_wide_as_split_ones() -> None:
    calibration, test = RNG.standard_normal((1000, 1, 1, 1)), RNG.standard_normal((2000, 1, 1, 1))
    low, high = conformal.split(calibration[:, 0], 0.9)
    lower, upper = adaptive(calibration, test, 0.9)
    assert np.mean(upper - lower) == pytest.approx((high - low).item(), rel=0.1)


def test_adaptive_intervals_wait_for_enough_residuals_and_skip_missing_ones() -> None:
    test = RNG.standard_normal((80, 1, 1, 1))
    test[10:20] = np.nan
    lower, _ = adaptive(np.empty((0, 1, 1, 1)), test, 0.9)
    first = int(np.flatnonzero(~np.isnan(lower))[0])
    assert first >= 29
    assert not np.isnan(lower[first:]).any()


def test_very_many_forecasts_share_intervals_that_adapt_as_well() -> None:
    growing = np.linspace(1, 6, 4000).reshape(-1, 1, 1, 1)
    residuals = RNG.standard_normal((4000, 3, 1, 1)) * growing
    lower, upper = adaptive(residuals[:400], residuals[400:], 0.8, most=500)
    assert 0.77 < coverage(residuals[400:], lower[:-1], upper[:-1]) < 0.83
    assert len(np.unique(lower)) <= 500
    changed = residuals[400:].copy()
    changed[2000:] += 50
    np.testing.assert_array_equal(adaptive(residuals[:400], changed, 0.8, most=500)[0][:2000], lower[:2000])


def test_a_horizon_may_be_longer_than_the_test_data() -> None:
    lower, upper = adaptive(RNG.standard_normal((50, 1, 7, 1)), RNG.standard_normal((2, 1, 7, 1)), 0.9)
    assert (lower < upper).all()


def reference(
    calibration: np.ndarray, residuals: np.ndarray, times: np.ndarray, lengths: list[int], confidence: float
) -> dict[tuple[int, ...], tuple[float, float]]:
    """Returns the ends of each forecast (t, n, h), computed one moment after another and without arrays."""
    least, tail = conformal.least_residuals(confidence), (1 - confidence) / 2
    _, series, horizon, _ = residuals.shape
    found: dict[tuple[int, ...], tuple[float, float]] = {}
    for h in range(horizon):
        history, levels = [float(value) for value in calibration[:, h, 0]], [tail, tail]
        known: list[float] = []
        for number, now in enumerate(sorted({times[t, n] for n in range(series) for t in range(lengths[n])})):
            misses = []  # of the values that become known now
            for n in range(series):
                rows = [t for t in range(lengths[n]) if times[t, n] == now]
                for origin in [t - h - 1 for t in rows]:
                    value = residuals[origin, n, h, 0] if origin >= 0 else np.nan
                    history.append(float(value))
                    low, high = found.get((origin, n, h), (np.nan, np.nan))
                    if np.isfinite(value) and np.isfinite(low):
                        misses.append((value < low, value > high))
            for side in range(2):
                if misses:
                    step = conformal.RATE * (tail - np.mean([one[side] for one in misses]))
                    levels[side] = min(max(levels[side] + step, 0.0), 0.5)
            if number % conformal.SORT_EVERY == 0:
                known = sorted(value for value in history[-conformal.MOST_RECENT :] if np.isfinite(value))
            below, above = (max(1, int((len(known) + 1) * level + 1e-9)) for level in levels)
            ends = (known[below - 1], known[-above]) if len(known) >= least else (np.nan, np.nan)
            found |= {(t, n, h): ends for n in range(series) for t in range(lengths[n]) if times[t, n] == now}
    return found


@pytest.mark.parametrize("offset", [0, 40, 300])
def test_several_series_are_corrected_in_the_order_of_time(offset: int) -> None:
    """As a reference computes it. The series begin at different times, and have other numbers of rows."""
    calibration, residuals = RNG.standard_normal((30, 2, 1)), 1.5 * RNG.standard_normal((90, 3, 2, 1))
    residuals[RNG.random(residuals.shape) < 0.05] = np.nan
    lengths, times = [90, 70, 90], np.arange(90)[:, None] + np.array([0, offset, 7])
    residuals[0] = 1.0
    for n, length in enumerate(lengths):  # padded
        residuals[length:, n], times[length:, n] = np.nan, times[length - 1, n]
    found = conformal.adaptive(calibration, residuals, times, 0.8)
    expected = reference(calibration, residuals, times, lengths, 0.8)
    assert len(expected) == 2 * sum(lengths)
    for (t, n, h), ends in expected.items():
        np.testing.assert_array_equal([found.lower[t, n, h, 0], found.upper[t, n, h, 0]], ends)
    assert np.isnan(found.lower[70:, 1]).all()
    assert len({ends for place, ends in expected.items() if place[2] == 0}) > 10


def test_what_one_series_does_later_moves_no_earlier_interval_of_another() -> None:
    calibration, residuals = RNG.standard_normal((100, 1, 1)), RNG.standard_normal((200, 2, 1, 1))
    times = np.arange(200)[:, None] + np.array([0, 150])  # row n of the second series is 150 later than the first's
    changed = residuals.copy()
    changed[times >= 249] += 50
    one, other = (conformal.adaptive(calibration, values, times, 0.9) for values in (residuals, changed))
    for side in ("lower", "upper"):
        before, after = getattr(one, side), getattr(other, side)
        np.testing.assert_array_equal(before[times <= 249], after[times <= 249])
        assert (before[times > 250] != after[times > 250]).any()
