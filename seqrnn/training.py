"""Trains a run in this process, without a run directory: for trials, studies, benchmarks and tests."""

from __future__ import annotations

from collections.abc import Callable

from seqrnn import evaluation, loop
from seqrnn.components import Components
from seqrnn.monitor import Monitor, Progress, Row
from seqrnn.strategies.choice import choose
from seqrnn.strategies.protocol import Strategy

Scores = dict[str, float]


def planned_updates(components: Components) -> int:
    """Returns how many updates the schedule makes at most."""
    schedule = components.schedule
    return schedule.count_updates(components.task.train(0, schedule.streams))


def validation_scorer(components: Components) -> Callable[[], Scores]:
    """Returns a function that scores the network, as it is then, on the validation data, which is read once, here."""
    task, batches = components.task, components.task.validation()

    def score() -> Scores:
        predictions = evaluation.predict(components.network, batches, components.context)
        return evaluation.score(predictions, task, components.loss)

    return score


def fit(
    components: Components,
    evaluate: Callable[[Progress], Scores] | None = None,
    *,
    strategy: Strategy | None = None,
    evaluate_every: int | None = None,
    record: Callable[[Row], None] = lambda row: None,
    announce: Callable[[str], None] = lambda text: None,
) -> Progress:
    """Trains the network of ``components`` as its schedule says, and returns how far it got. Writes no files.

    Args:
        evaluate: is given the progress so far and returns metrics, ``loss`` among them; None: scores the validation
            data.
        strategy: computes the updates; None: the one that ``seqrnn.strategies.choice.choose`` returns.
        evaluate_every: updates of the schedule between evaluations; None: as the schedule says.
        record: is given each row of metrics.
        announce: is given a line before compiled code is compiled.

    Raises:
        ConfigError: ``kernel=compiled``, where compiled code does not apply.
        Diverged: the loss or the gradient became NaN or infinite; the weights are those before that update.
    """
    schedule = components.schedule
    score = validation_scorer(components) if evaluate is None else None
    strategy = strategy or choose(components)
    strategy.prepare(announce)
    monitor = Monitor(
        planned_updates(components),
        score or (lambda: evaluate(monitor.progress)),  # type: ignore[misc]
        evaluate_every=evaluate_every or schedule.evaluate_every,
        log_every=components.settings.log_every,
        patience=schedule.patience,
        advice=schedule.divergence_advice,
        record=record,
    )
    loop.train(components.task, schedule, strategy, monitor)
    return monitor.progress
