"""The space of a search: which keys are searched, and which values each may take, in hydra's syntax for sweeps."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated, Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, IntervalSweep, Override, RangeSweep
from pydantic import BaseModel, Field

from seqrnn.errors import ConfigError
from seqrnn.keys import as_typed
from seqrnn.rundir.bounded import Items, Name
from seqrnn.sweeping.combining import key_of, values_of

TAGS = ("log", "int")
DIGITS = 4  # significant ones of a number that is drawn from an interval
Number = int | float
Text = Annotated[str, Field(max_length=1000)]


class Parameter(BaseModel, frozen=True):
    """A key that is searched: choices, or numbers between two bounds, both included.

    Args:
        key: as on a command line.
        choices: values as typed; empty for numbers.
        step: between two numbers; None: any number between the bounds, or any whole one.
        log: whether the logarithms of the numbers are drawn, so that 0.001 to 0.01 is as wide as 0.01 to 0.1.
        whole: whether the numbers are whole ones.
    """

    key: Name
    choices: Items[Text] = []
    low: float = 0.0
    high: float = 0.0
    step: float | None = None
    log: bool = False
    whole: bool = False

    @property
    def ends(self) -> list[str]:
        """All choices, or the lowest and the highest number, as typed."""
        return list(self.choices) or [self.shown(self.low), self.shown(self.high)]

    def shown(self, value: Any) -> str:
        """Returns a drawn value as it is typed: a number that is not on steps has four significant digits."""
        if self.choices:
            return str(value)
        if self.whole:
            return str(int(value))
        rounded = float(f"{value:.{DIGITS if self.step is None else 12}g}")
        return as_typed(rounded if self.low <= rounded <= self.high else float(value))


def read_space(arguments: Sequence[str], ready: Sequence[str], loader: Any) -> tuple[list[str], list[Parameter]]:
    """Returns the overrides that all trials share, and the keys that are searched.

    Args:
        arguments: the overrides of the command line, without those of hydra and of the sweep itself; those with
            several values are searched.
        ready: ``sweep.space``: further overrides with several values.
        loader: hydra's loader of configs, which knows the choices of each group.

    Raises:
        ConfigError: everything that is wrong with them.
    """
    parser = OverridesParser.create(config_loader=loader)
    problems: list[str] = []
    fixed: dict[str, str] = {}
    searched: dict[str, Parameter] = {}
    for text in arguments:
        (override,) = parser.parse_overrides([text])
        fixed.pop(key_of(text), None)
        searched.pop(key_of(text), None)
        if not override.is_sweep_override():
            fixed[key_of(text)] = text
            continue
        try:
            searched[key_of(text)] = _parameter(override, text)
        except ConfigError as error:
            problems += error.problems
    for text in ready:
        key = key_of(text)
        try:
            (override,) = parser.parse_overrides([text])
            if not override.is_sweep_override():
                problems.append(f"sweep.space: {text}: has one value; a search chooses among several")
                continue
            if key in fixed or key in searched:
                problems.append(
                    f"{key}: given on the command line and searched by sweep.space ({text}); leave one of them out"
                )
                continue
            searched[key] = _parameter(override, text)
        except ConfigError as error:
            problems += [f"sweep.space: {problem}" for problem in error.problems]
        except Exception as error:  # hydra's, of many kinds
            problems.append(f"sweep.space: {text}: {str(error).splitlines()[0]}")
    if "seed" in searched:
        problems.append(
            "seed: a search cannot choose the luckiest seed; give one seed, and repeat the best trial with several"
        )
    if not searched and not problems:
        problems.append(
            "sweep.search=optuna: no key is searched; give one several values, such as "
            "'optimizer.lr=tag(log, interval(1e-4, 1e-1))', or choose a ready search with sweep=NAME"
        )
    if problems:
        raise ConfigError(*problems)
    return [*fixed.values()], [*searched.values()]


def _parameter(override: Override, text: str) -> Parameter:
    """Returns what an override with several values searches.

    Raises:
        ConfigError: it has no values, or is on a scale that it cannot have.
    """
    key, value = key_of(text), override.value()
    is_discrete = override.is_discrete_sweep()
    assert is_discrete or isinstance(value, ChoiceSweep | RangeSweep | IntervalSweep)
    tags = set(getattr(value, "tags", ()))
    unknown = sorted(tags - {*TAGS})
    if unknown:
        raise ConfigError(f"{text}: no such tag: {', '.join(unknown)} (there are: {', '.join(TAGS)})")
    if isinstance(value, IntervalSweep):
        low, high = value.start, value.end
        if low is None or high is None:
            raise ConfigError(f"{text}: an interval has two ends")
        whole = "int" in tags or (isinstance(low, int) and isinstance(high, int))
        return _numbers(text, key, low, high, None, "log" in tags, whole)
    if isinstance(value, RangeSweep):
        numbers: list[Number] = [number for number in value.range() if isinstance(number, int | float)]
        if not numbers:
            raise ConfigError(f"{text}: matches nothing")
        whole = all(isinstance(number, int) for number in numbers)
        if "log" in tags and (not whole or value.step != 1):
            raise ConfigError(f"{text}: steps have no logarithmic scale; write tag(log, interval(…))")
        step = None if "log" in tags else float(abs(value.step))
        return _numbers(text, key, min(numbers), max(numbers), step, "log" in tags, whole)
    if tags:
        raise ConfigError(f"{text}: a list has no scale; tags are for intervals")
    choices = list(dict.fromkeys(values_of(override)))
    if not choices:
        raise ConfigError(f"{text}: matches nothing")
    return Parameter(key=key, choices=choices)


def _numbers(text: str, key: str, low: Number, high: Number, step: float | None, log: bool, whole: bool) -> Parameter:
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise ConfigError(f"{text}: the first end should be less than the second")
    if whole and (low != int(low) or high != int(high)):
        raise ConfigError(f"{text}: the ends should be whole numbers")
    if log and low <= 0:
        raise ConfigError(f"{text}: a logarithmic scale begins above 0")
    return Parameter(key=key, low=low, high=high, step=step, log=log, whole=whole)
