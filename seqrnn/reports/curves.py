"""Learning curves of conditions: the mean over seeds, and the band between the lowest and the highest seed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seqrnn.errors import UserError
from seqrnn.rundir.names import METRICS_JSONL
from seqrnn.rundir.reader import RunReader
from seqrnn.sweeping.comparison import Condition, Result

Column = NDArray[np.float64]
AXES = ("updates", "timesteps", "seconds")
MOST_POINTS, FEWEST_POINTS = 200, 24  # of a curve
MOST_NUMBERS = 900_000  # of all curves of a page
DIGITS = 4


def points_of_a_curve(conditions: int, curves: int) -> int:
    """Returns how many points each curve may have, so that the page stays small."""
    numbers = max(1, conditions * curves * (len(AXES) + 3))
    return max(FEWEST_POINTS, min(MOST_POINTS, MOST_NUMBERS // numbers))


def columns_of_interest(metric: str) -> list[str]:
    """Returns the columns of metrics.jsonl that are drawn: the scores on the validation data come first."""
    return list(dict.fromkeys([f"eval_{metric}", "eval_loss", "train_loss"]))


def curves_of(condition: Condition, most: int, problems: dict[str, str]) -> dict[str, Any]:
    """Returns the curves of a condition by column: x-axes, ``mean``, and where there are several runs ``low`` and
    ``high``. Runs that have not finished are left out, unless no run has.

    Args:
        most: points of a curve.
        problems: takes why a file could not be read, by its path.
    """
    finished = [result for result in condition.results if result.outcome.status == "finished"]
    tables = [table for result in finished or condition.results if (table := _read(result, problems))]
    found = {}
    for name in columns_of_interest(condition.metric):
        runs = [run for table in tables if (run := _thinned(table, name, most)) is not None]
        if runs:
            found[name] = _over_runs(runs)
    return found


def _read(result: Result, problems: dict[str, str]) -> Mapping[str, Column]:
    path = result.directory / METRICS_JSONL
    if not path.is_file():
        return {}
    try:
        table = RunReader(result.directory).metrics()
    except UserError as error:
        problems[str(path)] = "; ".join(error.problems)
        return {}
    return table if all(name in table for name in AXES) else {}


def _thinned(table: Mapping[str, Column], name: str, most: int) -> list[Column] | None:
    """Returns the x-axes and a column (P,), of the rows that have a value; the means of neighbours where these are
    more than ``most`` rows."""
    if name not in table:
        return None
    columns = [np.asarray(table[key], np.float64) for key in (*AXES, name)]
    known = np.logical_and.reduce([np.isfinite(column) for column in columns])
    order = np.argsort(columns[0][known], kind="stable")  # a rollback goes back to earlier updates
    columns = [column[known][order] for column in columns]
    count = len(columns[0])
    if not count:
        return None
    each = -(-count // most)
    if each == 1:
        return columns
    begins = np.arange(0, count, each)
    sizes = np.diff(np.append(begins, count))
    return [np.add.reduceat(column, begins) / sizes for column in columns]


def _over_runs(runs: Sequence[Sequence[Column]]) -> dict[str, Any]:
    """Returns a curve over runs, each given as x-axes and a column, at the updates of the longest run."""
    longest = max(runs, key=lambda run: (run[0][-1], len(run[0])))
    grid = longest[0]
    values = np.array([np.interp(grid, run[0], run[-1], left=np.nan, right=np.nan) for run in runs])  # (R, P)
    counts = np.sum(~np.isnan(values), axis=0)  # the longest run has a value at each point of its own
    curve = {name: rounded(column, 7) for name, column in zip(AXES, longest, strict=False)}
    curve["mean"] = rounded(np.nansum(values, axis=0) / counts)
    if len(runs) > 1:
        curve["low"], curve["high"] = rounded(np.nanmin(values, axis=0)), rounded(np.nanmax(values, axis=0))
    return curve


def rounded(values: Column, digits: int = DIGITS) -> list[float | int]:
    """Returns numbers with so many significant digits, as short as JSON can have them."""
    short = (float(f"{value:.{digits}g}") for value in values.tolist())
    return [int(value) if value.is_integer() else value for value in short]
