"""intervals.json: how far prediction intervals reach from forecasts of new data, in the units of the targets."""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, Field, model_validator

from seqrnn.rundir.bounded import ByName, Items, Name

Ends = Items[Items[float | None]]  # by step of the horizon and target; None where too few residuals were known


class Interval(BaseModel):
    """The interval of one confidence.

    Args:
        confidence: the share of actual values that should lie within.
        coverage: the share that did, on the test data; None where no interval could be made there.
        worst_series: of several series, the one whose values they hold least often.
        worst_coverage: the share of that series' values that did.
        split_coverage: the same of intervals that stay as they were calibrated on the validation data, and are those
            of all series.
        lower, upper: to be added to a forecast: those of a forecast right behind the last one of the test data, from
            what was known at its time. Where there are ``scales``, they are multiplied by that of the series before.
        split_lower, split_upper: as they were calibrated on the validation data, and for series without a scale.
    """

    confidence: Annotated[float, Field(gt=0, lt=1)]
    coverage: float | None = None
    worst_series: Name | None = None
    worst_coverage: float | None = None
    split_coverage: float | None = None
    lower: Ends
    upper: Ends
    split_lower: Ends
    split_upper: Ends


class Intervals(BaseModel):
    """
    Args:
        method: ``adaptive``: split conformal intervals, whose levels and residuals followed the test data
            (``seqrnn.forecasting.conformal``).
        horizon: steps of a forecast.
        targets: their names.
        calibration: how many residuals of validation data each interval was calibrated on, at most.
        scales: by series, for each target, how large its residuals are as a multiple of those of all series
            (``conformal.scales``); empty: a series is not known by its name, or there is one.
        intervals: by rising confidence.
    """

    method: Literal["adaptive"] = "adaptive"
    horizon: Annotated[int, Field(ge=1)]
    targets: Items[Name]
    calibration: int
    scales: ByName[Items[Annotated[float, Field(gt=0, allow_inf_nan=False)]]] = {}
    intervals: Items[Interval]

    @model_validator(mode="after")
    def _check_shapes(self) -> Intervals:
        if any(len(scale) != len(self.targets) for scale in self.scales.values()):
            raise ValueError(f"scales should be {len(self.targets)} numbers (one for each target) by series")
        for one in self.intervals:
            for name in ("lower", "upper", "split_lower", "split_upper"):
                ends = getattr(one, name)
                if len(ends) != self.horizon or any(len(row) != len(self.targets) for row in ends):
                    raise ValueError(
                        f"{name} of confidence {one.confidence} should be {self.horizon} lists (one for each step of "
                        f"the horizon) of {len(self.targets)} numbers (one for each target)"
                    )
        return self

    def with_confidence(self, confidence: float) -> Interval | None:
        """Returns the interval of a confidence; None if it was not calibrated."""
        return next((one for one in self.intervals if abs(one.confidence - confidence) < 1e-9), None)


def as_array(ends: list[list[float | None]]) -> NDArray[np.float64]:
    """Returns ends of an interval as an array (H, K), with NaN for None."""
    return np.array(ends, np.float64)


def as_lists(ends: NDArray[np.float64]) -> list[list[float | None]]:
    """Returns an array (H, K) as intervals.json holds it, with None for NaN."""
    return [[float(value) if np.isfinite(value) else None for value in row] for row in ends]
