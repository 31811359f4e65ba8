"""Pictures of forecasts are drawn from a run directory alone, whatever it holds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import imread
from matplotlib.text import Text

from seqrnn import plots
from seqrnn.errors import DataError
from seqrnn.plots import forecasts, style
from seqrnn.plots.facts import Facts
from seqrnn.rundir.formats import Forecast
from seqrnn.rundir.names import FORECAST
from seqrnn.rundir.writer import RunWriter

RNG = np.random.default_rng(0)


def arrays(timesteps: int = 80, series: int = 1, horizon: int = 3, targets: int = 2) -> dict[str, np.ndarray]:
    shape = (timesteps, series, horizon, targets)
    levels = np.cumsum(RNG.standard_normal(shape), axis=0)
    hours = np.datetime64("2024-02-01", "ns") + np.arange(timesteps) * np.timedelta64(1, "h")
    return {
        "times": np.repeat(hours.astype(np.int64)[:, None], series, axis=1),
        "actual": levels,
        "forecast": levels + 0.3 * RNG.standard_normal(shape),
        "lower": np.full(shape, -0.5),
        "upper": np.full(shape, 0.5),
    }


def values(horizon: int = 3, targets: int = 2, **changes: Any) -> dict[str, Any]:
    names = [f"target {number}" for number in range(targets)]
    errors = {name: [0.5] * horizon for name in ("mae", "rmse", "coverage_90")}
    residuals = {"count": 80, "mean": 0.0, "deviation": 1.0, "autocorrelation": [1.0, 0.2, None], "band": 0.2}
    return {
        "horizon": horizon,
        "lead": 1,
        "targets": names,
        "series": [],
        "is_dated": True,
        "period": 24,
        "origins": 80,
        "width_90": 1.0,
        "intervals": [{"confidence": 0.9, "coverage": 0.912, "split_coverage": 0.95}],
        "by_step": {"gru": errors, "persistence": errors},
        "by_target": {},
        "residuals": [{"target": name, "ljung_box_p": 0.0004, **residuals} for name in names],
        **changes,
    }


def make(directory: Path, found: dict[str, np.ndarray], forecast: dict[str, Any]) -> Path:
    config = {"task": {"name": "csv"}, "model": {"name": "gru"}, "seed": 0}
    run = RunWriter(directory, config, [])
    summary = {"status": "finished", "kind": "regression", "loss": "mse", "headline": "rmse", "updates": 3}
    run.write_summary({**summary, "test": {"rmse": 2.5}, "baselines": {}, "forecast": forecast})
    with (directory / FORECAST).open("wb") as file:
        np.savez(file, **found)
    run.close()
    return directory


def words(figure: Figure) -> str:
    return "\n".join(text.get_text() for text in figure.findobj(Text) if text.get_visible())


def facts(forecast: dict[str, Any]) -> tuple[Forecast, Facts]:
    found = Facts({"task": {"name": "csv"}, "model": {"name": "gru"}}, {"kind": "regression", "forecast": forecast})
    assert found.forecast is not None
    return found.forecast, found


def test_forecasts_residuals_and_errors_by_step_are_drawn(tmp_path: Path) -> None:
    paths = plots.draw(make(tmp_path / "run", arrays(), values()))
    assert [path.name for path in paths] == ["predictions.png", "residuals.png", "horizon.png"]
    for path in paths:
        height, width = imread(path).shape[:2]
        assert width == round(style.WIDTH * style.DPI)
        assert 300 < height < 1400


def test_one_step_ahead_has_no_picture_of_steps(tmp_path: Path) -> None:
    run = make(tmp_path / "run", arrays(horizon=1, targets=1), values(horizon=1, targets=1))
    assert [path.name for path in plots.draw(run)] == ["predictions.png", "residuals.png"]


def test_the_caption_says_what_is_shown_and_what_intervals_cover() -> None:
    forecast, about = facts(values(targets=4, series=["north", "south"]))
    text = words(forecasts.draw_forecasts(arrays(series=2, targets=4), forecast, about))
    assert "The first of 2 series (north)." in text
    assert "3 of 4 targets are shown." in text
    assert "Intervals of 90 % cover 91.2 % of the test data." in text
    forecast, about = facts(values(intervals=[]))
    assert "too little validation data" in words(forecasts.draw_forecasts(arrays(), forecast, about))


def test_a_forecast_is_drawn_where_its_values_belong() -> None:
    """One step ahead: the forecast of each origin lies at the time of the value that it predicts."""
    found = arrays(timesteps=40, horizon=1, targets=1)
    found["forecast"] = found["actual"]
    forecast, about = facts(values(horizon=1, targets=1))
    figure = forecasts.draw_forecasts(found, forecast, about)
    above = figure.subfigs[1].axes[0]
    actual, made = above.get_lines()
    np.testing.assert_array_equal(actual.get_xydata(), made.get_xydata())
    hours = (np.asarray(made.get_xdata(), float) - (found["times"][0, 0] / 86_400e9)) * 24
    np.testing.assert_allclose(hours, 1 + np.arange(40), atol=1e-4)


def test_dates_are_the_labels_of_the_axis() -> None:
    forecast, about = facts(values(horizon=1, targets=1))
    figure = forecasts.draw_forecasts(arrays(timesteps=24 * 40, horizon=1, targets=1), forecast, about)
    figure.canvas.draw()
    labels = [label.get_text() for label in figure.subfigs[1].axes[0].get_xticklabels()]
    assert "Mar" in labels
    assert len(labels) <= 10


def test_residuals_that_do_not_fit_are_marked_at_the_edge() -> None:
    found = arrays(timesteps=2000, horizon=1, targets=1)
    found["forecast"] = found["actual"] + RNG.standard_normal(found["actual"].shape)
    found["forecast"][1000] += 500
    forecast, about = facts(values(horizon=1, targets=1))
    ax = forecasts.draw_residuals(found, forecast, about).subfigs[1].axes[0]
    assert ax.get_ylim()[0] > -10
    (beyond,) = [line for line in ax.get_lines() if line.get_marker() == "v"]
    assert 1 <= len(np.asarray(beyond.get_xdata())) <= 4


@pytest.mark.first(2)
@pytest.mark.covering(1)
@pytest.mark.parametrize("dated", [True, False])
@pytest.mark.parametrize("spoilt", ["nan", "infinite", "constant", "times", "far", "one"])
def test_whatever_numbers_there_are_something_is_drawn(tmp_path: Path, spoilt: str, dated: bool) -> None:
    found = arrays(timesteps=1 if spoilt == "one" else 30, targets=1)
    for name in ("actual", "forecast", "lower", "upper"):
        if spoilt in ("nan", "infinite", "constant"):
            found[name][:] = {"nan": np.nan, "infinite": np.inf, "constant": 1.0}[spoilt]
    if spoilt == "times":
        found["times"][:] = -(2**63)
    if spoilt == "far":
        found["times"][:, 0] = np.linspace(-(2.0**62), 2.0**62, 30).astype(np.int64) * (1 if dated else 2)
    assert len(plots.draw(make(tmp_path / "run", found, values(targets=1, is_dated=dated)))) == 3


def test_arrays_that_do_not_fit_together_are_refused(tmp_path: Path) -> None:
    found = arrays()
    found["upper"] = found["upper"][:, :, :1]
    with pytest.raises(DataError, match=r"forecast\.npz: upper is \(80, 1, 1, 2\)"):
        plots.draw(make(tmp_path / "run", found, values()))
    with pytest.raises(DataError, match=r"forecast\.npz: has no lower"):
        plots.draw(make(tmp_path / "other", {k: v for k, v in arrays().items() if k != "lower"}, values()))


def test_a_summary_that_does_not_fit_the_arrays_draws_what_it_names(tmp_path: Path) -> None:
    run = make(tmp_path / "run", arrays(targets=3), values(targets=1))
    assert len(plots.draw(run)) == 3


def test_no_line_is_drawn_across_a_long_gap() -> None:
    times = np.concatenate([np.arange(20.0), 365 + np.arange(20.0)])
    ax = Figure().subplots()
    forecasts._line(ax, times, np.sin(times), style.ORANGE, "actual", 1.0)
    x, y = ax.lines[0].get_data()
    assert np.isnan(x).tolist() == np.isnan(y).tolist() == [n == 20 for n in range(41)]


def test_a_regression_calls_its_line_output_in_both_panels() -> None:
    forecast = Forecast.model_validate(values(1, 1, lead=0))
    figure = forecasts.draw_forecasts(arrays(200, 1, 1, 1), forecast, Facts({}, {}))
    labels = [line.get_label() for ax in figure.findobj(Axes) for line in ax.lines]
    assert labels.count("output") == 2
    assert "forecast" not in labels
