"""A diagnosis from beginning to end: examines a run, judges it, writes the diagnosis, and shows it."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from rich.console import Console
from rich.markdown import Markdown

from seqrnn.clock import working_seconds
from seqrnn.diagnosis import page, report
from seqrnn.diagnosis.diagnosis import NOTHING_TO_TRY, Diagnosis, Verdict
from seqrnn.diagnosis.examination import examine
from seqrnn.diagnosis.instrument import Examination
from seqrnn.diagnosis.intervals import LEVEL
from seqrnn.diagnosis.trained_run import TrainedRun
from seqrnn.diagnosis.trials import Key, Trial
from seqrnn.diagnosis.verdict import REFUTING, judge
from seqrnn.errors import printable
from seqrnn.rundir.writer import write_diagnosis

SECONDS = 60.0  # of a diagnosis
EACH, EXAMINING = 0.12, 0.35  # of the time, that each instrument may take, and all of them together
MORE = 5  # times the time, where it brought no advice
DRAWING = 2.0  # seconds of it, for the picture


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
    command = _command(directory, plugins)
    print(printable(f"the run is finished; its diagnosis {what}; repeat it with: {command}"), file=sys.stderr)


def _command(directory: Path, plugins: Sequence[str], *options: str) -> str:
    allowed = [word for plugin in plugins for word in ("--plugins", plugin)]
    return shlex.join(["python", "-m", "seqrnn.diagnose", str(directory), *allowed, *options])


@dataclass
class Earlier:
    """What earlier diagnoses of a treatment have found; a diagnosis adds what it finds.

    Args:
        found: the examination of this run; None: it has not been examined.
        losses: of the trials of this run.
        refuted: names of remedies that brought nothing in long trials of this run or of those before it.
    """

    found: Examination | None = None
    losses: dict[Key, float] = field(default_factory=dict)
    refuted: set[str] = field(default_factory=set)

    def add(self, verdict: Verdict) -> None:
        """Adds what trials have refuted."""
        tried = [*(one for cause in verdict.causes for one in cause.tried), *verdict.other_trials]
        self.refuted |= {one.remedy for one in tried if one.part >= REFUTING and one.effect.value >= 1}


def diagnose_run(
    run: TrainedRun, seconds: float, announce: Callable[[str], None], earlier: Earlier | None = None
) -> tuple[Verdict, list[Trial]]:
    """Diagnoses a run, and writes the diagnosis into its directory.

    Args:
        earlier: what is not measured and tried again.

    Returns:
        The verdict, and what is worth being followed (see ``seqrnn.diagnosis.verdict.judge``).
    """
    began = working_seconds()
    earlier = earlier or Earlier()
    found = earlier.found or examine(run, announce, *((EACH * seconds, EXAMINING * seconds) if seconds else ()))
    left = max(0.0, seconds - DRAWING - (working_seconds() - began))
    verdict, followed = judge(found, run, left, announce, earlier.losses, earlier.refuted)
    earlier.found = found
    earlier.add(verdict)
    diagnosis = Diagnosis(
        task=run.values["task"]["name"],
        model=run.values["model"]["name"],
        schedule=run.values["schedule"],
        level=LEVEL,
        seconds=working_seconds() - began,
        verdict=verdict,
        results=found.results,
        missing=dict(found.missing),
    )
    write_diagnosis(run.directory, diagnosis.model_dump(), report.to_markdown(diagnosis))
    announce("drawing")
    page.draw_diagnosis(run.directory)
    return verdict, followed


def diagnose(
    directory: Path, seconds: float | None = None, plugins: Sequence[str] = (), console: Console | None = None
) -> None:
    """Diagnoses a run, and writes diagnosis.md, diagnosis.json and diagnosis.png into its directory.

    Args:
        seconds: about how long it may take, without compilations; 0: no remedies are tried; None: ``SECONDS``.
        plugins: modules to import that the run needs, or that register more instruments.

    Raises:
        UserError: it is no run directory, something in it is damaged, or it cannot be written to.
    """
    began = working_seconds()
    seconds = SECONDS if seconds is None else seconds
    console = console or Console()
    with console.status("reading the run") as status:

        def announce(text: str) -> None:
            status.update(f"{text} …")

        run = TrainedRun(directory, plugins)

        @cache  # what cannot be captured is announced by each trial
        def announce_compiling(text: str) -> None:
            console.print(printable(text), soft_wrap=True, markup=False, highlight=False)

        run.announce = announce_compiling
        verdict = diagnose_run(run, seconds, announce)[0]
    console.print(Markdown(report.summary(verdict)))
    if verdict.command and verdict.advice:
        console.print(f"\n{report.trial_of_advice(verdict.advice)}")
        console.print(verdict.command, soft_wrap=True, markup=False, highlight=False, style="bold")
        if reminder := report.config_reminder(verdict):
            console.print(reminder, soft_wrap=True, markup=False, highlight=False)
    elif seconds and not verdict.solved and verdict.trials_note != NOTHING_TO_TRY:
        reason = f"{verdict.no_advice} " if verdict.no_advice else ""
        text = f"\nNo line to run next was found. {reason}With more time, more is measured and tried:"
        console.print(text, markup=False, highlight=False)
        command = printable(_command(directory, plugins, "--seconds", f"{MORE * seconds:g}"))
        console.print(command, soft_wrap=True, markup=False, highlight=False, style="bold")
    path = printable(str(directory / "diagnosis.md"))
    console.print(f"\n{path} ({working_seconds() - began:.0f} s)", soft_wrap=True, markup=False, highlight=False)
