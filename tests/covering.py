"""Covering arrays: the few cases of a large product of parameters that hold every value, or every pair of values.

Most mistakes show with one value or with a pair of values (Kuhn, Wallace & Gallo 2004, "Software fault
interactions"). The cases that are not chosen are marked ``long``: .ci/run runs them, and ``uv run pytest`` does not.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from itertools import combinations


def cover(cases: Sequence[Sequence[Hashable]], strength: int) -> set[int]:
    """Chooses cases greedily until every combination of ``strength`` values of any case is in a chosen one.

    Args:
        cases: For each case, its value of each parameter; all in the same order.
        strength: 1 for values, 2 for pairs of values.

    Returns:
        The positions of the chosen cases.
    """

    def held(case: Sequence[Hashable], size: int) -> set[tuple[tuple[int, Hashable], ...]]:
        return set(combinations(enumerate(case), min(size, len(case))))

    needed = [held(case, strength) for case in cases]
    further = [held(case, strength + 1) for case in cases]  # decides between cases that are equally useful
    chosen: set[int] = set()
    while remaining := [number for number, wanted in enumerate(needed) if wanted]:
        best = max(remaining, key=lambda number: (len(needed[number]), len(further[number]), -number))
        chosen.add(best)
        covered, also = set(needed[best]), set(further[best])
        needed = [wanted - covered for wanted in needed]
        further = [wanted - also for wanted in further]
    return chosen
