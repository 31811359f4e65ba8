"""A diagnosis as diagnosis.json holds it: the verdict, and the result of each instrument."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import SerializeAsAny, create_model

from seqrnn.diagnosis.instrument import Examination, Finding, instruments
from seqrnn.diagnosis.intervals import Interval
from seqrnn.diagnosis.record import Items, Name, Number, Record
from seqrnn.errors import DataError
from seqrnn.rundir.names import DIAGNOSIS
from seqrnn.rundir.reader import RunReader

VERSION: Literal[3] = 3  # of the format


class TriedRemedy(Record):
    """The trial of a remedy.

    Args:
        overrides: those of the change, and of the length, as typed on the command line.
        length: how many times as many timesteps it was trained on.
        part: of its length, and of the run's, at which it was tried.
        effect: loss with the remedy ÷ loss without it.
        loss: with the remedy.
        seeds: how many pairs of trainings the effect is of.
        cost: time of a training with the remedy ÷ time of one without.
        helps: whether the whole interval of the effect lies below 1.
    """

    remedy: Name
    overrides: Items[str]
    length: Number
    part: Number
    effect: Interval
    loss: Number
    seeds: int
    cost: Number
    helps: bool


NOTHING_TO_TRY = "No trials were made: there is nothing about this run's training that could be changed."


class Cause(Record):
    """A finding, and the trials of its remedies."""

    finding: Finding
    tried: Items[TriedRemedy]


class Verdict(Record):
    """
    Args:
        headline: the verdict in a sentence.
        solved: whether nothing is left to be learned that would be visible in the loss.
        loss_ratio: the loss ÷ that of the best trivial predictor.
        causes: the largest first: by the effect of their remedies.
        notes: findings that are not causes; if the task is solved, all findings.
        other_trials: of remedies that belong to no finding.
        advice: the best combination of remedies, if any helped.
        command: the command line that follows the advice.
        trials_note: how the trials were made, or why they were not.
        no_advice: why there is no advice although trials were made; empty where there is, or where none were.
    """

    headline: str
    solved: bool
    loss_ratio: Interval | None
    causes: Items[Cause]
    notes: Items[Finding]
    other_trials: Items[TriedRemedy]
    advice: TriedRemedy | None
    command: str | None
    trials_note: str
    no_advice: str = ""


class Diagnosis(Record):
    """
    Args:
        schedule: the run's schedule.
        level: of the confidence intervals.
        seconds: that the diagnosis took.
        results: of the instruments, by name.
        missing: for each instrument without a result, the reason.
    """

    version: Literal[3] = VERSION
    task: Name
    model: Name
    schedule: dict[str, Any]
    level: float
    seconds: float
    verdict: Verdict
    results: Mapping[Name, SerializeAsAny[Record]]
    missing: dict[Name, str]

    @property
    def examination(self) -> Examination:
        """The results, as the instruments' pictures take them."""
        return Examination(self.results, self.missing)


class _Version(Record):
    version: int


def read_diagnosis(directory: Path) -> Diagnosis:
    """Reads diagnosis.json from a run directory, which may come from anyone. Results of instruments that are not
    registered here are left out.

    Raises:
        DataError: it is missing, damaged, or of another version of the format.
    """
    reader = RunReader(directory)
    version = reader.diagnosis(_Version).version
    if version != VERSION:
        raise DataError(
            f"{directory / DIAGNOSIS}: is of version {version} of its format, and this seqrnn reads version "
            f"{VERSION}; diagnose the run again"
        )
    fields: dict[str, Any] = {name: (one.result_type | None, None) for name, one in instruments().items()}
    results = create_model("Results", __base__=Record, **fields)
    found: Any = reader.diagnosis(create_model("DiagnosisFile", __base__=Diagnosis, results=(results, ...)))
    known = {name: result for name in fields if (result := getattr(found.results, name)) is not None}
    return Diagnosis(**{**dict(found), "results": known})
