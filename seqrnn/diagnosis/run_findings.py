"""Findings that are read from a run's config and metrics: settings that stand out, and curves that show a failure.

They cost nothing. A setting that stands out, such as a hidden size of 1, is a cause only if a trial without it proves
so; what the run itself shows, such as a learning rate that never left its warm-up, is one even without trials.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seqrnn.diagnosis.causes import CAUSES
from seqrnn.diagnosis.command_line import usual_start
from seqrnn.diagnosis.instrument import Evidence, Finding
from seqrnn.diagnosis.intervals import Interval, number
from seqrnn.diagnosis.trained_run import TrainedRun

WARMED_UP = 0.5  # of optimizer.lr: a rate that never came higher was held back by the warm-up
CLIPPED = 5.0  # times clip_norm: a median norm of gradients from which on clipping decides about the steps
FEW_UNITS = 4
ACCUMULATED = 8  # windows in an update
MANY_STREAMS, FEW_UPDATES = 64, 500  # more streams than these in fewer updates than these
FEW_STREAMS, MANY = 2, 8  # so many streams, where so many times as many could be read
SHORT_TRAINING = 200  # updates
CUT_OFF = 0.25  # of the planned epochs
SHORT_WINDOW = 0.5  # of how far back the task depends on its past
OVERTRAINED = 1.05  # validation loss at the end by its least one
EARLY = 0.5  # part of the run, before which the least validation loss was
HEART = 1.1  # validation loss by training loss, at the end
RISEN = "validation loss at the end by the least one"
TAIL = 0.1  # part of the run that the training loss at the end is a mean over


def findings_of_run(run: TrainedRun) -> list[Finding]:
    """Returns all of them, in no order of importance."""
    return [*_too_little_learning(run), *_unsuitable_schedule(run), *_unsuitable_model(run), *_overtrained(run)]


def is_cut_off(run: TrainedRun) -> bool:
    """Whether the training ended after few updates, long before its epochs were over."""
    schedule = run.components.schedule.model_copy(update={"max_updates": None})
    if run.updates_made >= SHORT_TRAINING:
        return False
    planned = schedule.count_updates(run.components.task.train(0, schedule.streams))
    return run.updates_made < CUT_OFF * planned


def is_overtrained(run: TrainedRun) -> bool:
    """Whether the validation loss has risen while the training data was learned by heart."""
    return any(_overtrained(run))


def is_clipped_often(run: TrainedRun) -> bool:
    """Whether clipping decides about the size of most steps."""
    return _norm_by_clip_norm(run) > CLIPPED


def _norm_by_clip_norm(run: TrainedRun) -> float:
    """Returns the median norm of gradients by the one that they are scaled down to; 0: they are not, or unknown."""
    norms, clip_norm = _logged(run, "gradient_norm"), run.components.schedule.clip_norm
    return float(np.median(norms)) / clip_norm if clip_norm and len(norms) else 0.0


def _finding(remedy: str, description: str, *more: str, evidence: Evidence | None = None) -> Finding:
    cause = CAUSES[remedy]
    return Finding(
        name=cause.finding,
        title=cause.title,
        description=description,
        evidence=[evidence] if evidence else [],
        remedies=[remedy, *more],
    )


def _exact(quantity: str, value: float) -> Evidence:
    return Evidence(quantity=quantity, interval=Interval(value, value, value))


def _too_little_learning(run: TrainedRun) -> Iterator[Finding]:
    """Yields what kept updates small or few."""
    schedule, updates = run.components.schedule, run.updates_made
    reached = updates / schedule.warmup if schedule.warmup else 1.0
    if reached < WARMED_UP:
        yield _finding(
            "no warm-up",
            f"The warm-up of {schedule.warmup:,} updates is {number(1 / reached)} times as long as the training: the "
            f"learning rate came to {number(100 * reached)} % of optimizer.lr.",
            evidence=_exact("highest learning rate by optimizer.lr", reached),
        )
    if is_clipped_often(run):
        times = _norm_by_clip_norm(run)
        yield _finding(
            "looser clipping",
            f"Gradients are scaled down to a norm of {schedule.clip_norm:g}, and half of them have more than "
            f"{number(times)} times that, which a learning rate that is too large can bring about as well.",
            evidence=_exact("median norm of gradients by schedule.clip_norm", times),
        )
    if is_cut_off(run):
        yield _finding(
            "longer training",
            f"The training ended after {updates:,} updates, before its {schedule.epochs:,} epochs were over.",
        )


def _unsuitable_schedule(run: TrainedRun) -> Iterator[Finding]:
    schedule, task, longest = run.components.schedule, run.components.task, run.data.longest_batch_timesteps
    stride = schedule.stride or schedule.window or longest
    if (schedule.update_every or stride) >= ACCUMULATED * stride:
        yield _finding(
            "shorter accumulation",
            f"An update accumulates the gradients of {(schedule.update_every or stride) // stride:,} windows, so "
            f"that there were {run.updates_made:,} updates.",
        )
    if schedule.streams > MANY_STREAMS and run.updates_made < FEW_UPDATES:
        yield _finding(
            "fewer streams",
            f"An update is of {schedule.streams:,} streams, so that there were {run.updates_made:,} updates.",
        )
    more = MANY * schedule.streams
    if schedule.streams <= FEW_STREAMS and task.train(0, more)[0].streams >= more:
        one = "a single stream" if schedule.streams == 1 else f"{schedule.streams} streams"
        yield _finding("more streams", f"An update is of {one}, and the data has many.", "wider batch")
    if schedule.is_forward:
        return
    window, reach = schedule.window or longest, getattr(task, "reach", None) or 0
    if schedule.carry and window < longest and window <= SHORT_WINDOW * reach:
        yield _finding(
            "longer window",
            f"Gradients reach {window:,} timesteps back (schedule.window), and the task depends on {reach:,}.",
            *("exact gradients", "approximate gradients", "wider batch"),
        )
    if (not schedule.carry and window < longest) or getattr(task, "continued", None):
        between = "windows" if window < longest else "sequences that continue each other"
        yield _finding("carried state", f"The state is lost between {between}.", "longer window")


def _unsuitable_model(run: TrainedRun) -> Iterator[Finding]:
    model = run.values["model"]
    if (model.get("init_std") or {}) != usual_start(run):
        stds = ", ".join(f"{std:g}" for std in (model.get("init_std") or {}).values())
        yield _finding(
            "usual start",
            f"Initial weights have standard deviations of {stds or 'the default'} (model.init_std), not those of the "
            "cell.",
            "orthogonal start",
        )
    field = getattr(run.components.network.cell, "receptive_field", None)
    reach = getattr(run.components.task, "reach", None) or 0
    if field is not None and field < reach:
        yield _finding(
            "more blocks",
            f"An output depends on the latest {field:,} timesteps alone, and the task depends on {reach:,}: what is "
            "older changes nothing. More blocks (model.num_layers) or a larger kernel (model.kernel_size) make it "
            "look back farther.",
            evidence=_exact("receptive field by the timesteps that the task depends on", field / reach),
        )
    if model.get("hidden_size", math.inf) <= FEW_UNITS:
        units = "a single unit" if model["hidden_size"] == 1 else f"{model['hidden_size']} units"
        yield _finding("more units", f"The network has {units}.")


def _overtrained(run: TrainedRun) -> Iterator[Finding]:
    """Yields a finding where the validation loss has risen above the training loss, and the training data is known
    better than a trivial predictor knows it: a training that is merely unstable has learned nothing by heart."""
    losses, trained = _logged(run, "eval_loss")[1:], _logged(run, "train_loss")
    if len(losses) < 4 or not len(trained) or run.components.schedule.keeps_best:
        return
    least, last = float(losses.min()), float(losses[-1])
    known = float(trained[-max(1, round(TAIL * len(trained))) :].mean())
    place = (int(losses.argmin()) + 1) / len(losses)
    if place > EARLY or not last > max(OVERTRAINED * least, HEART * known) or not known < trivial_loss(run)[0]:
        return
    yield Finding(
        name="memorised",
        title="It learns its training data by heart",
        description=f"Its validation loss was least, {number(least)}, after {number(100 * place)} % of the training, "
        f"and has risen to {number(last)}, while the training loss is {number(known)}.",
        evidence=[_exact(RISEN, last / least)],
        remedies=["best weights", "shorter training", "weight decay", "dropout", "fewer units"],
    )


def trivial_loss(run: TrainedRun) -> tuple[float, str]:
    """Returns the test loss, in the summary, of the best trivial predictor, and its name; infinite: there is none."""
    baselines: Any = run.summary.get("baselines") or {}
    losses = [(scores.get("loss"), name) for name, scores in baselines.items() if not name.startswith("floor")]
    return min((pair for pair in losses if isinstance(pair[0], float)), default=(math.inf, ""))


def _logged(run: TrainedRun, name: str) -> NDArray[np.float64]:
    """Returns the finite values of a metric."""
    values = np.asarray(run.metrics.get(name, []), np.float64)
    return values[np.isfinite(values)]
