"""The verdict: what holds a run back, the largest cause first, and what to do about it.

Where trials were made, a cause is what they prove: a remedy for it alone lowers the loss by a lot. A finding whose
remedies do not is reported as an observation. What a remedy gains by the learning rate that it was tried with is not
credited to it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence

from seqrnn.diagnosis.causes import CAUSES, proven_by
from seqrnn.diagnosis.command_line import command, lengthened, overrides_of
from seqrnn.diagnosis.diagnosis import NOTHING_TO_TRY, Cause, TriedRemedy, Verdict
from seqrnn.diagnosis.findings import findings_of, floor_of, has_learned, has_learned_by_heart, is_solved
from seqrnn.diagnosis.instrument import Examination, Finding
from seqrnn.diagnosis.instruments.baselines import Baselines, beats_a_constant, what_is_learned
from seqrnn.diagnosis.instruments.losses import Losses, as_trial
from seqrnn.diagnosis.instruments.rates import Rates
from seqrnn.diagnosis.intervals import number, part_of_length, percent
from seqrnn.diagnosis.remedies import remedies_for
from seqrnn.diagnosis.run_findings import RISEN, findings_of_run, trivial_loss
from seqrnn.diagnosis.search import EXPLAINED, WORTH, Search
from seqrnn.diagnosis.trained_run import TrainedRun
from seqrnn.diagnosis.trials import Key, Trial, Trials

FIRST = (  # tried first, whatever was found
    "larger learning rate", "smaller learning rate", "carried state", "all inputs",
)  # fmt: skip
ALWAYS = (  # tried after the remedies of what was found
    "longer training", "longer window", "more units", "best weights", "decaying rate", "no warm-up", "usual start",
    "shorter accumulation", "looser clipping", "fewer units", "more streams", "fewer streams", "orthogonal start",
    "wider batch", "weight decay", "clipped gradients", "longer accumulation",
)  # fmt: skip
TOO_LARGE = "smaller learning rate"  # what undoes a rate that is too large
RATES = ("larger learning rate", TOO_LARGE)
RATES_WRONG = ("small_steps", "large_steps")  # shown by trainings, and so tried where the loss is low as well
CAUSE = 0.75  # of the loss: what a remedy must bring for what it mends to be a cause
COSTLY_CAUSE = 0.6  # the same for a remedy that takes several times as long, as more of everything helps a little
COSTLY = 2.0  # times the time
REFUTING = 0.5  # part of the length from which a trial speaks against a cause: what comes late is not seen before
CLEAR = 0.5  # of the loss: what undoing a setting that stands out must bring where few seeds leave it uncertain
SPECIFIC = 2.0  # times the gain, in logarithms, that the undoing of what stands out counts in the order of causes
MOST_OF_RUN = 2  # suspects of a finding of the run itself
DOMINANT = 0.2  # of the loss: where another rate alone brings that, nothing that needs it as well is a cause


def judge(
    found: Examination,
    run: TrainedRun,
    seconds: float,
    announce: Callable[[str], None] = lambda text: None,
    known: dict[Key, float] | None = None,
    refuted: Collection[str] = (),
) -> tuple[Verdict, list[Trial]]:
    """Judges an examination; tries remedies for about so many ``seconds``, unless the task is solved.

    Args:
        known: losses of trials of this run that have been made; those that are made are added.
        refuted: names of remedies that measurements alone do not make suspects, as earlier trials speak against them.

    Returns:
        The verdict, and what is worth a training at full length: the advice, that of the trials if it is another one,
        and then the single remedies whose effect looks large, whether it is certain or not.
    """
    is_low, of_run = is_solved(found), findings_of_run(run)
    findings = _merged([*of_run, *findings_of(found)])
    shown = {finding.name for finding in of_run}
    search = Search(run, found, Trials(run, seconds, known=known), announce)
    remedies = []
    if seconds > 0 and not floor_of(found):
        suspects = [name for finding in of_run for name in finding.remedies[:MOST_OF_RUN]]
        suspects += [name for finding in findings if finding.name in RATES_WRONG for name in finding.remedies[:1]]
        names = suspects
        if not is_low:
            measured = [(one, name) for one in findings for name in one.remedies[:1]]
            measured += [(one, name) for one in findings if one.name == "memorised" for name in one.remedies]
            suspects += [name for one, name in measured if one.name in shown or name not in refuted]
            is_too_large = any(one.name == "large_steps" and TOO_LARGE in one.remedies[:1] for one in findings)
            if is_too_large or ("clipping" in shown and found.get(Rates) is None):
                # A rate that is too large makes gradients large, and so their clipping tight.
                suspects = [TOO_LARGE, *suspects]
            names = [*suspects, *FIRST, *(name for finding in findings for name in finding.remedies), *ALWAYS]
        remedies = remedies_for(names, found, run)
        if remedies:
            left = {remedy.name for remedy in remedies} - set(refuted)
            memorised = [one for one in findings if one.name == "memorised"]
            is_memorised = any(one.name in shown or left & set(one.remedies) for one in memorised)
            search.search(remedies, suspects, is_memorised)
    results = search.results
    causes = _causes(findings, results, run, of_run)
    if is_low:  # what is still wrong is what a trial proves to be
        causes = [cause for cause in causes if any(one.helps and one.effect.value <= CAUSE for one in cause.tried)]
    solved = is_low and not causes
    named = {cause.finding.name for cause in causes}
    findings = [one for one in findings if one.evidence or one.name in named]  # a mere setting is left out
    asked = {tried.remedy for cause in causes for tried in cause.tried}
    best = followed = None if solved else search.best
    if causes and causes[0].finding.name == "loss" and (losses := found.get(Losses)):
        best = as_trial(losses)  # judged by another measure than the search
    baselines = found.get(Baselines)
    verdict = Verdict(
        headline=_headline(found, solved, causes, run, was_tried=bool(results)),
        solved=solved,
        loss_ratio=baselines.ratio if baselines else None,
        causes=causes,
        notes=[finding for finding in findings if finding.name not in named],
        other_trials=[_tried(trial, run) for name, trial in results.items() if name not in asked],
        advice=_tried(best, run) if best else None,
        command=command(lengthened(best.change, best.length, run), run) if best else None,
        trials_note=_note(search, solved, seconds, bool(remedies)),
        no_advice="" if best or solved else _why_no_advice(search),
    )
    singles = sorted(
        (
            one
            for one in results.values()
            if one.effect.value < WORTH and not (followed and one.change == followed.change)
        ),
        key=lambda trial: trial.effect.value,
    )
    of_loss = [best] if best and best is not followed else []
    return verdict, [*of_loss, *([followed] if followed else []), *singles]


def _merged(findings: Sequence[Finding]) -> list[Finding]:
    """Returns one finding of each name: the first, with the descriptions, the evidence and the remedies of all."""
    found: dict[str, Finding] = {}
    for one in findings:
        first = found.setdefault(one.name, one)
        found[one.name] = first.model_copy(
            update={
                "description": " ".join(dict.fromkeys([first.description, one.description])),
                "evidence": list(dict.fromkeys([*first.evidence, *one.evidence])),
                "remedies": list(dict.fromkeys([*first.remedies, *one.remedies])),
            }
        )
    return list(found.values())


def _note(search: Search, solved: bool, seconds: float, has_remedies: bool) -> str:
    if solved and not search.results:
        return "No trials were made: the task is solved."
    if seconds <= 0:
        return "No trials were made: the time for trials was 0 s."
    if not has_remedies:
        return NOTHING_TO_TRY
    if not search.results:
        return "No trials were made: there was not enough time; allow more with --seconds."
    parts = {trial.part for trial in search.results.values()}
    least, most = part_of_length(min(parts)), part_of_length(max(parts))
    share = least if least == most else f"{least} to {most}"
    note = (
        f"Each trial is a training from scratch, of {share} of the run, or a multiple where timesteps are cheaper; "
        "effects are of pairs on the same seeds."
    )
    if short := [name for name in search.results if name in search.suspects and search.results[name].part < 1]:
        note += (
            f" Of what stands out, {', '.join(short)} {'was' if len(short) == 1 else 'were'} tried at a part of the "
            "length alone, and may do more at the whole: allow more with --seconds."
        )
    if search.untried:
        note += f" Not tried: {', '.join(f'{name} ({reason})' for name, reason in search.untried.items())}."
    return note


def _why_no_advice(search: Search) -> str:
    """Returns in a sentence why nothing that was tried is recommended; nothing where nothing was tried."""
    results, least = search.results, f"{search.worth:g}"
    if not results:
        return ""
    if search.faded:
        name, part = next(iter(search.faded.items()))
        return f"{name} helped at a smaller part of the length, and does not at {part_of_length(part)}."
    best = min(results.values(), key=lambda trial: trial.effect.value)
    if best.effect.value < search.worth and best.seeds == 1:
        return f"{best.name} lowered the loss in one trial, and was not repeated on other seeds."
    if best.effect.value < search.worth:
        return f"{best.name} lowered the loss, by amounts that differ too much between seeds to be certain."
    if best.helps:
        return f"{best.name} helps, but leaves more than {least} of the loss, which is too little to be recommended."
    return f"Nothing that was tried brought the loss below {least} of what it was."


def _causes(
    findings: Sequence[Finding], results: Mapping[str, Trial], run: TrainedRun, of_run: Sequence[Finding] = ()
) -> list[Cause]:
    """Returns the causes, the largest first: by what remedies for them brought; as they were measured where nothing
    was tried.

    Args:
        of_run: those of the findings that stand out in the run's config and metrics. Their own remedies undo them and
            nothing else, while a larger rate or a longer training helps against almost everything: so they come first
            unless another one brings much more. One that explains the failure at no cost comes before all that take
            several times as long.
    """
    by_rate = min([1.0, *(results[name].effect.value for name in RATES if name in results)])
    undoing = {(one.name, remedy) for one in of_run for remedy in one.remedies if _undoes(remedy, one)}
    settings = {finding.name for finding in of_run if not finding.evidence}

    def has_other_rate(trial: Trial) -> bool:
        return trial.name not in RATES and "optimizer.lr" in trial.change

    def stands_out(trial: Trial) -> bool:
        return any(trial.name == remedy for _, remedy in undoing)

    longer = results.get("longer training")

    def by_time(trial: Trial) -> float:
        """Returns the effect of a training that is only so much longer as this one costs, as a power of its cost."""
        if longer is None or trial is longer or trial.cost <= 1 or not longer.effect.value < 1 < longer.cost:
            return 1.0
        return float(longer.effect.value ** (math.log(trial.cost) / math.log(longer.cost)))

    def own_effect(trial: Trial) -> float:
        """Returns the effect without what the learning rate alone brings, or the time alone."""
        by_others = max(by_rate if has_other_rate(trial) else 1.0, 1e-12) * (
            1.0 if stands_out(trial) else by_time(trial)
        )
        return trial.effect.value / max(by_others, 1e-12)

    def is_proof(trial: Trial) -> bool:
        if ("memorised", trial.name) in undoing:
            return trial.helps
        if stands_out(trial):
            return has_large_effect(trial) and (trial.helps or (trial.seeds > 1 and own_effect(trial) <= CLEAR))
        if has_other_rate(trial) and by_rate < DOMINANT:
            return False
        return trial.helps and own_effect(trial) <= (COSTLY_CAUSE if trial.cost > COSTLY else CAUSE)

    def has_large_effect(trial: Trial) -> bool:
        # Where it is not certain, it still refutes nothing.
        return own_effect(trial) <= (WORTH if stands_out(trial) else CAUSE)

    def is_refutation(trial: Trial) -> bool:
        return trial.part >= REFUTING and not has_large_effect(trial)

    def gain(trial: Trial, finding: Finding) -> float:
        """Returns how much a remedy brings, in logarithms; what costs more counts less."""
        is_undoing = (finding.name, trial.name) in undoing
        is_free = is_undoing or by_time(trial) < 1
        cost = 1.0 if is_free else math.sqrt(max(1.0, trial.cost))
        return (SPECIFIC if is_undoing else 1.0) * -math.log(max(own_effect(trial), 1e-12) * cost)

    proven = [finding for trial in results.values() if is_proof(trial) and (finding := proven_by(trial))]
    measured = {finding.name: finding for finding in findings}
    known = {**{finding.name: finding for finding in reversed(proven)}, **measured}
    causes: list[tuple[float, bool, float, Cause]] = []
    explained = 0.0  # the largest gain of undoing, at no cost, what explains the failure alone
    for finding in known.values():
        names = dict.fromkeys([*finding.remedies, *(one.remedies[0] for one in proven if one.name == finding.name)])
        tried = [results[name] for name in names if name in results]
        proofs = [one for one in tried if is_proof(one) or (finding.name == "memorised" and one.helps)]
        best = max(proofs, key=lambda trial: gain(trial, finding), default=None)
        shown = max(_shown_by_run(finding), _shown_by_data(finding))
        is_refuted = any(map(is_refutation, tried)) and not any(map(has_large_effect, tried))
        is_setting = finding.name in settings and not finding.evidence and best is None
        if finding.effect is None and (not names or is_setting or (is_refuted and not shown and best is None)):
            continue  # an observation, or not confirmed by trials that were long enough to tell, or a mere setting
        is_another = best is not None and CAUSES.get(best.name, (finding.name,))[0] != finding.name
        size = max(gain(best, finding) if best else -math.inf, shown)
        if best and (finding.name, best.name) in undoing and best.cost <= COSTLY and best.effect.value <= EXPLAINED:
            explained = max(explained, size)
        cause = Cause(finding=finding, tried=[_tried(one, run) for one in tried])
        causes.append((size, is_another, best.cost if best else 1.0, cause))

    def place(entry: tuple[float, bool, float, Cause]) -> tuple[float, bool, bool]:
        size, is_another, cost, _ = entry
        is_costly = cost > COSTLY and explained > 0
        return (-min(size, explained) if is_costly else -size) or math.inf, is_costly, is_another

    return [entry[-1] for entry in sorted(causes, key=place)]


def _undoes(remedy: str, finding: Finding) -> bool:
    """Returns whether a remedy undoes what a finding is about, and changes nothing else."""
    return finding.name == "memorised" or (remedy in CAUSES and CAUSES[remedy].finding == finding.name)


def _shown_by_run(finding: Finding) -> float:
    """Returns the gain, in logarithms, that the run itself shows: that of its best evaluation, where it learned its
    data by heart after that. 0 if it shows none."""
    if finding.name != "memorised":
        return 0.0
    ratios = [one.interval.value for one in finding.evidence if one.quantity == RISEN]
    return SPECIFIC * math.log(max([1.0, *ratios]))


def _shown_by_data(finding: Finding) -> float:
    """Returns the gain, in logarithms, of undoing a fault of the data, which no remedy of the search can; 0 if it is
    not known."""
    effect = finding.effect.value if finding.effect else math.nan
    return SPECIFIC * -math.log(max(effect, 1e-12)) if effect < 1 else 0.0


def _tried(trial: Trial, run: TrainedRun) -> TriedRemedy:
    return TriedRemedy(
        remedy=trial.name,
        overrides=overrides_of(lengthened(trial.change, trial.length, run), run),
        length=trial.length,
        part=trial.part,
        effect=trial.effect,
        loss=trial.loss,
        seeds=trial.seeds,
        cost=trial.cost,
        helps=trial.helps,
    )


def _headline(found: Examination, solved: bool, causes: Sequence[Cause], run: TrainedRun, *, was_tried: bool) -> str:
    baselines, then = found.get(Baselines), _transition(causes, was_tried)
    if baselines is None or baselines.ratio is None:
        return f"{_scores_of_summary(run)}{then}"
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
    if is_solved(found):
        return f"It has learned the task, and could do better: {loss}. {then}"
    gain = baselines.metric_gain
    if baselines.ratio.high >= 1 and gain is not None and gain.low > 0:
        return (
            f"It has learned a part: its {baselines.metric_name} is {percent(gain)} above that of the best trivial "
            f"predictor, although {loss}. {then}"
        )
    if has_learned_by_heart(found):
        return f"It has learned its training data, and nothing that holds beyond it: {loss}. {then}"
    if not has_learned(found):
        return f"It has learned {what_is_learned(baselines.ratio, beats_a_constant(baselines))}: {loss}. {then}"
    if baselines.ratio.high >= 1:
        return f"It is not certain that it has learned anything: {loss}. {then}"
    return f"It has learned a part: {loss}. {then}"


def _transition(causes: Sequence[Cause], was_tried: bool) -> str:
    """Returns the sentence before the causes. What measurements show of the weights need not hold a run back: only
    trials, or a fault whose effect was measured, prove that it does."""
    is_proven = was_tried or any(_shown_by_run(one.finding) or _shown_by_data(one.finding) for one in causes)
    if is_proven:
        return "What holds it back, the largest cause first:" if causes else "No cause was found with confidence."
    if causes:
        return "What holds it back is not known, as no remedy was tried; measurements suggest:"
    return "What holds it back is not known: no remedy was tried, and measurements suggest none."


def _scores_of_summary(run: TrainedRun) -> str:
    """Returns a sentence on the scores that the run ended with, for a diagnosis without time to compare them; nothing
    if they are not known."""
    (trivial, name), tested = trivial_loss(run), (run.summary.get("test") or {}).get("loss")
    if not isinstance(tested, float) or not 0 < trivial < math.inf:
        return ""
    return f"At its end, its test loss was {number(tested / trivial)} of that of {name}, the best trivial predictor. "
