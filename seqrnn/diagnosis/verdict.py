"""The verdict: what holds a run back, the largest cause first, and what to do about it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from seqrnn.diagnosis.diagnosis import Cause, TriedRemedy, Verdict
from seqrnn.diagnosis.findings import findings_of, floor_of, is_solved
from seqrnn.diagnosis.instrument import Evidence, Examination, Finding
from seqrnn.diagnosis.instruments.baselines import Baselines
from seqrnn.diagnosis.intervals import number
from seqrnn.diagnosis.remedies import combined, command, lengthened, overrides_of, remedies_for
from seqrnn.diagnosis.trained_run import TrainedRun
from seqrnn.diagnosis.trials import Remedy, Trial, Trials

ALWAYS = ("wider batch", "decaying rate", "longer training")  # tried whatever was found
WORTH = 0.9  # of the loss: a remedy that is added to another one must bring it lower than that
MOST = 1  # remedies that are added to the best one, before a longer training is


def judge(
    found: Examination, run: TrainedRun, seconds: float, announce: Callable[[str], None] = lambda text: None
) -> Verdict:
    """Judges an examination; tries remedies for about so many ``seconds``, unless the task is solved."""
    findings, solved = findings_of(found), is_solved(found)
    trials, results = Trials(run, seconds), dict[str, Trial]()
    if solved:
        note = "None were made: the task is solved."
    elif seconds <= 0 or trials.obstacle:
        note = f"None were made: {trials.obstacle or 'the time for trials was 0 s'}."
    else:
        names = [name for finding in findings for name in finding.remedies]
        remedies = {remedy.name: remedy for remedy in remedies_for([*names, *ALWAYS], found, run)}
        results = {trial.name: trial for trial in trials.run(list(remedies.values()), announce)}
        note = (
            f"Each is a training from scratch on {trials.timesteps:,} timesteps"
            f"{'' if trials.whole else ', a part of the run'}, or on more where these take no longer; effects are of "
            f"{next(iter(results.values())).seeds} seeds in pairs."
        )
        untried = [name for name in remedies if name not in results]
        if untried:
            note += f" Time was over before these were tried: {', '.join(untried)}; allow more with --seconds."
        findings = _with_underfit(findings, results)
    causes = [
        Cause(finding=finding, tried=[_tried(results[name], run) for name in finding.remedies if name in results])
        for finding in findings
        if finding.remedies and not solved
    ]
    causes.sort(key=lambda cause: min((tried.effect.value for tried in cause.tried), default=math.inf))
    asked = {tried.remedy for cause in causes for tried in cause.tried}
    best = _combine(trials, remedies, results, run, announce) if results else None
    baselines = found.get(Baselines)
    return Verdict(
        headline=_headline(found, solved, causes),
        solved=solved,
        loss_ratio=baselines.ratio if baselines else None,
        causes=causes,
        notes=[finding for finding in findings if solved or not finding.remedies],
        other_trials=[_tried(trial, run) for name, trial in results.items() if name not in asked],
        advice=_tried(best, run) if best else None,
        command=command(lengthened(best.change, best.length, run), run) if best else None,
        trials_note=note,
    )


def _with_underfit(findings: list[Finding], results: dict[str, Trial]) -> list[Finding]:
    """Adds the finding that training is short if a longer one is better, whatever the end of this one looked like."""
    longer = results.get("longer training")
    if longer is None or longer.effect.high >= WORTH or any(finding.name == "underfit" for finding in findings):
        return findings
    short = Finding(
        name="underfit",
        title="Training is short",
        description=f"A training four times as long has {number(longer.effect.value)} of the loss.",
        evidence=[
            Evidence(
                quantity="loss of a training four times as long, by that of one as it is", interval=longer.effect
            )
        ],
        remedies=["longer training"],
    )
    return [*findings, short]


def _combine(
    trials: Trials,
    remedies: dict[str, Remedy],
    results: dict[str, Trial],
    run: TrainedRun,
    announce: Callable[[str], None],
) -> Trial | None:
    """Returns the best remedy, with others added as long as they improve it, and with a longer training at the end;
    None if no remedy helps."""
    helpful = sorted((trial for trial in results.values() if trial.helps), key=lambda trial: trial.effect.value)
    parts = [trial for trial in helpful if trial.name != "longer training"]
    best = parts[0] if parts else None
    if best is None:
        return helpful[0] if helpful else None
    lr = float(run.values["optimizer"]["lr"])
    names = [trial.name for trial in parts[1:] if not _changes_only_what(trial, best)][:MOST]
    for name in [*names, *(["longer training"] if "longer training" in remedies else [])]:
        announce(f"trying {best.name} with {name}")
        remedy = combined(best.change, remedies[name], lr)
        for trial in trials.run([Remedy(f"{best.name} + {name}", remedy.variants, remedy.length)]):
            if trial.helps and trial.loss < WORTH * best.loss:
                best = trial
    return best


def _changes_only_what(trial: Trial, best: Trial) -> bool:
    """Whether a remedy changes no other key than the best one does."""
    return set(trial.change) - {"optimizer.lr"} <= set(best.change)


def _tried(trial: Trial, run: TrainedRun) -> TriedRemedy:
    return TriedRemedy(
        remedy=trial.name,
        overrides=overrides_of(lengthened(trial.change, trial.length, run), run),
        length=trial.length,
        effect=trial.effect,
        loss=trial.loss,
        helps=trial.helps,
    )


def _headline(found: Examination, solved: bool, causes: Sequence[Cause]) -> str:
    baselines = found.get(Baselines)
    if baselines is None or baselines.ratio is None:
        return "What holds it back, the largest cause first:" if causes else "No cause was found with confidence."
    loss = f"its loss is {baselines.ratio} of that of {baselines.best}, the best trivial predictor"
    if not math.isfinite(baselines.ratio.value):
        loss = f"its loss, compared with that of {baselines.best}, the best trivial predictor, {baselines.ratio}"
    if floor := floor_of(found):
        return (
            f"It is as good as possible: its loss is {floor.ratio} of that of {floor.name}, the least loss that any "
            "predictor can have. Only another task could bring it lower."
        )
    if solved:
        return f"Nothing is wrong: it has learned the task; {loss}."
    if any(cause.finding.name == "nothing_learned" for cause in causes):
        return f"It has learned {'next to nothing' if baselines.ratio.high < 1 else 'nothing'}: {loss}."
    if baselines.ratio.high >= 1:
        then = " What holds it back, the largest cause first:" if causes else ""
        return f"It is not certain that it has learned anything: {loss}.{then}"
    if not causes:
        return f"It has learned a part: {loss}. No cause was found with confidence."
    return f"It has learned a part: {loss}. What holds it back, the largest cause first:"
