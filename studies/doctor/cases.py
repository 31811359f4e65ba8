"""The drawn lists of cases. Everything here follows from the seeds of ``DRAWS``: the first was fixed before any
diagnosis was made, and the second before the diagnosis was changed by cases of the set "first"."""

from __future__ import annotations

import zlib
from collections import Counter
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

import numpy as np

from studies.doctor.faults import FAULTS, HEALTHY, SEVERITIES, Fault
from studies.doctor.recipes import RECIPES, Recipe

ATTEMPTS = 4  # plantings of a case, until undoing the fault proves that it does harm
CaseSet = Literal["development", "first", "second"]


@dataclass(frozen=True)
class Draw:
    """Cases that are drawn together.

    Args:
        seed: of all that is random.
        each: number of cases of each fault.
        healthy: number of healthy runs.
        sets: that the cases of each fault are divided among, at random.
    """

    seed: int
    each: int
    healthy: int
    sets: tuple[CaseSet, ...]


DRAWS = (
    Draw(20_261_122, 6, 36, ("development", "first")),
    Draw(20_261_123, 3, 18, ("second",)),
)
SETS: tuple[CaseSet, ...] = tuple(name for draw in DRAWS for name in draw.sets)


@dataclass(frozen=True)
class Planting:
    """A fault in a recipe, and the seed of the run."""

    fault: Fault
    recipe: Recipe
    severity: int
    seed: int

    def healthy(self) -> dict[str, Any]:
        return self.fault.healthy(self.recipe, self.severity)

    def faulty(self) -> dict[str, Any]:
        return self.fault.faulty(self.recipe, self.severity)


@dataclass(frozen=True)
class Case:
    """
    Args:
        name: of its files: its fault and its number among the cases of that fault.
        plantings: are tried in this order, until one proves to do harm.
    """

    name: str
    case_set: CaseSet
    plantings: tuple[Planting, ...]

    @property
    def fault(self) -> Fault:
        return self.plantings[0].fault


@cache
def all_cases() -> tuple[Case, ...]:
    """Returns the cases of every draw in a random order, so that the first few of a set are a fair sample."""
    cases: list[Case] = []
    numbers: Counter[str] = Counter()  # of the cases that each fault has so far
    for draw in DRAWS:
        drawn = [_of_fault(fault, draw, draw.each, ATTEMPTS, numbers[fault.name]) for fault in FAULTS]
        drawn.append(_of_fault(HEALTHY, draw, draw.healthy, 1, numbers[HEALTHY.name]))
        flat = [case for of_fault in drawn for case in of_fault]
        numbers.update(case.fault.name for case in flat)
        order = np.random.default_rng(draw.seed).permutation(len(flat))
        cases += [flat[index] for index in order]
    return tuple(cases)


def _of_fault(fault: Fault, draw: Draw, count: int, attempts: int, first: int) -> list[Case]:
    """Draws cases of a fault: recipes and severities without repetition as far as there are enough of them.

    Args:
        first: number of the first case.
    """
    rng = np.random.default_rng([draw.seed, zlib.crc32(fault.name.encode())])
    severities = SEVERITIES if fault is not HEALTHY else SEVERITIES[:1]
    choices = [(recipe, severity) for recipe in RECIPES if fault.applies(recipe) for severity in severities]
    drawn = [choices[index] for index in _sample(rng, len(choices), attempts * count)]
    seeds = rng.integers(1, 10**6, size=len(drawn))
    plantings = [Planting(fault, *choice, int(seed)) for choice, seed in zip(drawn, seeds, strict=True)]
    places = rng.permutation(count) % len(draw.sets)
    return [
        Case(f"{fault.name}-{first + number}", draw.sets[places[number]], tuple(plantings[number::count]))
        for number in range(count)
    ]


def _sample(rng: np.random.Generator, size: int, count: int) -> list[int]:
    """Returns ``count`` numbers below ``size``; each as often as any other, but for one."""
    rounds = [rng.permutation(size) for _ in range(-(-count // size))]
    return [int(index) for index in np.concatenate(rounds)[:count]]


def named(name: str) -> Case:
    """Returns a case by its name."""
    return next(case for case in all_cases() if case.name == name)
