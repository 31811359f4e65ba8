"""Notations of numbers: which sign is the decimal mark, and which one separates thousands."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache
from typing import Any

DECIMALS = (".", ",")
# What may stand for each sign that separates thousands: blanks that do not break too, and a curly apostrophe.
THOUSANDS = {".": ".", ",": ",", " ": " \u00a0\u202f", "'": "'\u2019"}


@cache
def _grouped(decimal: str, thousands: str) -> str:
    """Returns the regular expression of numbers with separated thousands, for ``re`` and for arrow."""
    before = rf"[1-9][0-9]{{0,2}}(?:[{THOUSANDS[thousands]}][0-9]{{3}})+"
    return rf"^[+-]?{before}(?:\{decimal}[0-9]*)?(?:[eE][+-]?[0-9]+)?$"


def number_of(text: str, decimal: str = ".", thousands: str | None = None) -> float | None:
    """Returns the number that a text is in a notation; None: it is none. Digits of other scripts and underscores are
    no part of numbers.

    Args:
        decimal: the decimal mark, ``.`` or ``,``.
        thousands: what separates thousands, a key of ``THOUSANDS``; None: nothing does.
    """
    if thousands is not None and re.match(_grouped(decimal, thousands), text):
        text = re.sub(f"[{THOUSANDS[thousands]}]", "", text)
    if decimal == ",":
        text = text.replace(".", "_").replace(",", ".")
    if not text.isascii() or "_" in text:
        return None
    try:
        return float(text)
    except ValueError:
        return None


def in_plain_notation(texts: Any, decimal: str, thousands: str | None) -> Any:
    """Returns arrow texts in which numbers of a notation are written as arrow reads them, and other texts are no
    numbers either."""
    import pyarrow.compute as pc

    if thousands is not None:
        plain = pc.replace_substring_regex(texts, f"[{THOUSANDS[thousands]}]", "")
        texts = pc.if_else(pc.match_substring_regex(texts, _grouped(decimal, thousands)), plain, texts)
    if decimal == ",":
        texts = pc.replace_substring(pc.replace_substring(texts, ".", "_"), ",", ".")
    return texts


def is_number_somehow(text: str) -> bool:
    """Returns whether a text is a number in some notation."""
    return any(
        number_of(text, decimal, thousands) is not None
        for decimal in DECIMALS
        for thousands in (None, *THOUSANDS)
        if decimal != thousands
    )


def fitting_notations(texts: Sequence[str], decimal: str, thousands: str | None) -> list[tuple[str, str | None]]:
    """Returns the notations in which all texts are numbers, those that change least from the given one.

    Args:
        decimal, thousands: the notation in which they are not.
    """
    fitting = [
        (mark, sign)
        for mark in DECIMALS
        for sign in (None, *THOUSANDS)
        if mark != sign and all(number_of(text, mark, sign) is not None for text in texts)
    ]

    def changes(notation: tuple[str, str | None]) -> int:
        return (notation[0] != decimal) + (notation[1] != thousands)

    least = min(map(changes, fitting), default=0)
    nearest = [notation for notation in fitting if changes(notation) == least]
    return sorted(nearest, key=lambda notation: notation[0] == decimal)  # another decimal mark first
