"""The report of forecasts, on series whose best forecast is known."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers import values_ahead

from seqrnn.errors import DataError
from seqrnn.forecasting import conformal, metrics, report
from seqrnn.forecasting.intervals import Intervals, as_array
from seqrnn.forecasting.report import Forecasts, Labels, make_report
from seqrnn.forecasting.verdict import LINEAR, difference_interval, outcome, verdict
from seqrnn.rundir.bounded import read_model
from seqrnn.rundir.strict_json import to_json

LABELS = Labels(("load", "price"), period=24)


def forecasts(timesteps: int, seed: int, series: int = 2, horizon: int = 3, noise: float = 1.0) -> Forecasts:
    """Walks (random, standard steps) whose best forecast is persistence; "network" adds noise to it."""
    rng = np.random.default_rng(seed)
    levels = np.cumsum(rng.standard_normal((timesteps, series, 2)), axis=0)
    actual = np.moveaxis(values_ahead(levels, horizon), 1, 2)
    best = np.repeat(levels[:, :, None], horizon, axis=2)
    times = np.datetime64("2020-01-01", "ns") + np.arange(timesteps)[:, None] * np.timedelta64(1, "h")
    return Forecasts(
        np.broadcast_to(times, (timesteps, series)),
        actual,
        {"network": best + noise * rng.standard_normal(best.shape), LINEAR: best},
    )


def test_the_series_that_is_covered_least_is_named() -> None:
    calm, wild = (forecasts(600, seed, series=2, horizon=1) for seed in (0, 1))
    for made in (calm, wild):
        made.made["network"][:, 1] += 4 * (made.actual[:, 1] - made.made["network"][:, 1])  # four times the errors
    calm.made["network"][:, 1] = calm.made["network"][:, 0]  # but not in the validation data
    calm = replace(calm, actual=calm.actual[:, [0, 0]])
    found = make_report(calm, wild, Labels(("load", "price"), ("north", "south")))
    one = found.intervals.with_confidence(0.9)
    assert one is not None
    assert one.worst_series == "south"
    assert one.worst_coverage is not None
    assert one.worst_coverage < 0.85 < (one.coverage or 0)
    assert found.summary["intervals"][2]["worst_series"] == "south"
    assert any("of the series south" in line for line in found.coverage_notes)
    assert any("its test data differ" in line for line in found.coverage_notes)
    alone = make_report(forecasts(600, 0, 1), forecasts(600, 1, 1), LABELS)
    assert alone.intervals.intervals[2].worst_series is None
    assert alone.coverage_notes == []


def test_intervals_that_are_too_narrow_are_noted() -> None:
    found = make_report(forecasts(300, 0, noise=0.1), forecasts(60, 1, noise=9.0), LABELS)
    assert any("they are too narrow" in line for line in found.coverage_notes)


def test_scores_errors_by_step_and_coverage() -> None:
    found = make_report(forecasts(600, 0), forecasts(2000, 1), LABELS)
    by_step = found.summary["by_step"]
    np.testing.assert_allclose(by_step[LINEAR]["rmse"], np.sqrt([1, 2, 3]), rtol=0.1)
    np.testing.assert_allclose(by_step["network"]["rmse"], np.sqrt([2, 3, 4]), rtol=0.1)
    for scores in found.scores.values():
        assert 0.85 < scores["coverage_90"] < 0.95
    assert found.scores[LINEAR]["crps"] < found.scores["network"]["crps"]
    assert [one["confidence"] for one in found.summary["intervals"]] == [0.5, 0.8, 0.9, 0.95]
    for one in found.summary["intervals"]:
        assert one["coverage"] == pytest.approx(one["confidence"], abs=0.02)
    assert found.summary["origins"] == 2 * 1999  # the last timestep has nothing after it
    assert set(found.summary["by_target"]) == {"load", "price"}
    assert json.loads(to_json(found.summary))["residuals"][0]["autocorrelation"][0] == 1


def test_the_residuals_of_a_forecast_that_forgets_a_step_are_correlated() -> None:
    rng = np.random.default_rng(0)
    noise = rng.standard_normal(1001)
    values = (noise[1:] + 0.9 * noise[:-1]).reshape(-1, 1, 1, 1)  # a moving average, predicted by 0
    made = Forecasts(np.arange(1000)[:, None], values, {"network": np.zeros_like(values)})
    (residuals,) = make_report(made, made, Labels(("y",))).summary["residuals"]
    assert residuals["autocorrelation"][1] == pytest.approx(0.9 / 1.81, abs=0.07)
    assert residuals["ljung_box_p"] < 1e-6
    assert residuals["band"] == pytest.approx(1.96 / 1000**0.5)


def test_a_network_that_does_not_beat_the_linear_model_is_reported_with_both_numbers() -> None:
    worse = forecasts(500, 0, noise=1.0)
    assert make_report(worse, worse, LABELS).verdict == verdict(worse.times, worse.actual, worse.made, "network")
    error = {name: metrics.rmse(worse.actual, made, (0, 1, 2)).mean() for name, made in worse.made.items()}
    sentence = verdict(worse.times, worse.actual, worse.made, "network")
    assert sentence is not None
    assert f"RMSE {error['network']:.4g} against {error[LINEAR]:.4g}" in sentence
    assert sentence.startswith("does not beat the linear model: ")
    better = {"network": worse.made[LINEAR], LINEAR: worse.made["network"]}
    assert verdict(worse.times, worse.actual, better, "network") is None
    assert verdict(worse.times, worse.actual, {"network": worse.made["network"]}, "network") is None


def test_values_of_the_same_time_are_drawn_together_wherever_their_series_begin() -> None:
    """Two series whose errors of a day are the same, and of which one begins 30 days later."""
    errors = np.random.default_rng(0).standard_normal((330, 1))
    aligned = np.concatenate([errors, errors], axis=1)
    aligned[300:, 0] = aligned[:30, 1] = np.nan
    rows = np.arange(300)[:, None] + [0, 30]

    def interval(times: np.ndarray, network: np.ndarray) -> tuple[float, float]:
        made = network[:, :, None, None]
        actual = np.where(np.isnan(made), np.nan, 0.0)
        return difference_interval(times, actual, np.nan_to_num(made), np.full(made.shape, 1.0))

    expected = interval(np.tile(np.arange(330)[:, None], 2), aligned)
    assert interval(rows, errors[rows, 0]) == pytest.approx(expected)
    low, high = interval(np.tile(np.arange(300)[:, None], 2), errors[rows, 0])  # as if the days were others
    assert high - low < 0.85 * (expected[1] - expected[0])


def test_the_unit_of_a_target_does_not_matter_for_the_interval() -> None:
    """Errors of the first target last for a while, and those of the second one do not."""
    rng = np.random.default_rng(0)
    lasting = np.convolve(rng.standard_normal(639), np.ones(40), "valid") / 40**0.5
    errors = np.stack([lasting, rng.standard_normal(600)], axis=1)[:, None, None]
    times, actual = np.arange(600)[:, None], np.zeros(errors.shape)

    def interval(units: np.ndarray) -> tuple[float, float]:
        return difference_interval(times, actual, errors * units, np.ones(errors.shape) * units, units)

    expected = interval(np.ones(2))
    for units in ([1.0, 1e6], [1e6, 1.0], [1.0, 1e-6]):
        assert interval(np.array(units)) == pytest.approx(expected)


def test_where_the_interval_of_the_difference_contains_0_the_data_cannot_tell() -> None:
    made = forecasts(500, 0, noise=0.01)
    for number in (1, -1):
        nearly = {"network": made.made["network"], "persistence": made.made[LINEAR], LINEAR: made.made[LINEAR] + 5}
        nearly["network"] = nearly["network"] + number * 0.001 * np.random.default_rng(1).standard_normal(
            made.actual.shape
        )
        sentence = verdict(made.times, made.actual, nearly, "network")
        assert sentence is not None
        assert sentence.startswith("the test data cannot tell whether it beats persistence: RMSE ")
    short = {name: values[:2] for name, values in made.made.items()}
    assert "cannot tell" in str(
        verdict(made.times[:2], made.actual[:2], short, "network")
    )  # too little for an interval
    assert outcome(-1.0, -2.0, -0.5) == outcome(1.0, 0.5, 2.0, is_higher_better=True) == "better"
    assert outcome(1.0, 0.5, 2.0) == outcome(-1.0, -2.0, -0.5, is_higher_better=True) == "worse"
    assert outcome(-1.0, -2.0, 0.5) == outcome(-1.0, np.nan, np.nan) == "unclear"


def test_a_network_whose_outputs_are_not_finite_does_not_beat_the_linear_model() -> None:
    made = forecasts(500, 0)
    lost = {**made.made, "network": np.full_like(made.actual, np.nan)}
    assert "does not beat" in str(verdict(made.times, made.actual, lost, "network"))


def test_validation_and_test_may_have_different_series() -> None:
    found = make_report(forecasts(700, 0, series=3), forecasts(900, 1, series=2), LABELS)
    assert found.scores["network"]["coverage_90"] == pytest.approx(0.9, abs=0.05)
    assert found.intervals.calibration == 3 * 699


def test_too_little_validation_data_makes_no_intervals_at_first_and_says_so() -> None:
    found = make_report(forecasts(6, 0, series=1), forecasts(8, 1, series=1), LABELS)
    widest = found.intervals.with_confidence(0.95)
    assert widest is not None
    assert widest.coverage is None
    assert np.isnan(as_array(widest.lower)).all()
    assert np.isnan(found.scores["network"]["coverage_90"])
    assert np.isfinite(found.scores["network"]["crps"])


def test_intervals_survive_their_file(tmp_path: Path) -> None:
    found = make_report(forecasts(300, 0), forecasts(300, 1), LABELS).intervals
    path = tmp_path / "intervals.json"
    path.write_text(found.model_dump_json())
    assert read_model(path, Intervals) == found
    values = found.model_dump()
    values["intervals"][1]["lower"] = values["intervals"][1]["lower"][:1]
    path.write_text(json.dumps(values))
    with pytest.raises(DataError, match=r"lower of confidence 0\.8 should be 3 lists"):
        read_model(path, Intervals)


def test_the_arrays_are_bounded_and_keep_the_latest(monkeypatch: pytest.MonkeyPatch) -> None:
    test = forecasts(500, 1)
    monkeypatch.setattr(report, "MOST_STORED", 300)
    arrays = make_report(forecasts(300, 0), test, LABELS).arrays
    assert arrays["actual"].shape == (50, 1, 3, 2)
    np.testing.assert_array_equal(arrays["actual"], test.actual[-50:, :1])
    assert arrays["lower"].shape == (50, 1, 3, 2)
    assert arrays["times"].dtype == np.int64


def test_point_scores_average_over_targets_of_different_units() -> None:
    actual = np.zeros((10, 1, 1, 2))
    forecast = np.broadcast_to([1.0, 3.0], actual.shape)
    found = report.point_scores(actual, forecast, np.array([1.0, 2.0]))
    assert (found["mae"], found["rmse"], found["mase"]) == (2, 2, 1.25)
    assert report.point_scores(actual, forecast, np.array([0.0, 2.0]))["mase"] == 1.5  # of a target that varies
    lost = np.where([False, True], np.nan, forecast)
    assert np.isnan(report.point_scores(actual, lost, np.array([1.0, 2.0]))["mase"])


def test_every_score_of_several_targets_is_the_mean_of_those_of_each() -> None:
    """Of which one is often missing, and has larger errors."""
    rng = np.random.default_rng(0)
    data = []
    for timesteps, seed in ((200, 0), (300, 1)):
        made = forecasts(timesteps, seed)
        actual = made.actual.copy()
        actual[..., 1] += 5 * rng.standard_normal(actual.shape[:-1])
        actual[rng.random(actual.shape[:-1]) < 0.7, 1] = np.nan
        data.append(replace(made, actual=actual))

    def report_of(*targets: int) -> report.Report:
        of_targets = [
            replace(
                made,
                actual=made.actual[..., list(targets)],
                made={name: values[..., list(targets)] for name, values in made.made.items()},
            )
            for made in data
        ]
        units = tuple((1.0, 2.0)[number] for number in targets)
        names = tuple(("load", "price")[number] for number in targets)
        return make_report(*of_targets, Labels(names, ("a", "b"), units=units))

    both, *each = report_of(0, 1), report_of(0), report_of(1)
    for name, scores in both.scores.items():
        for metric, score in scores.items():
            assert score == pytest.approx(np.mean([one.scores[name][metric] for one in each])), (name, metric)
        for metric, by_step in both.summary["by_step"][name].items():
            expected = np.mean([one.summary["by_step"][name][metric] for one in each], axis=0)
            np.testing.assert_allclose(by_step, expected, err_msg=metric)
    for key, tolerance in (("coverage_by_series", 1e-9), ("width_90", 1e-3)):  # widths are also of missing values
        expected = np.mean([one.summary[key] for one in each], axis=0)
        np.testing.assert_allclose(both.summary[key], expected, rtol=tolerance)
    for number, one in enumerate(both.summary["intervals"]):
        for key in ("coverage", "split_coverage"):
            assert one[key] == pytest.approx(np.mean([single.summary["intervals"][number][key] for single in each]))


def unequal(timesteps: int, seed: int, order: list[int]) -> Forecasts:
    """Forecasts of five series, of which each has twice the errors of the one before."""
    made = forecasts(timesteps, seed, series=5, horizon=2)
    actual, network = made.actual.copy(), made.made["network"]
    for number in range(5):
        actual[:, number] = network[:, number] + 2.0**number * (actual - network)[:, number]
    chosen = {name: values[:, order] for name, values in made.made.items()}
    return Forecasts(made.times[:, order], actual[:, order], chosen, tuple("abcde"[number] for number in order))


def test_each_series_has_intervals_of_its_own_width() -> None:
    labels = Labels(("load", "price"), ("e", "c", "a"))
    found = make_report(unequal(60, 0, [0, 1, 2, 3, 4]), unequal(400, 1, [4, 2, 0]), labels)
    assert found.summary["coverage_by_series"] == pytest.approx([0.9, 0.9, 0.9], abs=0.04)
    one = found.intervals.with_confidence(0.9)
    assert one is not None
    assert one.split_coverage is not None
    assert one.coverage == pytest.approx(0.9, abs=0.03)
    scales = np.array([found.intervals.scales[name] for name in "eca"])
    np.testing.assert_allclose(scales[:-1] / scales[1:], 4, rtol=0.35)
    reach = found.arrays["upper"][-1] - found.arrays["lower"][-1]  # (N, H, K)
    np.testing.assert_allclose(reach, (as_array(one.upper) - as_array(one.lower)) * scales[:, None], rtol=0.1)
    others = replace(unequal(60, 0, [0, 1, 2]), series=("x", "y", "z"))
    assert make_report(others, unequal(400, 1, [4, 2, 0]), labels).intervals.scales == {}


def test_few_residuals_change_the_scale_of_a_series_by_little() -> None:
    residuals = np.random.default_rng(0).standard_normal((200, 12, 1, 1))
    np.testing.assert_allclose(conformal.scales(residuals), 1, atol=0.05)
    residuals[:, :4] *= 3
    residuals[2:, 4] = np.nan  # two timesteps of one series, none of another
    residuals[:, 5] = np.nan
    scale = conformal.scales(residuals)[:, 0]
    np.testing.assert_allclose(scale[:4].mean() / scale[6:].mean(), 3, rtol=0.1)
    assert scale[6:].max() < scale[5] < scale[:4].min()
    np.testing.assert_array_equal(conformal.scales(np.zeros((50, 2, 1, 1))), 1)
    zeros = conformal.scales(np.stack([np.zeros(50), np.ones(50)], axis=1)[..., None, None])[:, 0]
    assert 0 < zeros[0] < 0.1 < 1 < zeros[1]


def test_scales_are_shrunk_as_a_computation_without_arrays_shrinks_them() -> None:
    rng = np.random.default_rng(0)
    residuals = rng.standard_normal((40, 4, 3, 2)) * np.array([0.3, 1, 1, 4])[:, None, None]
    residuals[rng.random(residuals.shape) < 0.2] = np.nan
    residuals[3:, 1] = np.nan  # a series of three timesteps
    found = conformal.scales(residuals)
    for k in range(2):

        def known(n: int, h: int, k: int = k) -> list[float]:
            return [abs(value) for value in residuals[:, n, h, k] if np.isfinite(value)]

        usual = [np.mean([value for n in range(4) for value in known(n, h)]) for h in range(3)]
        logs = [math.log(np.mean([value / usual[h] for h in range(3) for value in known(n, h)])) for n in range(4)]
        errors = [1 / np.isfinite(residuals[:, n, :, k]).any(axis=1).sum() for n in range(4)]
        centre = sum(logs) / 4
        spread = max(0.0, sum((log - centre) ** 2 - error for log, error in zip(logs, errors, strict=True)) / 4)
        expected = [
            math.exp(centre + spread / (spread + error) * (log - centre))
            for log, error in zip(logs, errors, strict=True)
        ]
        np.testing.assert_allclose(found[:, k], expected, rtol=1e-12)


@pytest.mark.parametrize("share_time", [True, False])
def test_intervals_know_nothing_from_after_their_own_time(share_time: bool) -> None:
    """Without times, a series knows nothing of the others at all."""
    validation, test = (replace(forecasts(60, seed), series=("a", "b"), share_time=share_time) for seed in (0, 1))
    later = test.times + np.timedelta64(0, "h")
    later[:, 1] += np.timedelta64(30, "h")
    test = replace(test, times=later)
    changed = test.actual.copy()
    cut = 45 if share_time else 20
    if share_time:
        changed[later >= later[cut, 0] - np.timedelta64(3, "h")] += (
            100.0  # values of origins 3 steps before are known
        )
    else:
        changed[cut:, 0] += 100.0
    labels = Labels(("load", "price"), ("a", "b"))
    one, other = (make_report(validation, replace(test, actual=values), labels) for values in (test.actual, changed))
    same = later <= later[cut, 0] - np.timedelta64(3, "h") if share_time else np.broadcast_to([False, True], (60, 2))
    for name in ("lower", "upper"):
        np.testing.assert_array_equal(one.arrays[name][same], other.arrays[name][same])
        assert (one.arrays[name][~same] != other.arrays[name][~same]).any()
    assert one.intervals.intervals[2].upper != other.intervals.intervals[2].upper


def test_a_target_of_which_no_value_is_known_is_left_out_of_the_scores() -> None:
    made = forecasts(400, 7)
    actual = made.actual.copy()
    actual[..., 1] = np.nan
    one = {name: values[..., :1] for name, values in made.made.items()}
    scale = np.array([1.0, 2.0])
    both = report.point_scores(actual, made.made["network"], scale)
    assert both == pytest.approx(report.point_scores(actual[..., :1], one["network"], scale[:1]))
    times = made.times
    assert verdict(times, actual, made.made, "network") == verdict(times, actual[..., :1], one, "network")
    assert "does not beat" in str(verdict(times, actual, made.made, "network"))
    lost = np.full_like(actual, np.nan)
    assert np.isnan(report.point_scores(made.actual, lost, scale)["rmse"])
