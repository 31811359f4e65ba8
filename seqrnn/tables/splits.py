"""Which rows are trained on, validated on and tested on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seqrnn.errors import DataError

TRAINING, VALIDATION, TEST = 0, 1, 2
NAMES = ("training", "validation", "test")
Regions = NDArray[np.int8]  # (T,): TRAINING, VALIDATION or TEST


def split_in_time(
    lengths: Sequence[int], keys: Sequence[str], validation: float, test: float, horizon: int, file: str
) -> list[Regions]:
    """Returns the part that each timestep belongs to: in each sequence the last share is test data, the share before
    it validation data.

    Args:
        lengths: timesteps of each sequence.
        keys: its name, for errors.
        horizon: timesteps of a prediction, which must fit into each part.
        file: the name of the first file, for errors.

    Raises:
        DataError: a sequence is too short.
    """
    found = []
    for length, key in zip(lengths, keys, strict=True):
        held_out = max(round(length * test), 1)
        chosen_by = max(round(length * validation), 1)
        trained_on = length - held_out - chosen_by
        if min(held_out, chosen_by) < horizon or trained_on < horizon + 1:
            short = sum(_is_short(each, validation, test, horizon) for each in lengths)
            others = f" ({short:,} sequences are too short)" if short > 1 else ""
            own = f"sequence {key} of {file} has {_counted(length, 'timestep')}{others}"
            shorter = "take a shorter horizon, or" if horizon > 1 else "give it"
            raise DataError(
                f"task.horizon={horizon}: {own}, of which {max(trained_on, 0):,} would be trained on, {chosen_by:,} "
                f"validated on and {held_out:,} tested on; each part should hold the horizon, and the training part "
                f"one more: {shorter} more rows{', or leave such sequences out' if len(lengths) > 1 else ''}"
            )
        regions = np.full(length, TRAINING, np.int8)
        regions[trained_on:] = VALIDATION
        regions[length - held_out :] = TEST
        found.append(regions)
    return found


def _counted(count: int, what: str) -> str:
    return f"{count:,} {what}{'s' * (count != 1)}"


def _is_short(length: int, validation: float, test: float, horizon: int) -> bool:
    held_out, chosen_by = max(round(length * test), 1), max(round(length * validation), 1)
    return min(held_out, chosen_by) < horizon or length - held_out - chosen_by < horizon + 1


def cut_times(times: Sequence[NDArray[Any]], validation: float, test: float) -> tuple[Any, Any]:
    """Returns the times at which the validation data and the test data of all sequences begin, so that the parts have
    their shares of all timesteps.

    Args:
        times: of each sequence, ascending.
    """
    pooled = np.sort(np.concatenate(times))
    tested_on = len(pooled) - max(round(len(pooled) * test), 1)
    chosen_by = tested_on - max(round(len(pooled) * validation), 1)
    return pooled[max(chosen_by, 0)], pooled[tested_on]


def split_at(times: Sequence[NDArray[Any]], cuts: tuple[Any, Any]) -> list[Regions]:
    """Returns the part that each timestep belongs to: what lies before both times is trained on, what lies between
    them validated on, and the rest tested on, in all sequences."""
    return [np.searchsorted(np.array(cuts), each, "right").astype(np.int8) for each in times]


def holds_all_parts(regions: Regions, horizon: int) -> bool:
    """Returns whether a sequence has predictions to be trained on, validated on and tested on."""
    counts = np.bincount(regions, minlength=len(NAMES))
    return bool(counts[TRAINING] > horizon and counts[VALIDATION] >= horizon and counts[TEST] >= horizon)


def split_sequences(
    classes: Sequence[str], keys: Sequence[str], validation: float, test: float, seed: int, file: str
) -> list[int]:
    """Returns the part that each whole sequence belongs to. Each class is divided in the same shares, as far as whole
    sequences can be: of each, at least one is trained on and one tested on.

    Args:
        classes: of each sequence; the same one throughout where there are none.
        keys: its name, for errors.
        file: the name of the first file, for errors.

    Raises:
        DataError: a class has one sequence only, or there are too few sequences.
    """
    if len(classes) < 3:
        raise DataError(
            f"{file}: {_counted(len(classes), 'sequence')}, and at least three are needed, to train, validate and "
            "test on; tell sequences apart with task.group, or give several files"
        )
    rng = np.random.Generator(np.random.Philox(seed))
    parts = np.full(len(classes), TRAINING)
    for label in sorted(set(classes)):
        members = np.array([number for number, each in enumerate(classes) if each == label])
        if len(members) == 1:
            raise DataError(
                f"{file}: class {label!r} has one sequence only, {keys[members[0]]}; it cannot be both trained on "
                "and tested on: give more sequences of this class, or leave it out"
            )
        members = rng.permutation(members)
        tested = max(1, round(len(members) * test))
        validated = min(max(1, round(len(members) * validation)), len(members) - tested - 1)
        parts[members[:tested]] = TEST
        parts[members[tested : tested + max(0, validated)]] = VALIDATION
    if not (parts == VALIDATION).any():
        raise DataError(
            f"{file}: no sequence is left to validate on; each class should have at least three sequences"
        )
    return [int(part) for part in parts]
