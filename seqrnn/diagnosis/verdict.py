"""The verdict: what holds a run back, the largest cause first, and what to do about it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from seqrnn.diagnosis.examination import Examination
from seqrnn.diagnosis.findings import Evidence, Finding, findings_of, floor_of, is_solved
from seqrnn.diagnosis.intervals import Interval, number
from seqrnn.diagnosis.remedies import combined, command, lengthened, overrides_of, remedies_for
from seqrnn.diagnosis.subject import Subject
from seqrnn.diagnosis.trials import Remedy, Trial, Trials

ALWAYS = ("wider batch", "decaying rate", "longer training")  # tried whatever was found
WORTH = 0.9  # of the loss: what is added to a remedy must bring it lower than that
MOST = 1  # remedies that are added to the best one, before a longer training is


@dataclass(frozen=True)
class Tried:
    """A trial, as it can be pasted.

    Args:
        overrides: those of the change, and of the length.
        length: how many times as many timesteps.
    """

    remedy: str
    overrides: list[str]
    length: int
    effect: Interval
    loss: float
    helps: bool


@dataclass(frozen=True)
class Cause:
    """A finding, and what has become of its remedies."""

    finding: Finding
    tried: list[Tried]


@dataclass(frozen=True)
class Verdict:
    """
    Args:
        headline: in a sentence.
        solved: whether nothing is left to be learned that would show.
        causes: the largest first: by what its remedies brought.
        notes: findings that are worth knowing, and no causes; if all is solved, all findings.
        others: remedies that were tried without a finding that asks for them.
        advice: the best combination, if any helped.
        command: the line that follows it.
        trials: how they were made, or why they were not.
    """

    headline: str
    solved: bool
    evidence: Interval | None
    causes: list[Cause]
    notes: list[Finding]
    others: list[Tried]
    advice: Tried | None
    command: str | None
    trials: str


def judge(
    found: Examination, subject: Subject, seconds: float, announce: Callable[[str], None] = lambda text: None
) -> Verdict:
    """Judges an examination; tries remedies for about so many ``seconds``, unless there is nothing to mend."""
    findings, solved = findings_of(found, subject), is_solved(found)
    trials, results = Trials(subject, seconds), dict[str, Trial]()
    if solved:
        said = "None were made: there is nothing to mend."
    elif seconds <= 0 or trials.obstacle:
        said = f"None were made: {trials.obstacle or 'none were asked for'}."
    else:
        names = [name for finding in findings for name in finding.remedies]
        remedies = {remedy.name: remedy for remedy in remedies_for([*names, *ALWAYS], found, subject)}
        results = {trial.name: trial for trial in trials.run(list(remedies.values()), announce)}
        said = (
            f"Each is a training from scratch on {trials.timesteps:,} timesteps"
            f"{'' if trials.whole else ', a part of the run'}, or on more where these take no longer; effects are of "
            f"{next(iter(results.values())).seeds} seeds in pairs."
        )
        findings = _with_underfit(findings, results)
    causes = [
        Cause(finding, [_pasted(results[name], subject) for name in finding.remedies if name in results])
        for finding in findings
        if finding.remedies and not solved
    ]
    causes.sort(key=lambda cause: min((tried.effect.value for tried in cause.tried), default=math.inf))
    asked = {tried.remedy for cause in causes for tried in cause.tried}
    best = _combine(trials, remedies, results, subject, announce) if results else None
    advice = _pasted(best, subject) if best else None
    return Verdict(
        headline=_headline(found, solved, causes),
        solved=solved,
        evidence=found.baselines.ratio if found.baselines else None,
        causes=causes,
        notes=[finding for finding in findings if solved or not finding.remedies],
        others=[_pasted(trial, subject) for name, trial in results.items() if name not in asked],
        advice=advice,
        command=command(lengthened(best.change, best.length, subject), subject) if best else None,
        trials=said,
    )


def _with_underfit(findings: list[Finding], results: dict[str, Trial]) -> list[Finding]:
    """That a longer training is better is a finding too, whatever the end of this one looked like."""
    longer = results.get("longer training")
    if longer is None or longer.effect.high >= WORTH or any(finding.name == "underfit" for finding in findings):
        return findings
    says = f"Four times as long, it comes to {number(longer.effect.value)} of the loss."
    evidence = [Evidence("loss of a training four times as long, by that of one as it is", longer.effect)]
    return [*findings, Finding("underfit", "Training is short", says, evidence, ["longer training"])]


def _combine(
    trials: Trials,
    remedies: dict[str, Remedy],
    results: dict[str, Trial],
    subject: Subject,
    announce: Callable[[str], None],
) -> Trial | None:
    """The best remedy, with others on top as long as they add to it, and a longer training at the end."""
    lr = float(subject.values["optimizer"]["lr"])
    helpful = sorted((trial for trial in results.values() if trial.helps), key=lambda trial: trial.effect.value)
    parts = [trial for trial in helpful if trial.name != "longer training"]
    best = parts[0] if parts else None
    if best is None:
        return helpful[0] if helpful else None
    names = [trial.name for trial in parts[1:] if not _within(trial, best)][:MOST]
    for name in [*names, *(["longer training"] if "longer training" in remedies else [])]:
        announce(f"trying {best.name} with {name}")
        remedy = combined(best.change, remedies[name], lr)
        (trial,) = trials.run([Remedy(f"{best.name} + {name}", remedy.variants, remedy.length)])
        if trial.helps and trial.loss < WORTH * best.loss:
            best = trial
    return best


def _within(trial: Trial, best: Trial) -> bool:
    """Whether a remedy only changes what the best one changes too."""
    return set(trial.change) - {"optimizer.lr"} <= set(best.change)


def _pasted(trial: Trial, subject: Subject) -> Tried:
    overrides = overrides_of(lengthened(trial.change, trial.length, subject), subject)
    return Tried(trial.name, overrides, trial.length, trial.effect, trial.loss, trial.helps)


def _headline(found: Examination, solved: bool, causes: Sequence[Cause]) -> str:
    if found.baselines is None or found.baselines.ratio is None:
        return "What holds it back, the largest cause first:" if causes else "No cause was found with confidence."
    share = f"its loss is {found.baselines.ratio} of that of {found.baselines.best}, the best trivial predictor"
    if floor := floor_of(found):
        return (
            f"It is as good as can be: its loss is {floor.ratio} of that of {floor.name}, below which nobody comes. "
            "What is left to be changed is the task."
        )
    if solved:
        return f"A clean bill: it has learned the task; {share}."
    if any(cause.finding.name == "nothing_learned" for cause in causes):
        return f"It has learned {'next to nothing' if found.baselines.ratio.high < 1 else 'nothing'}: {share}."
    if found.baselines.ratio.high >= 1:
        found_with = " What holds it back, the largest cause first:" if causes else ""
        return f"Whether it has learned anything is not sure: {share}.{found_with}"
    if not causes:
        return f"It has learned a part: {share}. No cause was found with confidence."
    return f"It has learned a part: {share}. What holds it back, the largest cause first:"
