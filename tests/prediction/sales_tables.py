"""Small tables, and settings of runs that are trained on them."""

from __future__ import annotations

import numpy as np
import pandas

COMMON = ("task=csv", "smoke=false", "model=gru", "model.hidden_size=6", "schedule.epochs=2", "task.warmup=8")


def table(rows: int = 120, seed: int = 0) -> pandas.DataFrame:
    """Daily sales that depend on the weekday, on the weather of the day before, and on a promotion."""
    rng = np.random.default_rng(seed)
    days = pandas.date_range("2024-01-01", periods=rows)
    weather = rng.choice(["sun", "rain", "=snow"], rows)
    promotion = (rng.random(rows) < 0.2).astype(int)
    sales = 50 + 5 * np.sin(days.day_of_week) + 10 * promotion + 4 * (np.roll(weather, 1) == "sun") + rng.random(rows)
    return pandas.DataFrame({"day": days, "weather": weather, "promotion": promotion, "sales": sales.round(3)})


def recordings(seed: int = 0, count: int = 24) -> pandas.DataFrame:
    """Short recordings of two kinds of signal."""
    rng, parts = np.random.default_rng(seed), []
    for number in range(count):
        kind = ("slow", "fast")[number % 2]
        wave = np.sin(np.arange(12) * (0.3 if kind == "slow" else 1.5) + rng.random())
        parts.append(pandas.DataFrame({"id": f"r{number:02d}", "x": wave.round(4), "kind": kind}))
    return pandas.concat(parts)
