"""The figures of docs/doctor.md, from the results of cases."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

from rich.console import Console

import seqrnn
from benchmarks.report import Section, Table
from seqrnn.diagnosis.intervals import number
from studies.doctor import measure
from studies.doctor.cases import ATTEMPTS
from studies.doctor.faults import BY_NAME, HEALTHY
from studies.doctor.measure import Result
from studies.doctor.recipes import RECIPES
from studies.doctor.training import QUIET, as_overrides, train


def is_right(result: Result) -> bool:
    """Returns whether the first cause is one of those that the fault may be called."""
    return result.first_cause in BY_NAME[result.fault].findings


def line(result: Result) -> str:
    """Returns a case in a line."""
    if not result.is_case:
        return f"{result.case:18} not planted: undoing the fault did not help in {len(result.attempts)} attempts"
    if result.failure:
        return f"{result.case:18} failed: {result.failure}"
    attempt = result.attempts[-1]
    verdict = _healthy_verdict(result) if result.fault == HEALTHY.name else "right" if is_right(result) else "WRONG"
    return (
        f"{result.case:18} {attempt.recipe:26} {verdict:12} {result.first_cause:16} "
        f"{number(result.before)} → {number(result.after)} ({number(result.undone)})  {result.advice or 'no advice'}"
    )


def _healthy_verdict(result: Result) -> str:
    return "FALSE ALARM" if result.is_false_alarm else "improved" if result.causes else "quiet"


def share(count: int, of: int) -> str:
    """Returns a share in percent, with its 95 % interval by Wilson's method."""
    if not of:
        return "no cases"
    from scipy.stats import binomtest

    interval = binomtest(count, of).proportion_ci(method="wilson")
    return f"{count} of {of}: {100 * count / of:.0f} % [{100 * interval.low:.0f}, {100 * interval.high:.0f}]"


def section(results: Sequence[Result], case_set: str, listed: int) -> Section:
    """Returns the tables of one set."""
    planted = [result for result in results if result.is_case and result.fault != HEALTHY.name]
    healthy = [result for result in results if result.fault == HEALTHY.name]
    failed = [result for result in results if result.failure]
    redrawn = sum(len(result.attempts) - 1 for result in planted)
    empty = [result for result in results if not result.is_case]
    spent = [result.seconds for result in results if result.is_case]
    given = sorted({result.given for result in results if result.is_case})
    size = (
        f'The set "{case_set}": {len(results)} of its {listed} cases were run: {len(planted)} planted '
        f"failures on {len({result.attempts[-1].recipe.split()[0] for result in planted})} tasks and {len(healthy)} "
        f"healthy runs. {redrawn + sum(len(result.attempts) for result in empty)} plantings did no harm and were "
        f"drawn anew; {len(empty)} of the cases were left empty after {ATTEMPTS} of them. A diagnosis was "
        f"given {' or '.join(f'{one:g}' for one in given)} s and took "
        f"{statistics.median(spent) if spent else 0:.0f} s in all (median; {max(spent, default=0):.0f} s at most)"
        f"{f'; {len(failed)} ended with an error' if failed else ''}."
    )
    return Section(
        [
            Table("Four figures", ["", "share", "wanted"], _figures(planted, healthy), size),
            *_by_state(planted, healthy),
            _confusion(planted, healthy),
            _by_fault(planted),
            *_failures(planted, healthy),
        ],
        [result.model_dump() for result in results],
    )


def _figures(planted: Sequence[Result], healthy: Sequence[Result]) -> list[list[str]]:
    def count(test: Callable[[Result], bool], of: Sequence[Result]) -> str:
        return share(sum(test(result) for result in of), len(of))

    in_config = [result for result in planted if BY_NAME[result.fault].by_line]
    in_data = [result for result in planted if not BY_NAME[result.fault].by_line]
    reached = f"the line reaches ≥ {100 * measure.REACHED:g} % of what undoing the fault gives"
    return [
        ["the first cause is right", count(is_right, planted), "≥ 90 %"],
        [f"{reached}: faults in the config", count(_reaches, in_config), "≥ 80 %"],
        [f"{reached}: faults in the data", count(_reaches, in_data), ""],
        [f"{reached}: all", count(_reaches, planted), ""],
        ["the line makes the test loss worse", count(lambda result: result.is_worse, [*planted, *healthy]), "≤ 3 %"],
        ["false alarms on healthy runs", count(lambda result: result.is_false_alarm, healthy), "≤ 5 %"],
        ["healthy runs that were called anything", count(lambda result: bool(result.causes), healthy), ""],
    ]


def _by_state(planted: Sequence[Result], healthy: Sequence[Result]) -> list[Table]:
    """Returns the figures of each state of the diagnosis, if there are several."""
    states = dict.fromkeys(result.state for result in [*planted, *healthy])
    if len(states) == 1:
        return []
    rows = []
    for state in sorted(states):
        own = [result for result in planted if result.state == state]
        others = [result for result in healthy if result.state == state]
        figures = [row[1] for row in _figures(own, others)]
        rows.append([f"`{state}`" if state else "earlier, not recorded", *(figures[place] for place in (0, 1, 4, 5))])
    columns = ["state", "first cause right", f"line reaches {100 * measure.REACHED:g} % (config)", "worse"]
    note = "The cases are of several states of the diagnosis: a state is a digest of its code."
    return [Table("By state of the diagnosis", [*columns, "false alarms"], rows, note)]


def _reaches(result: Result) -> bool:
    return result.share >= measure.REACHED


def _confusion(planted: Sequence[Result], healthy: Sequence[Result]) -> Table:
    everyone = [*planted, *healthy]
    causes = [name for name, _ in Counter(result.first_cause for result in everyone).most_common()]
    rows = []
    for fault in BY_NAME.values():
        found = Counter(result.first_cause for result in everyone if result.fault == fault.name)
        if found:
            cells = [_cell(found[name], name in fault.findings) for name in causes]
            rows.append([fault.name, *cells])
    note = "Rows: what was planted. Columns: the first cause that was named; in bold those that count as right."
    return Table("What was planted, and what was found first", ["planted", *causes], rows, note)


def _cell(count: int, is_right: bool) -> str:
    return "" if not count else f"**{count}**" if is_right else str(count)


def _by_fault(planted: Sequence[Result]) -> Table:
    rows = []
    for fault in BY_NAME.values():
        found = [result for result in planted if result.fault == fault.name]
        if found:
            rows.append([
                fault.name,
                ", ".join(sorted(fault.findings)),
                str(len(found)),
                str(sum(map(is_right, found))),
                str(sum(map(_reaches, found))),
                str(sum(result.is_worse for result in found)),
            ])  # fmt: skip
    columns = ["planted", "may be called", "cases", "right", f"reach {100 * measure.REACHED:g} %", "worse"]
    return Table("By fault", columns, rows)


def _failures(planted: Sequence[Result], healthy: Sequence[Result]) -> list[Table]:
    failures = [result for result in planted if not is_right(result) or not _reaches(result) or result.is_worse]
    failures += [result for result in healthy if result.is_false_alarm or result.is_worse]
    if not failures:
        return []
    rows = []
    for result in sorted(failures, key=lambda one: one.case):
        attempt = result.attempts[-1]
        rows.append([
            result.case,
            f"{attempt.recipe}, {('moderate', 'severe')[attempt.severity]}",
            result.first_cause if not is_right(result) else f"**{result.first_cause}**",
            result.failure or result.advice or "no advice",
            number(result.before),
            number(result.after),
            number(result.undone),
        ])  # fmt: skip
    note = (
        "Losses are those of the test data, by the measure of the fault. The effect beside the advice is the one "
        "that the diagnosis promised, from its trials."
    )
    columns = ["case", "run", "first cause", "advice", "loss", "with the advice", "fault undone"]
    return [Table("Every case that failed in some way", columns, rows, note)]


def recipes(folder: Path, console: Console) -> None:
    """Trains each healthy config on three seeds, and prints its worst test loss."""
    for recipe in RECIPES:
        losses = []
        for seed in range(3):
            try:
                summary = train([*as_overrides(recipe.values()), *QUIET, f"seed={seed}"], folder)
            except seqrnn.Diverged:
                console.print(f"{recipe.name:26} seed {seed} diverged")
                continue
            losses.append(summary["test"]["loss"])
        worst = max(losses, default=float("inf"))
        mark = "" if worst <= recipe.reaches else "  TOO HIGH"
        console.print(f"{recipe.name:26} {worst:.3g}  (below {recipe.reaches:g}){mark}", highlight=False)
