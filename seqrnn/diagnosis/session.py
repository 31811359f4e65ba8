"""A diagnosis from beginning to end: examined, judged, written down, told."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from time import perf_counter

from rich.console import Console
from rich.markdown import Markdown

from seqrnn import plots
from seqrnn.diagnosis import report
from seqrnn.diagnosis.examination import examine
from seqrnn.diagnosis.subject import Subject
from seqrnn.diagnosis.verdict import judge
from seqrnn.errors import printable
from seqrnn.rundir.writer import write_diagnosis

SECONDS = 30.0


def diagnose_finished_run(
    directory: Path, plugins: Sequence[str], smoke: bool, console: Console | None = None
) -> None:
    """Diagnoses a run whose training has finished. A diagnosis that fails leaves the run finished: the problem and
    the command that repeats the diagnosis are printed in one line.

    Args:
        smoke: whether the run was shrunk by ``smoke=true``; no trials are made then.

    Raises:
        KeyboardInterrupt: the user interrupted the diagnosis; the line has been printed.
    """
    try:
        diagnose(directory, 0.0 if smoke else None, plugins, console)
    except KeyboardInterrupt:
        _print_failure("was interrupted", directory, plugins)
        raise
    except Exception as error:
        _print_failure(f"failed: {' '.join(str(error).split()) or repr(error)}", directory, plugins)


def _print_failure(what: str, directory: Path, plugins: Sequence[str]) -> None:
    allowed = [word for plugin in plugins for word in ("--plugins", plugin)]
    command = shlex.join(["python", "-m", "seqrnn.diagnose", str(directory), *allowed])
    print(printable(f"the run is finished; its diagnosis {what}; repeat it with: {command}"), file=sys.stderr)


def diagnose(
    directory: Path, seconds: float | None = None, plugins: Sequence[str] = (), console: Console | None = None
) -> None:
    """Diagnoses a run, and writes diagnosis.md, diagnosis.json and diagnosis.png into its directory.

    Args:
        seconds: for trials of remedies, about; None: 30.
        plugins: modules to import that the run needs.

    Raises:
        UserError: it is no run directory, something in it is damaged, or it cannot be written to.
    """
    began = perf_counter()
    console = console or Console()
    with console.status("reading the run") as status:
        subject = Subject(directory, plugins)
        found = examine(subject, lambda text: status.update(f"{text} …"))
        verdict = judge(
            found, subject, SECONDS if seconds is None else seconds, lambda text: status.update(f"{text} …")
        )
        spent = perf_counter() - began
        write_diagnosis(
            directory,
            report.to_values(found, verdict, subject, spent),
            report.to_markdown(found, verdict, subject),
        )
        status.update("drawing …")
        plots.draw_diagnosis(directory)
    console.print(Markdown(report.summary(verdict)))
    if verdict.command and verdict.advice:
        console.print(f"\n{report.promise(verdict.advice)}")
        console.print(verdict.command, soft_wrap=True, markup=False, highlight=False, style="bold")
        if reminder := report.elsewhere(verdict):
            console.print(reminder, soft_wrap=True, markup=False, highlight=False)
    page = printable(str(directory / "diagnosis.md"))
    console.print(f"\n{page} ({spent:.0f} s)", soft_wrap=True, markup=False, highlight=False)
