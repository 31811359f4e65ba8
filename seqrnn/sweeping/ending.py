"""The end of a sweep: pictures, tables and the report, and what the screen says of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from seqrnn.plots import helper
from seqrnn.recording.terminal import Screen
from seqrnn.rundir.request import drawing_command
from seqrnn.sweeping import comparison, tables
from seqrnn.sweeping.directory import SweepDirectory
from seqrnn.sweeping.screen import count_of, print_line, print_text
from seqrnn.sweeping.search.searcher import Searcher
from seqrnn.sweeping.search_record import SEARCH


def compare(
    sweep: SweepDirectory, searcher: Searcher | None, screen: Screen, write_report: Callable[[Path], str] | None
) -> int:
    """Writes and prints the comparison of all jobs in the directory; returns how many have failed. A trial that
    diverged has not: it is a result of the search.

    Args:
        searcher: of a search.
        write_report: writes the report of the directory of a sweep, and returns a line about it; None: there is none.
    """
    results, ranked = write_tables(sweep, searcher)  # before drawing, which may take long
    not_drawn = sum(helper.is_pending(one.summary) for one in results) - _draw_best(results, screen)
    for part in tables.screen_tables(ranked, screen.width):
        screen.print(part)
    lost = [one for one in results if searcher is None or one.outcome.status != "diverged"]
    failed = tables.failures(lost, sweep.path)
    if failed:
        print_text(screen, f"{count_of(len(failed))} failed:")
    for name, lines in failed:
        print_line(screen, f"  {name}")
        for line in lines:
            print_line(screen, f"    {line}")
    if searcher is not None:
        for line in searcher.closing_lines():
            (print_line if line.startswith("  ") else print_text)(screen, line)  # commands are copied
    print_text(screen, tables.closing_line(results))
    if not_drawn:
        print_text(screen, f"{count_of(not_drawn)} without pictures (sweep.plots), which are drawn by:")
        print_line(screen, f"  {drawing_command(str(sweep.path))}")
    files = (tables.CSV, tables.MARKDOWN, tables.TEX, *((SEARCH,) if searcher is not None else ()))
    print_line(screen, f"{sweep.path} ({', '.join(files)})")
    if write_report is not None:
        print_line(screen, write_report(sweep.path))
    return len(failed)


def write_tables(
    sweep: SweepDirectory, searcher: Searcher | None
) -> tuple[list[comparison.Result], list[tables.Ranking]]:
    """Writes the tables of all jobs in the directory, and returns what they hold."""
    results = comparison.results_of(sweep, sweep.read_jobs())
    ranked = tables.rankings(results) if searcher is None else [searcher.ranking()]
    tables.write_tables(results, ranked, sweep.path)
    return results, ranked


def _draw_best(results: Sequence[comparison.Result], screen: Screen) -> int:
    """Draws the pictures of the best conditions that jobs have left undrawn (``sweep.plots``); returns of how many
    jobs."""
    pending = [one for one in comparison.typical_results(results) if helper.is_pending(one.summary)]
    if pending:
        print_text(screen, f"drawing the pictures of {count_of(len(pending))}, the best")
    for one in pending:
        helper.draw_pending(one.directory)
    return len(pending)
