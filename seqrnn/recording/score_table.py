"""The table of test scores, which shows every number whole however narrow the screen is."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions
from rich.table import Table
from rich.text import Text

from seqrnn.errors import printable

GAP = 2  # between columns
MOST_NAME_SHARE = 0.4  # of the width, that the names may take where they are long


class ScoreTable:
    """A row for each predictor, a column for each metric. Columns that do not fit beside the others continue in a
    second table below; long names are wrapped, numbers never.

    Args:
        scores: metrics by predictor; the networks are the first.
        loss: the name of the loss. A loss that is half of the mse is labelled so.
        show: returns a score of a metric as its cell shows it; None: a number.
        networks: how many of the predictors are networks, which are highlighted.
        title: what is scored.
    """

    def __init__(
        self,
        scores: Mapping[str, Mapping[str, Any]],
        loss: str,
        show: Callable[[str, Any], str] | None = None,
        networks: int = 1,
        title: str = "test",
    ) -> None:
        self.title = title
        self.show, self.networks = show or _score, networks
        self.scores = {printable(name): values for name, values in scores.items()}
        self.heads = {metric: _head(metric, loss) for metric in next(iter(scores.values()))}

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Table]:
        widths = {metric: self._width(metric) for metric in self.heads}
        longest_name = max(map(cell_len, (self.title, *self.scores)))
        beside_widest = options.max_width - max(widths.values()) - GAP
        names = max(4, min(longest_name, beside_widest, max(12, int(MOST_NAME_SHARE * options.max_width))))
        if names + sum(widths.values()) + GAP * len(widths) <= options.max_width:  # there may be room for whole names
            names = min(longest_name, options.max_width - sum(widths.values()) - GAP * len(widths))
        for metrics in _groups(widths, options.max_width - names):
            yield self._table(metrics, widths, names)

    def _table(self, metrics: Sequence[str], widths: Mapping[str, int], names: int) -> Table:
        table = Table(box=None, padding=(0, GAP, 0, 0), pad_edge=False, header_style="bold")
        table.add_column(self.title, width=names, overflow="fold")
        for metric in metrics:
            table.add_column(self.heads[metric], width=widths[metric], justify="right")
        for number, (name, values) in enumerate(self.scores.items()):
            cells = [self.show(metric, values[metric]) for metric in metrics]
            table.add_row(Text(name), *cells, style="bold green" if number < self.networks else None)
        return table

    def _width(self, metric: str) -> int:
        """Returns the width of a column: of its longest number, or of the longest word at its head."""
        numbers = (self.show(metric, values[metric]) for values in self.scores.values())
        return max(map(cell_len, (*numbers, *self.heads[metric].split())))


def _groups(widths: Mapping[str, int], room: int) -> Iterator[list[str]]:
    """Cuts the columns into groups, each as wide as there is room for and of one column at least."""
    group: list[str] = []
    used = 0
    for metric, width in widths.items():
        if group and used + GAP + width > room:
            yield group
            group, used = [], 0
        group.append(metric)
        used += GAP + width
    yield group


def _head(metric: str, loss: str) -> str:
    if metric == "loss" and loss == "half_mse":
        return "loss (½mse)"
    return printable(metric.replace("accuracy_", "").replace("_", " "))


def _score(metric: str, value: float) -> str:
    if metric == "r2" or metric.startswith(("accuracy", "coverage")):
        return f"{value:.4f}"
    return f"{value:.4g}" if abs(value) >= 1e-4 else f"{value:.3g}"
