"""What might help, as changes of the config that can be tried."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from seqrnn.diagnosis.command_line import another_cell, usual_start
from seqrnn.diagnosis.instrument import Examination
from seqrnn.diagnosis.instruments.rates import Rates
from seqrnn.diagnosis.instruments.truncation import Truncation
from seqrnn.diagnosis.run_findings import FEW_STREAMS, MANY_STREAMS, is_clipped_often, is_cut_off
from seqrnn.diagnosis.trained_run import TrainedRun
from seqrnn.diagnosis.trials import Change
from seqrnn.kernels.specification import recurrence_of
from seqrnn.models.network import Network
from seqrnn.models.protocol import specification_of

STREAMS = 16  # instead of fewer; more are quadrupled
ACCUMULATED = 50  # timesteps of an update
UNITS = 32  # at least, instead of fewer; more are doubled
MOST_BLOCKS = 12  # of a temporal convolution
FEW_UNITS = 8  # that are not made fewer
LONGER, MUCH_LONGER = 4.0, 16.0  # times, of a longer training; of one that was cut off early
SHORTER = 0.25  # times
WHOLE = 3.0  # times the window: sequences that are no longer are read whole
ALIKE = 2.0  # factor between two rates that are not both worth trying
WHOLE_WINDOWS = {"schedule.stride": None, "schedule.update_every": None}
WEIGHT_DECAYS = {"adamw": (0.1, 1.0)}  # instead of the usual ones below
USUAL_WEIGHT_DECAYS = 1e-4, 1e-3, 1e-2


@dataclass(frozen=True)
class Remedy:
    """A change of the config that may help.

    Args:
        name: for reports, such as "longer window".
        variants: of which one is chosen.
        length: how many times as many timesteps it is trained on.
        least_length: the same, at least, where timesteps become cheaper: they are then as many as there is time for.
    """

    name: str
    variants: Sequence[Change]
    length: float = 1.0
    least_length: float = 0.0


def remedies_for(names: Sequence[str], found: Examination, run: TrainedRun) -> list[Remedy]:
    """Returns those of the named remedies that change this run's config."""
    possible = {remedy.name: remedy for remedy in [*_of_rates(found, run), *_of_others(found, run)]}
    return [possible[name] for name in dict.fromkeys(names) if name in possible and possible[name].variants]


def combined(change: Change, remedy: Remedy, lr: float | None) -> Remedy:
    """Returns a remedy added to a change that helps, at the learning rate of that change and rates around it."""
    added = {key: value for key, value in remedy.variants[0].items() if key != "optimizer.lr"}
    both = {**change, **added}
    if lr is None or remedy.length != 1:
        return Remedy(remedy.name, [both], remedy.length)
    rate = float(change.get("optimizer.lr", lr))
    return Remedy(remedy.name, [{**both, "optimizer.lr": _rounded(rate * factor)} for factor in (1, 1 / 3, 3)])


def _of_rates(found: Examination, run: TrainedRun) -> Iterator[Remedy]:
    """Yields the remedies that change steps and nothing else."""
    lr = learning_rate(run)
    if lr is None:
        return
    best = _best_rate(found, lr)
    near = [best, _rounded(best / 4)]
    is_known = found.get(Rates) is not None
    others = (4,) if is_known else (4, 32, 256, 2048)
    larger = _distinct([*near, *(_rounded(lr * factor) for factor in others)], above=lr)
    smaller = _distinct([*near, *(_rounded(lr / factor) for factor in (*others, 16))], below=lr)
    yield Remedy("larger learning rate", [{"optimizer.lr": rate} for rate in larger])
    yield Remedy("smaller learning rate", [{"optimizer.lr": rate} for rate in smaller])
    if run.components.schedule.lr_decay == "constant":
        yield Remedy("decaying rate", _at({"schedule.lr_decay": "cosine"}, lr, [lr, _rounded(4 * lr), best]))
    if run.components.schedule.warmup:
        yield Remedy("no warm-up", [{"schedule.warmup": 0}])


def _of_others(found: Examination, run: TrainedRun) -> Iterator[Remedy]:
    values, components, lr = run.values, run.components, learning_rate(run)
    schedule, model = components.schedule, values["model"]
    if "hidden_size" in model:
        units = int(model["hidden_size"])
        enlarged = max(UNITS, 4 * units) if units < UNITS else 2 * units
        yield Remedy("more units", [{"model.hidden_size": enlarged}])
    if blocks := _more_blocks(run):
        yield Remedy("more blocks", [{"model.num_layers": blocks}])
    if everything := getattr(components.task, "all_inputs", {}):
        yield Remedy("all inputs", [{f"task.{key}": value for key, value in everything.items()}])
    if lr is None:
        return  # such as ridge regression: nothing about its training can be changed
    best = _best_rate(found, lr)
    rates = [lr, best, _rounded(4 * lr)]
    yield Remedy("longer training", [{}], MUCH_LONGER if is_cut_off(run) else LONGER)
    yield Remedy("shorter training", [{}], SHORTER)
    wider, more = _wider(found, run), _more_streams(run)
    decay: Change = {"schedule.lr_decay": "cosine"} if schedule.lr_decay == "constant" else {}
    if wider:
        yield Remedy("longer window", [*_at(wider, lr, rates), *_wider_still(wider, run)])
    if carried := _carried(run):
        yield Remedy("carried state", _at(carried, lr, [lr, best]))
    if more:
        as_many_updates = more["schedule.streams"] / schedule.streams if schedule.streams <= FEW_STREAMS else 0.0
        yield Remedy(
            "more streams", _at(more, lr, [lr, best, _rounded(4 * best)]), least_length=float(as_many_updates)
        )
    if wider or more:
        yield Remedy(
            "wider batch", _at({**wider, **more, **decay}, lr, [best, _rounded(4 * best), _rounded(25 * lr)])
        )
    if schedule.streams >= 4:
        fewer = [max(1, schedule.streams // 8)] + [schedule.streams // 32] * (schedule.streams > MANY_STREAMS)
        yield Remedy("fewer streams", [{"schedule.streams": count} for count in fewer])
    if (schedule.update_every or 0) > (schedule.stride or schedule.window or math.inf):
        yield Remedy("shorter accumulation", _at({"schedule.update_every": None}, lr, [lr, _rounded(lr / 4)]))
    if schedule.window and run.update_timesteps < ACCUMULATED:
        stride = int(schedule.stride or schedule.window)
        yield Remedy(
            "longer accumulation", _at({"schedule.update_every": stride * -(-ACCUMULATED // stride)}, lr, rates)
        )
    if schedule.window and schedule.carry and schedule.stride in (None, schedule.window) and not schedule.is_forward:
        exact: Change = {"schedule.gradient": "rtrl"}
        yield Remedy("exact gradients", _at(exact, lr, [lr, best]))
        if has_approximation(components.network):
            yield Remedy("approximate gradients", _at({"schedule.gradient": "snap1"}, lr, [lr, best]))
    if model.get("hidden_size", 0) > FEW_UNITS:
        units = int(model["hidden_size"])
        fewer = sorted({max(FEW_UNITS // 2, units // 8), max(FEW_UNITS // 2, units // 32)}, reverse=True)
        yield Remedy("fewer units", [{"model.hidden_size": count} for count in fewer])
    if not schedule.keeps_best:
        yield Remedy("best weights", [{"schedule.keep": "best"}])
    if "weight_decay" in values["optimizer"]:
        decays = WEIGHT_DECAYS.get(values["optimizer"]["name"], USUAL_WEIGHT_DECAYS)
        present = float(values["optimizer"]["weight_decay"])
        yield Remedy("weight decay", [{"optimizer.weight_decay": one} for one in decays if one > present])
    if model.get("num_layers", 1) > 1 and not model.get("dropout"):
        yield Remedy("dropout", [{"model.dropout": 0.2}])
    if schedule.clip_norm is None or schedule.clip_norm > 1:
        yield Remedy("clipped gradients", [{"schedule.clip_norm": 1.0}, {"schedule.clip_norm": 0.1}])
    if schedule.clip_norm is not None and (schedule.clip_norm < 1 or is_clipped_often(run)):
        yield Remedy("looser clipping", [{"schedule.clip_norm": max(1.0, 10 * schedule.clip_norm)}])
    if (model.get("init_std") or {}) != (usual := usual_start(run)):
        yield Remedy("usual start", [{"model.init_std": usual}])
    if model.get("recurrent_init") == "default" and len(components.network.cell.recurrent_weights()):
        yield Remedy("orthogonal start", [{"model.recurrent_init": "orthogonal"}])
    specification = specification_of(components.network.cell)
    if "hidden_size" in model and not (specification and specification.gates):
        yield Remedy("gated cell", [{"model": another_cell("gru", model)}])


def _more_blocks(run: TrainedRun) -> int | None:
    """Returns how many blocks of a temporal convolution look back as far as the task depends on its past, or as its
    windows are long; None if those that it has do, or it is another cell."""
    cell, schedule = run.components.network.cell, run.components.schedule
    field = getattr(cell, "receptive_field", None)
    if field is None or not {"num_layers", "kernel_size"} <= set(run.values["model"]):
        return None
    needed = getattr(run.components.task, "reach", None) or schedule.reach or run.data.longest_batch_timesteps
    blocks = int(run.values["model"]["num_layers"])
    while field < needed and blocks < MOST_BLOCKS:
        field, blocks = field + 2 * (int(run.values["model"]["kernel_size"]) - 1) * 2**blocks, blocks + 1
    return blocks if blocks > int(run.values["model"]["num_layers"]) else None


def learning_rate(run: TrainedRun) -> float | None:
    """Returns the run's learning rate; None if its optimizer has none."""
    lr = run.values["optimizer"].get("lr")
    return None if lr is None else float(lr)


def _best_rate(found: Examination, lr: float) -> float:
    rates = found.get(Rates)
    return rates.best if rates else lr


def _wider(found: Examination, run: TrainedRun) -> Change:
    """Returns a longer window: one that the truncation instrument found to suffice, one that reaches as far back as
    the task depends on its past, or one four times as long."""
    schedule, truncation = run.components.schedule, found.get(Truncation)
    if not schedule.reach or schedule.is_forward:
        return {}
    reach = getattr(run.components.task, "reach", None) or 0
    sufficient = max(truncation.sufficient_window if truncation else 0, reach)
    window = sufficient if sufficient > schedule.reach else 4 * schedule.reach
    window = min(window, run.data.longest_batch_timesteps)
    return {"schedule.window": window, **WHOLE_WINDOWS} if window > schedule.reach else {}


def _wider_still(wider: Change, run: TrainedRun) -> list[Change]:
    """Returns a window in which most timesteps have as much of the past as ``wider`` gives the last of them: one that
    is twice as long, or the whole sequences where these are not much longer."""
    longest, window = run.data.longest_batch_timesteps, int(wider["schedule.window"])
    wanted = longest if longest <= WHOLE * window else 2 * window
    return [{**wider, "schedule.window": wanted}] if wanted > window else []


def has_approximation(network: Network) -> bool:
    """Whether gradients can be computed forwards in time from the influence of parameters on their own unit alone,
    and that is another gradient than the exact one."""
    recurrence = recurrence_of(network.cell)
    return (
        recurrence is not None
        and len(recurrence.layers) == 1
        and not recurrence.specification.has_diagonal_recurrence
    )


def _more_streams(run: TrainedRun) -> Change:
    present = run.components.schedule.streams
    streams = STREAMS if present < STREAMS else 4 * present
    has = run.components.task.train(0, streams)[0].streams >= streams
    return {"schedule.streams": streams} if has else {}


def _carried(run: TrainedRun) -> dict[str, Any]:
    """Returns what makes the state cross from one window, or from one sequence, to the next."""
    schedule, task = run.components.schedule, run.components.task
    settings: Change = getattr(task, "continued", {})
    change: dict[str, Any] = {f"task.{key}": value for key, value in settings.items()}
    if not schedule.carry:
        change["schedule.carry"] = True
    if change and schedule.window is None:
        change["schedule.window"] = run.data.first_batch_timesteps
    return change if settings or schedule.window is not None else {}


def _at(change: Change, lr: float, rates: Sequence[float]) -> list[Change]:
    """Returns a change at each of the rates; at the run's own without one."""
    return [
        change if rate == lr else {**change, "optimizer.lr": rate}
        for rate in _distinct(rates)
        if change or rate != lr
    ]


def _distinct(rates: Sequence[float], above: float = 0.0, below: float = math.inf) -> list[float]:
    """Returns those of the rates that lie within bounds, without any that is much like an earlier one."""
    chosen: list[float] = []
    for rate in rates:
        if above < rate < below and all(max(rate / one, one / rate) >= ALIKE for one in chosen):
            chosen.append(rate)
    return chosen


def _rounded(rate: float) -> float:
    return float(f"{rate:.3g}")
