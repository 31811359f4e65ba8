"""Statistics of the units and gates of a network along sampled timesteps.

N timesteps, G groups of timesteps that are independent of each other, I inputs, H units.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import logsigmoid

from seqrnn.diagnosis.budget import Budget
from seqrnn.diagnosis.intervals import Interval, Numbers, of_mean, resampled, spread
from seqrnn.diagnosis.state_records import Gate, Units
from seqrnn.diagnosis.trajectories import Steps
from seqrnn.kernels.specification import Activation, CellSpecification, Recurrence, recurrence_of
from seqrnn.models.protocol import specification_of

SATURATED = 0.95
ALWAYS = 0.95  # of the time
DEAD = 1e-3  # of the median unit's standard deviation
SAME = 0.99  # correlation
CLOSED, OPEN = 0.05, 0.95
RESAMPLES, FEWEST_RESAMPLES = 99, 39  # of a statistic that takes an eigenvalue decomposition
NUMBERS = 2**26  # of all resampled covariances, at most
LIMITED = {"sigmoid": torch.sigmoid, "tanh": torch.tanh}  # activations of gates
IN_SATURATION: dict[str, Callable[[Tensor], Tensor]] = {  # by the activation in a cell's specification
    "tanh": lambda h: h.abs() > SATURATED,
    "clip": lambda h: (h <= 0) | (h >= 1),
}


def layers_of(steps: Steps, specification: CellSpecification | None) -> list[tuple[str, Tensor]]:
    """Returns names and activations (N, H) of the layers. Of a cell without a specification, only the outputs are
    known to be activations."""
    if specification is None:
        return [("outputs", steps.outputs)]
    hidden = steps.after[0]
    return [(f"layer {number + 1}", h) for number, h in enumerate(hidden)]


def units_of(name: str, h: Tensor, groups: Tensor, activation: Activation | None, budget: Budget) -> Units:
    """Returns statistics of outputs (N, H) of N timesteps, which belong to independent ``groups`` (N,).

    Args:
        activation: the one in the cell's specification; None if that is not known.

    Raises:
        TooSlow: there are too many units for the time that is left.
    """
    values: Numbers = h.detach().double().cpu().numpy()
    numbers: NDArray[np.int64] = groups.numpy()
    count = int(numbers.max()) + 1
    timesteps = np.bincount(numbers, minlength=count)

    saturated = always = None
    if activation in IN_SATURATION:
        inside = _group_sums(IN_SATURATION[activation](h).double().cpu().numpy(), numbers)  # (G, H)
        shares = inside / timesteps[:, None]
        saturated = of_mean(shares.mean(axis=1))
        always = _bootstrapped(inside, timesteps, lambda sums, total: float((sums / total > ALWAYS).mean()))

    origin = values.mean(axis=0)  # so that sums of squares do not lose the small against the large
    centred = values - origin
    moments = np.concatenate([_group_sums(centred, numbers)[:, None], _products(centred, numbers, count)], axis=1)
    active = _group_sums((values != 0).astype(np.float64), numbers)  # (G, H)
    rectified = activation == "relu"

    def dead(sums: Numbers, total: float) -> float:
        return float((sums == 0).mean() if rectified else _dead(_covariance(sums, total)).mean())

    covariance = _covariance(moments.sum(axis=0), float(timesteps.sum()))
    times = [budget.remaining]
    for _ in range(2):  # the first one may be slow, for reasons of its own
        _duplicates_and_ranks(covariance)
        times.append(budget.remaining)
    seconds = 2 * min(before - after for before, after in pairwise(times))  # of a resample, with drawing it
    fitting = min(RESAMPLES, NUMBERS // moments[0].size)
    if fitting < FEWEST_RESAMPLES:
        raise budget.too_slow()
    resamples = budget.affordable(fitting, seconds, FEWEST_RESAMPLES)
    samples = _samples(moments, timesteps, resamples)
    found = [_duplicates_and_ranks(_covariance(sums, total)) for sums, total in samples]
    duplicates, effective, participation = (np.array(part) for part in zip(*found, strict=True))
    return Units(
        name=name,
        units=values.shape[1],
        saturated=saturated,
        always_saturated=always,
        dead=_bootstrapped(active if rectified else moments, timesteps, dead, resamples),
        duplicate=spread(float(duplicates[0]), duplicates[1:], count),
        effective_rank=_centred(effective, count),
        participation_ratio=_centred(participation, count),
    )


def _group_sums(values: Numbers, groups: NDArray[np.int64]) -> Numbers:
    """Returns sums (G, H) of values (N, H) over the timesteps of each group."""
    sums = torch.zeros(int(groups.max()) + 1, values.shape[1], dtype=torch.float64)
    found: Numbers = sums.index_add_(0, torch.from_numpy(groups), torch.from_numpy(values)).numpy()
    return found


def _products(values: Numbers, groups: NDArray[np.int64], count: int) -> Numbers:
    """Returns sums (G, H, H) of products over the timesteps of each group."""
    parts = (torch.from_numpy(values[groups == group]) for group in range(count))
    found: Numbers = torch.stack([part.T @ part for part in parts]).numpy()
    return found


def _samples(sums: Numbers, timesteps: NDArray[np.int64], resamples: int) -> list[tuple[Numbers, float]]:
    """Returns sums over all groups, and their number of timesteps: first as they are, then of groups drawn with
    repetition."""
    weighed = np.concatenate([sums.reshape(len(sums), -1), timesteps[:, None]], axis=1)
    drawn = np.concatenate([weighed.sum(axis=0)[None], resampled(weighed, resamples)])
    return [(row[:-1].reshape(sums.shape[1:]), float(row[-1])) for row in drawn]


def _bootstrapped(
    sums: Numbers,
    timesteps: NDArray[np.int64],
    statistic: Callable[[Numbers, float], float],
    resamples: int = RESAMPLES,
) -> Interval:
    found = np.array([statistic(part, total) for part, total in _samples(sums, timesteps, resamples)])
    return spread(float(found[0]), found[1:], len(sums))


def _centred(found: Numbers, count: int) -> Interval:
    """Returns the interval of a rank. Fewer different groups have a lower rank, so resampled ranks lie below the
    value; they are moved so that their mean is the value."""
    return spread(float(found[0]), found[1:] - found[1:].mean() + found[0], count)


def _covariance(moments: Numbers, total: float) -> Numbers:
    """Returns the covariance (H, H) from sums (1 + H, H): of the values, and of their products."""
    mean = moments[0] / total
    covariance: Numbers = moments[1:] / total - np.outer(mean, mean)
    return covariance


def _dead(covariance: Numbers) -> NDArray[np.bool_]:
    deviation = np.sqrt(np.maximum(np.diag(covariance), 0))
    still: NDArray[np.bool_] = (deviation <= DEAD * np.median(deviation)) | (deviation < 1e-12)
    return still


def _duplicates_and_ranks(covariance: Numbers) -> tuple[float, float, float]:
    return (_duplicates(covariance), *_ranks(covariance))


def _duplicates(covariance: Numbers) -> float:
    """Returns the share of units that vary like another one; dead units do not vary."""
    living = np.flatnonzero(~_dead(covariance))
    deviation = np.sqrt(np.diag(covariance)[living])
    correlation = np.abs(covariance[np.ix_(living, living)] / np.outer(deviation, deviation))
    np.fill_diagonal(correlation, 0.0)
    return float((correlation > SAME).any(axis=1).sum()) / len(covariance)


def _ranks(covariance: Numbers) -> tuple[float, float]:
    """Returns effective rank and participation ratio; 0 where nothing varies."""
    eigenvalues = np.maximum(torch.linalg.eigvalsh(torch.from_numpy(covariance)).numpy(), 0.0)
    eigenvalues[eigenvalues < eigenvalues.max() * len(covariance) * np.finfo(np.float64).eps] = 0.0  # rounding
    if not eigenvalues.any():
        return 0.0, 0.0
    shares = np.sqrt(eigenvalues) / np.sqrt(eigenvalues).sum()  # of the singular values
    shares = shares[shares > 0]
    rank = float(np.exp(-(shares * np.log(shares)).sum()))
    return rank, float(eigenvalues.sum() ** 2 / (eigenvalues**2).sum())


def gates_of(cell: Any, steps: Steps) -> list[Gate]:
    """Returns every gate of every layer that is limited: one without limits is neither open nor closed."""
    specification = specification_of(cell)
    if specification is None:
        return []
    hidden, below = steps.before[0], steps.inputs
    groups = steps.groups.numpy()
    timesteps = np.bincount(groups)
    found = []
    for number, h in enumerate(hidden):
        values_of_gates = gate_values(cell, number, below, h)
        for gate in specification.gates:
            if gate.name not in values_of_gates:
                continue
            values = values_of_gates[gate.name]
            lowest = -SATURATED if gate.activation == "tanh" else CLOSED
            shares = [
                _group_sums(part.double().cpu().numpy(), groups).mean(axis=1) / timesteps
                for part in (values, values < lowest, values > OPEN)
            ]
            mean, closed, opened = (of_mean(share) for share in shares)
            found.append(
                Gate(
                    layer=number + 1,
                    name=gate.name,
                    activation=gate.activation,
                    mean=mean,
                    below=closed,
                    above=opened,
                )
            )
        below = steps.after[0][number]
    return found


def gate_values(cell: Any, layer: int, inputs: Tensor, h: Tensor) -> dict[str, Tensor]:
    """Returns the gates (N, H) with limits, as the cell uses them, by name, of a layer with inputs (N, I) and state h
    (N, H) before the timestep, of a cell with a specification."""
    recurrence, specification = recurrence_of(cell), specification_of(cell)
    assert specification is not None
    gates = specification.gates
    if not gates:
        return {}
    if recurrence is None:
        sums = cell.gate_sums(layer, inputs, h).detach()
        parts = [torch.split(sums, h.shape[1], dim=1), [h.new_zeros(()) for _ in gates]]
    else:
        parts = [torch.split(part, h.shape[1], dim=1) for part in _sums(recurrence, layer, inputs, h)]
    values: dict[str, Tensor] = {}
    logarithms: dict[str, Tensor] = {}  # of gates that are normalised, of which all may be nearly 0
    for gate, of_inputs, of_state in zip(gates, *parts, strict=True):
        if gate.state_scale is not None:
            of_state = values[gate.state_scale] * of_state
        if gate.activation in LIMITED:
            values[gate.name] = LIMITED[gate.activation](of_inputs + of_state)
        if gate.is_normalised:
            logarithms[gate.name] = logsigmoid(of_inputs + of_state)
    if logarithms:
        shares = torch.stack(list(logarithms.values())).softmax(dim=0)
        values.update(zip(logarithms, shares, strict=True))
    return values


def _sums(recurrence: Recurrence, number: int, inputs: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
    """Returns what inputs (N, I) and state (N, H) add to the sums of the gates of a layer, (N, G · H) each."""
    layer, specification = recurrence.layers[number], recurrence.specification
    matrices = [matrix.detach() if layer.transposed else matrix.detach().T for matrix in layer.matrices]
    if not specification.state_in_sums:
        matrices.append(h.new_zeros(len(specification.gates) * recurrence.size, h.shape[1]))
    from_inputs, from_state = (
        matrices if len(matrices) == 2 else torch.split(matrices[0], [layer.inputs, h.shape[1]], dim=1)
    )
    biases = [bias.detach() for bias in layer.biases]
    inputs_part = inputs @ from_inputs.T + (biases[0] if biases else 0.0)
    return inputs_part, h @ from_state.T + (biases[1] if len(biases) == 2 else 0.0)
