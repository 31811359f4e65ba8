"""Which predictions of a table count: the values that they predict are there, in one part of the data."""

from __future__ import annotations

from collections import Counter

import numpy as np
from numpy.typing import NDArray

from seqrnn.tables.encoding import Encoded
from seqrnn.tables.splits import (
    TEST,
    VALIDATION,
    Regions,
)

NOWHERE = -1  # the part of a timestep whose target does not count


def parts_of(encoded: Encoded, regions: Regions) -> NDArray[np.int8]:
    """Returns the part of the data that each timestep's prediction belongs to, ``NOWHERE`` where every value that it
    predicts is missing, or one lies behind a gap, or in another part than the other values.

    Args:
        regions: (T,) the part that each timestep belongs to.
    """
    preprocessing = encoded.preprocessing
    if preprocessing.kind == "classification":
        return regions
    known: NDArray[np.bool_] = ~np.isnan(encoded.targets)
    present = np.asarray(known.any(axis=1))
    found = np.full(len(regions), NOWHERE, np.int8)
    if not preprocessing.is_forecast:
        counts = present & encoded.usable
        found[counts] = regions[counts]
        return found
    horizon = preprocessing.steps_ahead
    origins = len(regions) - horizon
    if origins < 1:
        return found
    counts = encoded.usable[:origins].copy()
    if preprocessing.difference:
        counts &= np.maximum.accumulate(known, axis=0)[:origins].all(axis=1)  # there are values to change from
    some = np.zeros(origins, bool)
    for distance in range(1, horizon + 1):
        ahead = slice(distance, origins + distance)
        some |= present[ahead]
        counts &= ~encoded.starts[ahead]
    counts &= some
    first, last = regions[1 : origins + 1], regions[horizon:]
    found[:origins] = np.where(counts & (first == last), first, NOWHERE)
    return found


def latest(parts: NDArray[np.int8], most: int) -> NDArray[np.int8]:
    """Returns parts of a sequence in which at most the latest ``most`` timesteps are validated on, and as many tested
    on."""
    kept = parts.copy()
    for part in (VALIDATION, TEST):
        kept[np.flatnonzero(parts == part)[:-most]] = NOWHERE
    return kept


def reasons_of(encoded: Encoded, regions: Regions, parts: NDArray[np.int8]) -> Counter[str]:
    """Returns why the predictions of timesteps do not count, and of how many: the first reason that each has."""
    preprocessing, timesteps = encoded.preprocessing, len(regions)
    distances = range(1, preprocessing.steps_ahead + 1) if preprocessing.is_forecast else range(1)
    rows = np.flatnonzero(parts == NOWHERE)  # few of them, so that this takes little memory
    ahead = [np.minimum(rows + distance, timesteps - 1) for distance in distances]
    masks: dict[str, NDArray[np.bool_]] = {
        "at the end of a sequence": rows + distances[-1] >= timesteps,
        "because no value to be predicted is known": np.all(
            [np.isnan(encoded.targets[each]).all(axis=1) for each in ahead], axis=0
        ),
        "at the end of a part (training, validation)": regions[ahead[0]] != regions[ahead[-1]],
    }
    if preprocessing.is_forecast:
        masks["before a gap"] = np.any([encoded.starts[each] for each in ahead], axis=0)
    left = np.ones(len(rows), bool)
    found: Counter[str] = Counter()
    for reason, mask in masks.items():
        found[reason] = int((left & mask).sum())
        left &= ~mask
    found["because an input, or a value to start from, is missing"] = int(left.sum())
    return +found
