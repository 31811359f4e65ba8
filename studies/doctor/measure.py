"""One case from beginning to end: plants the fault, proves its harm, diagnoses the run, follows the advice."""

from __future__ import annotations

import functools
import hashlib
import json
import math
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from time import perf_counter
from typing import Any

from pydantic import BaseModel
from rich.console import Console

import seqrnn
from seqrnn.diagnosis import session
from seqrnn.diagnosis.diagnosis import read_diagnosis
from seqrnn.diagnosis.session import diagnose
from studies.doctor.cases import Case, Planting
from studies.doctor.faults import HEALTHY
from studies.doctor.training import PLUGIN, QUIET, as_overrides, train

DIAGNOSIS = Path(session.__file__).parent
PROOF = 1.25  # the loss with the fault ÷ that without it, at least, for each seed
SEEDS = 2  # that this is proven on
ENOUGH = 1e-3  # of the best trivial predictor's loss: what lies below counts as this
WORSE = 1.05  # times the loss: what the advice must not exceed
REACHED = 0.8  # of the improvement, in logarithms
BETTER = 1 / PROOF  # times the loss of a healthy run, with the advice: the run was not that healthy


class Attempt(BaseModel):
    """A fault that was planted, and the test losses with it and without it; those of a run that diverged are None.

    Args:
        baseline: loss of the best trivial predictor.
    """

    recipe: str
    severity: int
    seed: int
    faulty: list[float | None]
    healthy: list[float | None]
    baseline: float | None

    @property
    def is_proven(self) -> bool:
        """Whether undoing the fault makes the loss lower, by ``PROOF``, with each seed."""
        if self.baseline is None:
            return False
        pairs = zip(self.faulty, self.healthy, strict=True)
        return all(
            faulty is not None and healthy is not None
            and self.counted(faulty) >= PROOF * self.counted(healthy)
            for faulty, healthy in pairs
        )  # fmt: skip

    def counted(self, loss: float) -> float:
        """Returns a loss as it counts: below ``ENOUGH`` of the trivial predictor's, differences mean nothing."""
        return max(loss, ENOUGH * (self.baseline or 0.0))


class Result(BaseModel):
    """What came of a case.

    Args:
        attempts: to plant the fault; the last one is the case, unless it is not proven: then there is no case.
        overrides: of the faulty run, with the seed.
        headline, causes, advice, command: of the verdict; causes are the names of findings, in its order.
        line: test loss of the command; None: there is none, or it diverged.
        given, seconds: that the diagnosis was given, and took.
        state: of the diagnosis (see ``state``); empty: it was not recorded.
        failure: the error that the diagnosis ended with.
    """

    case: str
    fault: str
    measure: str
    attempts: list[Attempt]
    overrides: list[str] = []
    headline: str = ""
    causes: list[str] = []
    trials: list[str] = []
    advice: str | None = None
    command: str | None = None
    line: float | None = None
    line_seconds: float | None = None
    given: float = 0.0
    seconds: float = 0.0
    state: str = ""
    failure: str | None = None

    @property
    def is_case(self) -> bool:
        return self.fault == HEALTHY.name or self.attempts[-1].is_proven

    @property
    def first_cause(self) -> str:
        return self.causes[0] if self.causes else "none"

    @property
    def before(self) -> float:
        """The test loss of the run that was diagnosed."""
        loss = self.attempts[-1].faulty[0]
        return math.inf if loss is None else loss

    @property
    def undone(self) -> float:
        """The test loss without the fault."""
        loss = self.attempts[-1].healthy[0]
        return math.inf if loss is None else loss

    @property
    def after(self) -> float:
        """The test loss of the advice; that of the run where there is none."""
        if self.command is None:
            return self.before
        return math.inf if self.line is None else self.line

    @property
    def share(self) -> float:
        """What the advice achieves of the improvement that undoing the fault gives, in logarithms."""
        before, after, undone = (self.attempts[-1].counted(loss) for loss in (self.before, self.after, self.undone))
        return (math.log(before) - math.log(after)) / math.log(before / undone)

    @property
    def is_worse(self) -> bool:
        """Whether the advice makes the loss higher."""
        return self.after > WORSE * self.attempts[-1].counted(self.before)

    @property
    def is_false_alarm(self) -> bool:
        """Whether a cause was named in a healthy run, and the advice, if any, makes it no better."""
        return bool(self.causes) and self.after > BETTER * self.before


def plant(case: Case, folder: Path) -> Result:
    """Trains the faulty run of a case in ``folder/faulty``: that of the first of its plantings that proves to do
    harm."""
    attempts: list[Attempt] = []
    for planting in case.plantings:
        attempts.append(_attempt(planting, folder))
        if attempts[-1].is_proven or case.fault is HEALTHY:
            break
    overrides = [*as_overrides(planting.faulty()), *QUIET, f"seed={planting.seed}"]
    return Result(
        case=case.name, fault=case.fault.name, measure=case.fault.measure, attempts=attempts,
        overrides=overrides,
    )  # fmt: skip


def _attempt(planting: Planting, folder: Path) -> Attempt:
    measure = planting.fault.measure
    faulty: list[float | None] = []
    healthy: list[float | None] = []
    baseline = None
    for number in range(SEEDS):
        seed = f"seed={planting.seed + number}"
        if planting.fault is not HEALTHY:
            summary = _trained([*as_overrides(planting.healthy()), *QUIET, seed], folder / "healthy")
            healthy.append(_loss(summary, measure))
        name = "faulty" if number == 0 else "other"
        summary = _trained([*as_overrides(planting.faulty()), *QUIET, seed], folder / name)
        faulty.append(_loss(summary, measure))
        if number == 0 and summary:
            baseline = min(scores[measure] for name, scores in summary["baselines"].items() if not _is_floor(name))
        if planting.fault is HEALTHY:
            healthy = faulty
            break
        if faulty[-1] is None or healthy[-1] is None:
            break  # it is no case
    return Attempt(
        recipe=planting.recipe.name, severity=planting.severity, seed=planting.seed, faulty=faulty, healthy=healthy,
        baseline=baseline,
    )  # fmt: skip


def _is_floor(name: str) -> bool:
    return name.startswith("floor")


def _trained(overrides: Sequence[str], directory: Path) -> dict[str, Any] | None:
    """Returns the summary of a new run; None if it diverged."""
    try:
        return train(overrides, directory)
    except seqrnn.Diverged:
        return None


def _loss(summary: Mapping[str, Any] | None, measure: str) -> float | None:
    value = (summary or {}).get("test", {}).get(measure)
    return None if value is None or not math.isfinite(value) else float(value)


@functools.cache
def state() -> str:
    """Returns a short digest of the code of the diagnosis, so that figures of different states are told apart."""
    digest = hashlib.sha256()
    for path in sorted(DIAGNOSIS.rglob("*.py")):
        digest.update(path.relative_to(DIAGNOSIS).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()[:8]


def examine(planted: Result, folder: Path, seconds: float) -> Result:
    """Diagnoses the faulty run of a case, and trains the line that the diagnosis prints.

    Args:
        planted: of ``plant``.
        seconds: that the diagnosis is given.
    """
    directory, began = folder / "faulty", perf_counter()
    planted = planted.model_copy(update={"state": state()})
    try:
        diagnose(directory, seconds, [PLUGIN], Console(quiet=True))
    except seqrnn.UserError as error:
        return planted.model_copy(update={"failure": str(error), "given": seconds, "seconds": perf_counter() - began})
    spent, verdict = perf_counter() - began, read_diagnosis(directory).verdict
    advice = verdict.advice
    every = [tried for cause in verdict.causes for tried in cause.tried] + list(verdict.other_trials)
    found: dict[str, Any] = {
        "headline": verdict.headline,
        "causes": [cause.finding.name for cause in verdict.causes],
        "trials": list(dict.fromkeys(f"{tried.remedy}: × {tried.effect}" for tried in every)),
        "advice": f"{advice.remedy}: × {advice.effect}" if advice else None,
        "command": verdict.command,
        "given": seconds,
        "seconds": spent,
    }
    if verdict.command:
        began = perf_counter()
        line = [word for word in shlex.split(verdict.command)[3:] if not word.startswith("hydra.")]
        found["line"] = _loss(_trained(line, folder / "line"), planted.measure)
        found["line_seconds"] = perf_counter() - began
    return planted.model_copy(update=found)


def read(path: Path) -> Result | None:
    """Returns a result that was written before; None if there is none."""
    try:
        return Result.model_validate(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None


def write(path: Path, result: Result) -> None:
    """Writes a result as JSON, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    part.write_text(result.model_dump_json(indent=1) + "\n", encoding="utf-8")
    part.replace(path)
