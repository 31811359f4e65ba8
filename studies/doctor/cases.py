"""The drawn list of cases, and its halves. Everything here follows from ``SEED``, which was fixed before any
diagnosis was made."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

import numpy as np

from studies.doctor.faults import FAULTS, HEALTHY, SEVERITIES, Fault
from studies.doctor.recipes import RECIPES, Recipe

SEED = 20_261_122
EACH = 6  # cases of a fault
HEALTHY_CASES = 36
ATTEMPTS = 4  # plantings of a case, until undoing the fault proves that it does harm
Half = Literal["development", "kept_back"]
HALVES: tuple[Half, Half] = ("development", "kept_back")


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
    half: Half
    plantings: tuple[Planting, ...]

    @property
    def fault(self) -> Fault:
        return self.plantings[0].fault


@cache
def draw() -> tuple[Case, ...]:
    """Returns all cases in a random order, so that the first few of them are a fair sample."""
    cases = [case for fault in FAULTS for case in _of_fault(fault, EACH, ATTEMPTS)]
    cases += _of_fault(HEALTHY, HEALTHY_CASES, 1)
    order = np.random.default_rng(SEED).permutation(len(cases))
    return tuple(cases[index] for index in order)


def _of_fault(fault: Fault, count: int, attempts: int) -> list[Case]:
    """Draws cases of a fault: recipes and severities without repetition as far as there are enough of them."""
    rng = np.random.default_rng([SEED, zlib.crc32(fault.name.encode())])
    severities = SEVERITIES if fault is not HEALTHY else SEVERITIES[:1]
    choices = [(recipe, severity) for recipe in RECIPES if fault.applies(recipe) for severity in severities]
    drawn = [choices[index] for index in _sample(rng, len(choices), attempts * count)]
    seeds = rng.integers(1, 10**6, size=len(drawn))
    plantings = [Planting(fault, *choice, int(seed)) for choice, seed in zip(drawn, seeds, strict=True)]
    halves = rng.permutation(count) % 2
    return [
        Case(f"{fault.name}-{number}", HALVES[halves[number]], tuple(plantings[number::count]))
        for number in range(count)
    ]


def _sample(rng: np.random.Generator, size: int, count: int) -> list[int]:
    """Returns ``count`` numbers below ``size``; each as often as any other, but for one."""
    rounds = [rng.permutation(size) for _ in range(-(-count // size))]
    return [int(index) for index in np.concatenate(rounds)[:count]]


def named(name: str) -> Case:
    """Returns a case by its name."""
    return next(case for case in draw() if case.name == name)
