"""What the values of a key have in common: the tables and plots of keys below a ranking."""

from __future__ import annotations

import math
import re
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from seqrnn.errors import printable
from seqrnn.sweeping.comparison import Condition

# Python reads more texts as numbers than the scripts of the page do, such as 1_000.
NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", re.ASCII | re.IGNORECASE)


@dataclass(frozen=True)
class Effect:
    """What the values of a key have in common: a row of the table beside the plots of keys."""

    value: str
    conditions: int
    best: str
    median: str


@dataclass(frozen=True)
class Key:
    """A key that differs between the conditions of a ranking.

    Args:
        short: its name where there is little room.
        is_number: whether all its values are numbers.
        is_log: whether its values spread over so many orders of magnitude that an axis should be logarithmic.
        values: in order.
    """

    name: str
    short: str
    is_number: bool
    is_log: bool
    values: list[str]
    effects: list[Effect]


def key_of(
    name: str, short: str, ranked: Sequence[Condition], form: Callable[[float | None], str], is_higher: bool
) -> Key:
    """Returns a key of the ranked conditions, and what their results say of its values.

    Args:
        form: formats a result; None: there is none.
    """
    values = list(dict.fromkeys(one.settings[name] for one in ranked))
    amounts = {value: _number(value) for value in values}
    known = [amount for amount in amounts.values() if amount is not None]
    is_number = len(known) == len(values)
    is_log = is_number and min(known) > 0 and max(known) >= 8 * min(known)
    values.sort(key=lambda value: (amounts[value] is None, amounts[value] or 0.0, value))  # numbers come first
    return Key(
        name=printable(name),
        short=printable(short),
        is_number=is_number,
        is_log=is_log,
        values=[printable(value) for value in values],
        effects=[_effect(name, value, ranked, form, is_higher) for value in values],
    )


def _number(text: str) -> float | None:
    """Returns the number that a value is, or None."""
    return float(text) if NUMBER.fullmatch(text) and math.isfinite(float(text)) else None


def _effect(
    name: str, value: str, ranked: Sequence[Condition], form: Callable[[float | None], str], is_higher: bool
) -> Effect:
    means = [one.mean for one in ranked if one.settings[name] == value and one.mean is not None]
    best = (max(means) if is_higher else min(means)) if means else None
    median = statistics.median(means) if means else None
    count = sum(one.settings[name] == value for one in ranked)
    return Effect(printable(value), count, form(best), form(median))
