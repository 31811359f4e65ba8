"""python -m studies.doctor: plants faults, lets the doctor find them, and counts what it got right.

Results go to outputs/studies/doctor, a folder for each case, and a case that is there is not repeated. The cases are
drawn once and for all, in three sets. The diagnosis was tuned on "development", and later, after figures had been
taken from it, on "first"; before that, "second" was drawn for the final figures. Without --seconds, what is there is
counted.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from time import perf_counter

from rich.console import Console

from benchmarks import machine, report
from seqrnn.diagnosis.session import SECONDS
from studies.doctor import measure, tables
from studies.doctor.cases import SETS, Case, all_cases
from studies.doctor.faults import BY_NAME

ROOT = Path(__file__).resolve().parent.parent.parent
DOCUMENT = ROOT / "docs" / "doctor.md"


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m studies.doctor", description=__doc__)
    parser.add_argument(
        "--set", dest="case_set", choices=SETS, default=SETS[0], help=f"of the cases (default: {SETS[0]})"
    )
    parser.add_argument("--seconds", type=float, default=0.0, help="begin no case after so many (default: 0)")
    parser.add_argument("--each", type=float, default=SECONDS, help=f"seconds of a diagnosis (default: {SECONDS:g})")
    parser.add_argument("--cases", default="", help="only these: names of cases or of faults, with commas")
    parser.add_argument("--plant", action="store_true", help="only plant the faults: train the runs, diagnose none")
    parser.add_argument("--again", action="store_true", help="repeat diagnoses that are there, on the same runs")
    parser.add_argument("--recipes", action="store_true", help="train all healthy configs, and nothing else")
    parser.add_argument("--docs", action="store_true", help="put the tables of this set into docs/doctor.md")
    parser.add_argument(
        "--output", type=Path, default=Path("outputs/studies/doctor"), help="folder for runs and results"
    )
    options = parser.parse_args()
    names = {case.name for case in all_cases()} | set(BY_NAME)
    unknown = set(filter(None, options.cases.split(","))) - names
    if unknown:
        parser.error(f"--cases: no such case or fault: {', '.join(sorted(unknown))}; faults: {', '.join(BY_NAME)}")
    return options


def chosen(case_set: str, names: str) -> list[Case]:
    """Returns the cases of a set, in the drawn order; with ``names``, only those."""
    wanted = set(filter(None, names.split(",")))
    return [
        case
        for case in all_cases()
        if case.case_set == case_set and (not wanted or {case.name, case.fault.name} & wanted)
    ]


def main() -> None:
    options = arguments()
    console = Console()
    if not console.is_terminal:
        console = Console(width=118)
    folder = options.output.resolve()
    if options.recipes:
        tables.recipes(folder / "recipes", console)
        return
    began, cases = perf_counter(), chosen(options.case_set, options.cases)
    for case in cases:
        directory = folder / options.case_set / case.name
        if perf_counter() - began >= options.seconds:
            break
        if options.plant:
            planted(case, directory)
            continue
        if (directory / "result.json").exists() and not options.again:
            continue
        result = run(case, directory, options.each)
        console.print(tables.line(result), highlight=False, soft_wrap=True)
    found = [measure.read(folder / options.case_set / case.name / "result.json") for case in cases]
    results = [result for result in found if result is not None]
    if not results:
        console.print("no case has been run yet; give it time with --seconds")
        return
    section = tables.section(results, options.case_set, len(cases))
    for table in section.tables:
        table.show(console)
    report.write(folder, options.case_set, section, machine.describe("cpu", None))
    if options.docs:
        report.fill(DOCUMENT, options.case_set, section.markdown(), kind="study")
    console.print(f"results in {folder / options.case_set}")


def run(case: Case, directory: Path, seconds: float) -> measure.Result:
    """Diagnoses a case, and writes its result."""
    ready = planted(case, directory)
    result = measure.examine(ready, directory, seconds) if ready.is_case else ready
    measure.write(directory / "result.json", result)
    return result


def planted(case: Case, directory: Path) -> measure.Result:
    """Returns a case whose fault has been planted: now, or before."""
    ready = measure.read(directory / "planted.json")
    if ready is None:
        ready = measure.plant(case, directory)
        measure.write(directory / "planted.json", ready)
    return ready


if __name__ == "__main__":
    main()
