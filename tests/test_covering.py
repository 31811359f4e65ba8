"""The cases that are chosen from a product hold every value, or every pair of values, and are few."""

from __future__ import annotations

from itertools import combinations, product

import pytest
from covering import cover

SIZES = (15, 2, 7, 4)
CASES = list(product(*map(range, SIZES)))


@pytest.mark.parametrize(("strength", "fewest", "most"), [(1, 15, 15), (2, 15 * 7, 15 * 7 + 15)])
def test_every_combination_of_so_many_values_is_in_a_chosen_case(strength: int, fewest: int, most: int) -> None:
    chosen = [CASES[number] for number in cover(CASES, strength)]
    for places in combinations(range(len(SIZES)), strength):
        found = {tuple(case[place] for place in places) for case in chosen}
        assert found == set(product(*(range(SIZES[place]) for place in places)))
    assert fewest <= len(chosen) <= most


def test_cases_that_differ_in_nothing_else_are_chosen_with_other_values_each() -> None:
    chosen = [CASES[number] for number in cover(CASES, 1)]
    assert len({case[2:] for case in chosen}) == len(chosen)


def test_what_is_not_a_whole_product_is_covered_as_far_as_it_goes() -> None:
    cases = ["ax", "ay", "by"]
    assert cover(cases, 1) == {0, 2}
    assert cover(cases, 2) == {0, 1, 2}
    assert cover(["a", "b"], 2) == {0, 1}
