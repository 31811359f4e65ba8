"""The search for what helps: all remedies are tried, the promising ones at greater length, and the best combined.

1. The suspects come first: remedies that undo what stands out in the config or was measured. Each variant is trained
   once, at the whole length of the run if there is time, and the best variant of each remedy is kept.
2. The effect of those that look promising is measured on other seeds, in pairs with the run's own config, so that it
   does not profit from the choice of the variant.
3. Unless one of them explains the failure, the same is done with all other remedies, at a part of the length for
   which there is time; the effects are measured at a greater part, if there is time.
4. The best remedy is combined with others, as long as they improve it, and with a longer training.
5. The best ones are trained at twice the length, and twice that, up to their whole length, as far as there is time:
   what is fast need not be good in the end.
6. A training that became better by being longer, or shorter, is made longer, or shorter, as long as that helps.

What makes timesteps cheaper is trained on more of them, by a power of two that takes no longer.

Caveats: everything is judged on the same validation data, so the best remedy is chosen on that data too. Few seeds
make wide intervals.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from seqrnn.diagnosis.budget import TooSlow
from seqrnn.diagnosis.instrument import Examination
from seqrnn.diagnosis.instruments.baselines import Baselines
from seqrnn.diagnosis.intervals import number, of_ratio
from seqrnn.diagnosis.remedies import Remedy, combined, learning_rate
from seqrnn.diagnosis.trained_run import TrainedRun
from seqrnn.diagnosis.trials import FIRST_SEED, HOPELESS, Change, Training, Trial, Trials

CONFIRMED, SURER = 3, 6  # seeds; more of them for what may help and is not certain
SUREST = 24  # seeds, of a suspect that may help and is not certain, as far as there is time
NOISE = 2.0  # standard deviations between seeds by which a suspect may be worse in its first trial
SUSPECTING, SCREENING, CONFIRMING, COMBINING = 0.4, 0.35, 0.3, 0.5  # of the time that is left
EXPLAINED = 0.3  # of the loss: a suspect that brings that, at half the length or more, explains the failure
NEGLIGIBLE = 0.001  # of the loss of the best trivial predictor
MOST_STRETCHED = 256.0  # times as many timesteps, of a training that is made longer as long as that helps
MOST_SUSPECT = 40.0  # times the time of the run's own training, of a suspect
PROMISING = 0.97  # effect in the first trial
WORTH_BY_HEART = 0.97  # of the loss, where data was learned by heart: errors in the validation data hide the rest
MOST_CONFIRMED = 8  # remedies
WORTH = 0.9  # of the loss: what is recommended, and what is added to it, must bring it lower than that
MOST_COSTLY = 6.0  # times the time of the run's own training, beyond which a change is not tried
MOST_ADDED = 3  # remedies that are tried beside the best one
EXACT, APPROXIMATE = "exact gradients", "approximate gradients"
RIVALS = 3  # that are trained at greater length
OVERTIME = 1.2  # times the time allowed, after which no further first trial is begun
SPARE = 0.85  # of the time left that a stage may be expected to take
LEAST = 1e-9  # of the loss without a remedy: less, as of an entropy that is rounded to 0, counts as that


@dataclass(frozen=True)
class Screened:
    """The outcome of the first trials of a remedy: its best variant, and loss with it by loss without it.

    Args:
        noise: standard deviation between seeds, of the logarithm of the loss without it.
    """

    remedy: Remedy
    change: Change
    length: float
    effect: float
    noise: float


@dataclass
class Search:
    """
    Args:
        trials: make the trainings.
        announce: is given a line before each stage.

    Attributes:
        results: the trials of remedies, by name.
        untried: remedies for which the time was over, or that cost too much, each with the reason.
        best: what is recommended; None if nothing helps.
        faded: names of those that helped at a part of the length, and not at the greater one that is given, which
            ``results`` then are of.
    """

    run: TrainedRun
    found: Examination
    trials: Trials
    announce: Callable[[str], None] = lambda text: None
    results: dict[str, Trial] = field(default_factory=dict)
    untried: dict[str, str] = field(default_factory=dict)
    best: Trial | None = None
    faded: dict[str, float] = field(default_factory=dict)
    suspects: frozenset[str] = frozenset()
    memorised: bool = False
    worth: float = WORTH

    def search(self, remedies: Sequence[Remedy], suspects: Sequence[str] = (), memorised: bool = False) -> None:
        """Tries remedies, the most relevant ones first.

        Args:
            suspects: names of those that are tried first.
            memorised: whether data was learned by heart: as this takes time, nothing is tried at less than the whole
                length, if there is time for that.
        """
        self.suspects, self.memorised = frozenset(suspects), memorised
        self.worth, least = (WORTH_BY_HEART, 1.0) if memorised else (WORTH, 0.0)
        others = [remedy for remedy in remedies if remedy.name not in self.suspects]
        try:
            if len(others) < len(remedies):
                first = [remedy for remedy in remedies if remedy.name in self.suspects]
                screened, part = self._screen(first, SUSPECTING, least)
                if not screened and memorised:  # no time for the whole length: what else helps is still seen
                    self.memorised, self.worth, least = False, WORTH, 0.0
                    screened, part = self._screen(first, SUSPECTING, least)
                self._confirm(screened, part)
            part, before = 0.0, self.best
            while not self._is_explained() and self.best is before and others and part < 1:
                # where nothing helps at a part of the length, more of it is tried
                screened, reached = self._screen(others, SCREENING, max(least, 4 * part))
                if not screened or reached <= part:
                    break
                part = reached
                self._confirm(screened, part)
            known = {remedy.name: remedy for remedy in remedies}
            self._combine(known)
            self._recheck()
            self._stretch(known)
        except TooSlow:
            pass  # what was found until then counts
        if self.best and self.best.effect.value >= self.worth:
            self.best = None

    def _is_explained(self) -> bool:
        """Whether the best remedy so far is a suspect that brings so much that no other is looked for."""
        best = self.best
        return best is not None and best.helps and best.effect.value <= EXPLAINED and best.part >= 0.5

    def _length_in_same_time(self, change: Change) -> float:
        """Returns how many times as many timesteps a change is tried on: data that was learned by heart is not read
        more often."""
        return 1.0 if self.memorised else self.trials.length_in_same_time(change)

    def _is_solved(self) -> bool:
        """Whether the best remedy so far leaves next to nothing of the loss of the best trivial predictor."""
        baselines = self.found.get(Baselines)
        losses = [one.loss.value for one in baselines.baselines if one.name == baselines.best] if baselines else []
        return self.best is not None and any(self.best.loss <= NEGLIGIBLE * loss for loss in losses)

    # --- Stages

    def _screen(self, remedies: Sequence[Remedy], share: float, at_least: float) -> tuple[list[Screened], float]:
        """Returns what the first trials of the remedies gave, the best first, and their part of the length.

        Args:
            share: of the time left that they may take.
        """
        trials, base_pace = self.trials, self.trials.pace({})
        self.announce(f"trying {len(remedies)} remedies")
        allowed = share * trials.budget.remaining
        planned: list[tuple[Remedy, float]] = []
        for remedy in remedies:
            first = remedy.variants[0]
            length = max(remedy.length * self._length_in_same_time(first), remedy.least_length)
            cost = length * trials.pace(first).timestep / base_pace.timestep
            if not cost <= (MOST_SUSPECT if remedy.name in self.suspects else MOST_COSTLY):
                reason = f"takes {cost:.0f} times the time" if math.isfinite(cost) else "cannot be trained here"
                self.untried[remedy.name] = reason
                continue
            if remedy.name == APPROXIMATE and EXACT in {one.name for one, _ in planned}:
                continue  # it is for where the exact one takes too long
            planned.append((remedy, length))

        def seconds(part: float, of: Sequence[tuple[Remedy, float]]) -> float:
            found = sum(len(one.variants) * trials.seconds_of(one.variants[0], part * n) for one, n in of)
            return (found + CONFIRMED * trials.seconds_of({}, part)) / trials.workers

        part = 1.0
        while part / 2 >= max(trials.shortest, at_least) and seconds(part, planned) > allowed:
            part /= 2
        while len(planned) > 1 and seconds(part, planned) > 2 * allowed:
            name = planned.pop()[0].name
            if name not in self.results:
                self.untried[name] = "there was no time"
        if at_least and seconds(part, planned) > 2 * allowed:
            return [], part
        asked = [Training({}, part, FIRST_SEED + number) for number in range(CONFIRMED)]
        asked += [Training(one, part * n, FIRST_SEED) for remedy, n in planned for one in remedy.variants]
        losses = iter(trials.finished_losses(asked, within=OVERTIME * allowed))
        bases = [loss for _ in range(CONFIRMED) if (loss := next(losses)) is not None]
        screened = []
        for remedy, length in planned:
            own = [(loss, change) for change in remedy.variants if (loss := next(losses)) is not None]
            if not bases or not own:
                if remedy.name not in self.results:
                    self.untried[remedy.name] = "there was no time"
                continue
            loss, change = _chosen(own)
            base = float(np.exp(np.log(bases).mean()))
            noise = float(np.log(bases).std(ddof=1)) if len(bases) > 1 else 0.0
            screened.append(Screened(remedy, change, length, loss / base, noise))
            self.results[remedy.name] = self._trial(remedy.name, change, length, part, [loss], [base])
            self.untried.pop(remedy.name, None)
        return sorted(screened, key=lambda one: one.effect), part

    def _confirm(self, screened: Sequence[Screened], part: float) -> None:
        """Measures the effects of promising remedies on other seeds."""
        trials = self.trials
        chosen = [one for one in screened if one.effect < self._promising(one)][:MOST_CONFIRMED]
        allowed = CONFIRMING * trials.budget.remaining

        def seconds(part: float) -> float:
            found = sum(trials.seconds_of(one.change, part * one.length) for one in chosen)
            return CONFIRMED * (found + trials.seconds_of({}, part)) / trials.workers

        while chosen and 2 * part <= 1 and seconds(2 * part) <= allowed:
            part *= 2
        while len(chosen) > 1 and seconds(part) > 1.5 * allowed:
            chosen.pop()
        if not chosen:
            return
        self.announce(f"measuring the effects of {len(chosen)} remedies")
        trained = self._measure([(one.remedy.name, one.change, one.length) for one in chosen], part, CONFIRMED)
        count = CONFIRMED
        while count < SUREST:
            unsure = [
                (one.name, one.change, one.length)
                for one in trained
                if not one.helps and one.effect.value < self.worth
                and (2 * count <= SURER or one.name in self.suspects)
            ]  # fmt: skip
            asked = [*unsure, ("", {}, 1.0)]
            seconds_more = count * sum(trials.seconds_of(change, part * length) for _, change, length in asked)
            limit = allowed if count == CONFIRMED else min(allowed, CONFIRMING * trials.budget.remaining)
            if not unsure or seconds_more / trials.workers >= limit:
                break
            count *= 2
            surer = {trial.name: trial for trial in self._measure(unsure, part, count)}
            trained = [surer.get(trial.name, trial) for trial in trained]
        self.results |= {trial.name: trial for trial in trained}
        known = [*trained, *([self.best] if self.best else [])]
        helpful = [one for one in known if one.helps]
        likely = [one for one in known if one.effect.value < self.worth]
        certain = [one for one in helpful if one in likely]
        # What helps by too little to be recommended takes the place of nothing else.
        self.best = min(certain or likely or helpful, key=_for_its_cost, default=None)  # more time is added later

    def _promising(self, first: Screened) -> float:
        """Returns the effect of a first trial below which it is repeated on other seeds: a single one does not refute
        a suspect that is worse by no more than seeds differ."""
        least = max(PROMISING, self.worth)
        return least * math.exp(NOISE * first.noise) if first.remedy.name in self.suspects else least

    def _combine(self, remedies: dict[str, Remedy]) -> None:
        """Adds other remedies to the best one, as long as they improve it, and a longer training at the end."""
        if self.best is None:
            return
        lr, deadline = learning_rate(self.run), COMBINING * self.trials.budget.remaining
        spent = self.trials.budget.remaining
        others = sorted(
            (one for one in self.results.values() if one.effect.value < self.worth), key=lambda one: one.effect.value
        )
        names = [one.name for one in others if not _changes_only_what(one, self.best)][:MOST_ADDED]
        names += ["longer training"] * ("longer training" in remedies and " training" not in self.best.name)
        for name in dict.fromkeys(names):
            if spent - self.trials.budget.remaining > deadline:
                return
            self.announce(f"trying {self.best.name} with {name}")
            self._improve(f"{self.best.name} + {name}", combined(self.best.change, remedies[name], lr))

    def _improve(self, name: str, remedy: Remedy) -> None:
        """Makes a combination the best one if it is better."""
        best, trials = self.best, self.trials
        assert best is not None
        length = best.length * remedy.length
        if any(key not in best.change for key in remedy.variants[0]):
            longer = remedy.length * self._length_in_same_time(remedy.variants[0])
            length = max(length, longer, remedy.least_length)
        seeds = range(FIRST_SEED + 1, FIRST_SEED + 1 + best.seeds)
        known = trials.losses([Training(best.change, best.part * best.length, seed) for seed in seeds])
        first = trials.losses([Training(one, best.part * length, seeds[0]) for one in remedy.variants])
        loss, change = min(zip(first, remedy.variants, strict=True), key=lambda pair: pair[0])
        if loss > known[0]:
            return
        (trial,) = self._measure([(name, change, length)], best.part, best.seeds)
        if trial.loss < self.worth * float(np.exp(np.log(known).mean())):
            self.best = trial

    def _recheck(self) -> None:
        """Trains the best ones at growing lengths, and keeps the best at the greatest length there is time for."""
        trials = self.trials
        if self.best is None:
            return
        singles = sorted((one for one in self.results.values() if one.helps), key=lambda one: one.effect.value)
        best = self.best
        rivals = [best, *(one for one in singles if one.name != best.name)][:RIVALS]
        part = best.part
        while part < 1:
            part = min(1.0, 2 * part)

            def seconds(of: Sequence[Trial], part: float = part) -> float:
                return sum(trials.seconds_of(one.change, part * one.length) for one in of) + trials.seconds_of(
                    {}, part
                )

            while len(rivals) > 1 and seconds(rivals) / trials.workers > SPARE * trials.budget.remaining / 2:
                rivals = rivals[:-1]
            if seconds(rivals) / min(2, trials.workers) > SPARE * trials.budget.remaining:
                return
            self.announce(f"trying the best ones at {'their whole length' if part == 1 else f'{part:.2g} of it'}")
            each = seconds(rivals) / trials.workers
            count = next((seeds for seeds in (CONFIRMED, 2) if seeds * each < SPARE * trials.budget.remaining / 2), 1)
            found = self._measure([(one.name, one.change, one.length) for one in rivals], part, count)
            rivals = sorted((one for one in found if one.effect.value < self.worth), key=lambda one: one.effect.value)
            if not rivals:
                faded = {one.name: one for one in found}
                self.faded |= dict.fromkeys(faded, part)
                self.results |= {name: one for name, one in faded.items() if name in self.results}
                self.best = faded.get(best.name, best)
                return
            self.best = best = _preferred(rivals)

    def _stretch(self, remedies: dict[str, Remedy]) -> None:
        """Makes a training that became better by being longer, or shorter, still longer, or shorter."""
        trials = self.trials
        for name in ("longer training", "shorter training"):
            while self.best is not None and name in self.best.name and name in remedies and not self._is_solved():
                before, length = self.best, self.best.length * remedies[name].length
                seconds = trials.seconds_of(before.change, before.part * length, 1 + before.seeds)
                if length > MOST_STRETCHED or before.part * length < trials.shortest:
                    return
                if seconds > SPARE * trials.budget.remaining:
                    return
                self.announce(f"trying {number(length)} times the length")
                self._improve(before.name, Remedy(name, [before.change], remedies[name].length))
                if self.best is before:
                    return

    # --- Measurements

    def _measure(self, changes: Sequence[tuple[str, Change, float]], part: float, count: int) -> list[Trial]:
        """Returns the trials of changes, with names and lengths, on so many seeds; those that there was time for."""
        seeds = range(FIRST_SEED + 1, FIRST_SEED + 1 + count)
        asked = [Training({}, part, seed) for seed in seeds]
        asked += [Training(change, part * length, seed) for _, change, length in changes for seed in seeds]
        losses = self.trials.finished_losses(asked)
        rows = [losses[first : first + count] for first in range(0, len(losses), count)]
        found = []
        for (name, change, length), row in zip(changes, rows[1:], strict=True):
            pairs = [
                (one, base) for one, base in zip(row, rows[0], strict=True) if one is not None and base is not None
            ]
            if pairs:
                found.append(self._trial(name, change, length, part, *map(list, zip(*pairs, strict=True))))
        return found

    def _trial(
        self, name: str, change: Change, length: float, part: float, losses: list[float], without: list[float]
    ) -> Trial:
        trials = self.trials
        cost = length * trials.pace(change).timestep / max(trials.pace({}).timestep, 1e-12)
        loss = float(np.exp(np.log(losses).mean()))
        effect = of_ratio(np.maximum(losses, LEAST * np.array(without)), without)
        return Trial(name, dict(change), length, part, effect, loss, len(losses), min(cost, HOPELESS))


def _chosen(own: Sequence[tuple[float, Change]]) -> tuple[float, Change]:
    """Returns the variant with the least loss; the first one, which is the plainest, unless another is clearly
    better."""
    loss, change = min(own, key=lambda pair: pair[0])
    return own[0] if own[0][0] <= loss / WORTH else (loss, change)


def _for_its_cost(trial: Trial) -> float:
    """Returns the effect of a trial; what takes more time counts less, as in the order of causes."""
    return trial.effect.value * math.sqrt(max(1.0, trial.cost))


def _preferred(trials: Sequence[Trial]) -> Trial:
    """Returns the trial with the best effect; of those that are nearly as good, one that costs clearly less."""
    least = min(one.effect.value for one in trials)
    near = [one for one in trials if WORTH * one.effect.value <= least]
    return min(near, key=lambda one: (round(math.log2(max(one.cost, 1e-3))), one.effect.value))


def _changes_only_what(trial: Trial, best: Trial) -> bool:
    """Whether a remedy changes no other key than the best one does."""
    return set(trial.change) - {"optimizer.lr"} <= set(best.change)
