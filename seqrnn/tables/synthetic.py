"""A small table that is generated, for smoke tests: it needs no file."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np

from seqrnn.tables.files import Source

DAYS, RECORDINGS, LENGTH = 400, 24, 30


def synthetic_table(kind: str, seed: int) -> Source:
    """Returns a file with a seasonal daily series and a covariate, or with recordings of two classes."""
    rng = np.random.Generator(np.random.Philox(seed))
    text = io.StringIO()
    if kind == "classification":
        text.write("recording,value,label\n")
        for number in range(RECORDINGS):
            label = number % 2
            wave = np.sin(np.arange(LENGTH) * (0.3 + 0.4 * label)) + 0.1 * rng.standard_normal(LENGTH)
            text.writelines(f"r{number},{value:.4f},{'slow' if label == 0 else 'fast'}\n" for value in wave)
    else:
        text.write("date,wind,temperature\n")
        dates = np.datetime64("2020-01-01") + np.arange(DAYS)
        wind = rng.standard_normal(DAYS)
        temperature = 10 + 8 * np.sin(np.arange(DAYS) * 2 * np.pi / 365.25) + 2 * np.roll(wind, 1)
        text.writelines(f"{a},{b:.4f},{c:.4f}\n" for a, b, c in zip(dates, wind, temperature, strict=True))
    return Source(Path("synthetic.csv"), content=text.getvalue().encode())
