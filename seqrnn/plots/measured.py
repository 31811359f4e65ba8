"""What a diagnosis.json looks like, held against the file before anything is drawn from it.

Named here is what is drawn; whatever else the file holds is left alone.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from seqrnn.errors import DataError
from seqrnn.plots.style import Array
from seqrnn.rundir import kinds
from seqrnn.rundir.kinds import Kind, Many, Maybe, Text

VERSION = 1  # of the format
LARGEST = 1e100  # that can be drawn
NUMBER: Kind = (float, type(None))
INTERVAL: Kind = {"value": NUMBER, "low": NUMBER, "high": NUMBER}
TRIED: Kind = {"remedy": str, "effect": INTERVAL}
FINDING: Kind = {"name": str, "title": Text(), "says": Text()}
VERDICT: Kind = {
    "headline": Text(),
    "solved": bool,
    "causes": Many({"finding": FINDING, "tried": Many(TRIED)}),
    "notes": Many(FINDING),
    "others": Many(TRIED),
    "advice": Maybe(TRIED),
    "command": Maybe(Text()),
    "trials": Text(),
}
UNITS: Kind = {
    "name": str,
    "units": int,
    "saturated": Maybe(INTERVAL),
    "always_saturated": Maybe(INTERVAL),
    "dead": INTERVAL,
    "duplicate": INTERVAL,
    "effective_rank": INTERVAL,
}
JACOBIAN: Kind = {
    "spectral_radius": INTERVAL,
    "largest_singular_value": INTERVAL,
    "share_above_one": INTERVAL,
    "eigenvalues": Many(Many(Many(NUMBER))),
}
INSTRUMENTS: dict[str, Kind] = {
    "baselines": {
        "loss": INTERVAL,
        "best": (str, type(None)),
        "ratio": Maybe(INTERVAL),
        "baselines": Many({"name": str, "loss": INTERVAL}),
    },
    "reach": {
        "curve": Many(NUMBER),
        "lags": Many(int),
        "at_lags": Many(INTERVAL),
        "half_life": INTERVAL,
        "window": (int, type(None)),
        "needed": (int, type(None)),
    },
    "truncation": {
        "windows": Many(int),
        "cosines": Many(INTERVAL),
        "ratios": Many(INTERVAL),
        "schedule": (int, type(None)),
        "cosine": INTERVAL,
        "ratio": INTERVAL,
        "faithful": int,
    },
    "forgetting": {
        "ages": Many(int),
        "losses": Many(INTERVAL),
        "ahead": INTERVAL,
        "unseen": INTERVAL,
        "gap": INTERVAL,
        "averaged": INTERVAL,
        "change": INTERVAL,
        "update_ratio": {"*": INTERVAL},
    },
    "noise": {"scale": INTERVAL, "in_a_row": int, "worth": INTERVAL},
    "states": {
        "layers": Many(UNITS),
        "gates": Many({"layer": int, "name": str, "mean": INTERVAL, "below": INTERVAL, "above": INTERVAL}),
        "jacobian": Maybe(JACOBIAN),
    },
    "memory": {
        "capacity": Maybe({"r2": Many(NUMBER), "state_size": int, "total": INTERVAL}),
        "decoding": Maybe(
            {
                "of": str,
                "measure": str,
                "lags": Many(int),
                "scores": Many(INTERVAL),
                "in_common": Maybe(Many(NUMBER)),
                "threshold": float,
                "reach": INTERVAL,
            }
        ),
        "needed": (int, type(None)),
    },
    "drift": {
        "reason": Maybe(Text()),
        "training_timesteps": int,
        "timesteps": int,
        "times": Many(NUMBER),
        "losses": Many(INTERVAL),
        "growth": Maybe(INTERVAL),
    },
}
KINDS: dict[str, Kind] = {
    "version": int,
    "task": str,
    "model": str,
    "level": float,
    "verdict": VERDICT,
    "instruments": {**{name: Maybe(kind) for name, kind in INSTRUMENTS.items()}, "missing": {"*": Text()}},
}
CURVES = (  # values of an instrument, one for each of others
    ("reach", "lags", "at_lags"),
    ("truncation", "windows", "cosines"),
    ("truncation", "windows", "ratios"),
    ("forgetting", "ages", "losses"),
    ("memory.decoding", "lags", "scores"),
    ("memory.decoding", "lags", "in_common"),
    ("drift", "times", "losses"),
)


def checked(values: Mapping[str, Any], path: Path) -> Mapping[str, Any]:
    """The values of a diagnosis, of which all that is drawn is there.

    Raises:
        DataError: something is missing, of another kind, or does not fit together.
    """
    if values.get("version", VERSION) != VERSION:
        raise DataError(
            f"{path}: is of version {str(values['version'])[:40]} of its format; this seqrnn draws version "
            f"{VERSION}; diagnose the run again"
        )
    kinds.check(values, KINDS, path, whole=True)
    for place, given, wanted in CURVES:
        found: Any = values["instruments"]
        for name in place.split("."):
            found = found and found[name]
        if found and found[wanted] is not None and len(found[given]) != len(found[wanted]):
            raise DataError(
                f"{path}: instruments.{place} has {len(found[given]):,} {given} and {len(found[wanted]):,} {wanted}; "
                "they should be as many"
            )
    points = (values["instruments"]["states"] or {}).get("jacobian") or {"eigenvalues": []}
    if any(len(value) != 2 for point in points["eigenvalues"] for value in point):
        raise DataError(f"{path}: instruments.states.jacobian.eigenvalues should be pairs of numbers")
    return values


class Interval(NamedTuple):
    """An estimate with its interval; NaN where the file has null: infinite, or unknown."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        value, low, high = self
        if math.isnan(value):
            return (
                f"at least {number(low)}" if low > 0 else f"at most {number(high)}" if high < math.inf else "unknown"
            )
        if low == high:
            return number(value)
        ends = "−∞" if math.isnan(low) else number(low), "∞" if math.isnan(high) else number(high)
        return f"{number(value)} [{', '.join(ends)}]"

    def times(self, factor: float) -> Interval:
        return Interval(*(factor * part for part in self))


def interval(values: Mapping[str, Any]) -> Interval:
    return Interval(*(_real(values[name]) for name in ("value", "low", "high")))


def band(values: Sequence[Mapping[str, Any]]) -> Array:
    """Values, lower and upper ends (N, 3)."""
    return np.array([interval(one) for one in values]).reshape(-1, 3)


def reals(values: Sequence[float | None]) -> Array:
    return np.array([_real(value) for value in values], np.float64)


def _real(value: float | None) -> float:
    return math.nan if value is None or not abs(value) < LARGEST else float(value)


def number(value: float) -> str:
    """For people: three digits that count."""
    if not math.isfinite(value):
        return "?"
    if value and not 1e-3 <= abs(value) < 1e5:
        return f"{value:.2g}"
    return f"{value:,.0f}" if value == round(value) or abs(value) >= 100 else f"{value:#.3g}".rstrip(".")


def percent(share: Interval) -> str:
    """An interval of shares, in percent."""
    value, low, high = (f"{part:.0f}" if abs(part) < 1000 else number(part) for part in share.times(100))
    return f"{value} % [{low}, {high}]" if share.low < share.high else f"{value} %"
