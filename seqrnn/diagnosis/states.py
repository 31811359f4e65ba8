"""How the units of a trained network are used along real trajectories of its task.

Per layer, over the timesteps of evaluation sequences:

saturated   the share of (unit, timestep) pairs whose activation has hardly any slope left: |h| > 0.95 where outputs
            have the range of tanh (tanh' < 0.1), h at a limit where they are clipped to [0, 1]. And the share of
            units of which that is so more than 95 % of the time. It has no meaning for relu, nor for a cell whose
            equations are not known.
dead        units that say nothing: of relu, those that are always 0; of the others, those whose standard deviation
            is below 1e-3 of the median unit's.
duplicate   units that vary like another one: |correlation| > 0.99, counted with both. They are capacity not in use,
            and natural where the task's own state has few dimensions.
rank        the effective rank of Roy & Vetterli (2007), eq. 2 and 3, of the centred states: exp of the entropy of the
            singular values as shares of their sum; and the participation ratio (Σλ)² / Σλ² of the covariance's
            eigenvalues λ, which weighs the small directions less.
gates       those of the cell's specification, computed from the parameters of ``cell.recurrence()``. "Below" and
            "above" mean 0.05 and 0.95 for a gate whose activation is the sigmoid, −0.95 and 0.95 for tanh.

Intervals are over independent sequences (Student's t; for counts and ranks the bootstrap), or over blocks of time
where there are few sequences. The Jacobian is in ``seqrnn.diagnosis.jacobian``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from seqrnn.diagnosis import jacobian
from seqrnn.diagnosis.intervals import Interval, Numbers, of_mean, resampled, spread
from seqrnn.diagnosis.jacobian import Jacobian
from seqrnn.diagnosis.subject import Subject
from seqrnn.diagnosis.trajectories import Steps, sampled_steps
from seqrnn.kernels.specification import Activation, Layer, Recurrence, recurrence_of

SATURATED = 0.95
ALWAYS = 0.95  # of the time
DEAD = 1e-3  # of the median unit's standard deviation
SAME = 0.99  # correlation
CLOSED, OPEN = 0.05, 0.95
RESAMPLES = 99  # of a statistic that takes an eigenvalue decomposition
IN_SATURATION: dict[str, Callable[[Tensor], Tensor]] = {  # by the activation in a cell's specification
    "tanh": lambda h: h.abs() > SATURATED,
    "clip": lambda h: (h <= 0) | (h >= 1),
}


@dataclass(frozen=True)
class Units:
    """The units of one layer.

    Args:
        name: which layer, counted from 1; or what else the units are.
        units: how many there are.
        saturated: share of (unit, timestep) pairs; None where saturation has no meaning.
        always_saturated: share of units; None likewise.
        dead, duplicate: share of units.
        effective_rank, participation_ratio: of at most ``units``.
    """

    name: str
    units: int
    saturated: Interval | None
    always_saturated: Interval | None
    dead: Interval
    duplicate: Interval
    effective_rank: Interval
    participation_ratio: Interval


@dataclass(frozen=True)
class Gate:
    """A gate of one layer, over units and timesteps: its mean, and how often it is below 0.05 and above 0.95."""

    layer: int
    name: str
    mean: Interval
    below: Interval
    above: Interval


@dataclass(frozen=True)
class States:
    """
    Args:
        steps: timesteps that were looked at.
        over: what the intervals are over.
        layers: the units of each layer; the last one's are the cell's outputs.
        gates: empty if the cell's specification has none.
        state_size: numbers that the cell remembers: all parts of its state, of all layers.
        jacobian: None if the state is too large for it.
    """

    steps: int
    over: str
    layers: list[Units]
    gates: list[Gate]
    state_size: int
    jacobian: Jacobian | None


def measure(subject: Subject) -> States:
    """Looks at the states of the evaluation sequences."""
    steps = sampled_steps(subject)
    recurrence = recurrence_of(subject.network.cell)
    activation = recurrence.specification.activation if recurrence else None
    return States(
        steps=len(steps.inputs),
        over=steps.over,
        layers=[units_of(name, h, steps.cases, activation) for name, h in _layers(steps, recurrence)],
        gates=gates_of(recurrence, steps) if recurrence else [],
        state_size=sum(part.shape[0] * part.shape[2] for part in steps.before),
        jacobian=jacobian.along(subject.network, steps),
    )


def _layers(steps: Steps, recurrence: Recurrence | None) -> list[tuple[str, Tensor]]:
    """Names and activations (N, H). Of a cell that does not say what it computes, only its outputs are known to be
    activations."""
    if recurrence is None:
        return [("outputs", steps.outputs)]
    hidden = steps.after[0]
    return [(f"layer {number + 1}", h) for number, h in enumerate(hidden)]


def units_of(name: str, h: Tensor, cases: Tensor, activation: Activation | None) -> Units:
    """Returns statistics of outputs (N, H) of N timesteps, which belong to independent ``cases`` (N,).

    ``activation`` is the one in the cell's specification; None if that is not known.
    """
    values: Numbers = h.detach().double().cpu().numpy()
    numbers: NDArray[np.int64] = cases.numpy()
    count = int(numbers.max()) + 1
    timesteps = np.bincount(numbers, minlength=count)

    saturated = always = None
    if activation in IN_SATURATION:
        inside = _per_case(IN_SATURATION[activation](h).double().cpu().numpy(), numbers)  # (C, H)
        shares = inside / timesteps[:, None]
        saturated = of_mean(shares.mean(axis=1))
        always = _bootstrapped(inside, timesteps, lambda sums, total: float((sums / total > ALWAYS).mean()))

    origin = values.mean(axis=0)  # so that sums of squares do not lose the small against the large
    centred = values - origin
    moments = np.concatenate([_per_case(centred, numbers)[:, None], _products(centred, numbers, count)], axis=1)
    alive = _per_case((values != 0).astype(np.float64), numbers)  # (C, H)
    rectified = activation == "relu"

    def dead(sums: Numbers, total: float) -> float:
        return float((sums == 0).mean() if rectified else _dead(_covariance(sums, total)).mean())

    samples = _samples(moments, timesteps)
    covariances = [_covariance(sums, total) for sums, total in samples]
    found = [(_duplicates(covariance), *_ranks(covariance)) for covariance in covariances]
    duplicates, effective, participation = (np.array(part) for part in zip(*found, strict=True))
    return Units(
        name=name,
        units=values.shape[1],
        saturated=saturated,
        always_saturated=always,
        dead=_bootstrapped(alive if rectified else moments, timesteps, dead),
        duplicate=spread(float(duplicates[0]), duplicates[1:], count),
        effective_rank=_centred(effective, count),
        participation_ratio=_centred(participation, count),
    )


def _per_case(values: Numbers, cases: NDArray[np.int64]) -> Numbers:
    """Sums (C, H) of values (N, H) over the timesteps of each case."""
    sums = torch.zeros(int(cases.max()) + 1, values.shape[1], dtype=torch.float64)
    found: Numbers = sums.index_add_(0, torch.from_numpy(cases), torch.from_numpy(values)).numpy()
    return found


def _products(values: Numbers, cases: NDArray[np.int64], count: int) -> Numbers:
    """Sums (C, H, H) of products over the timesteps of each case."""
    groups = (torch.from_numpy(values[cases == case]) for case in range(count))
    found: Numbers = torch.stack([group.T @ group for group in groups]).numpy()
    return found


def _samples(sums: Numbers, timesteps: NDArray[np.int64]) -> list[tuple[Numbers, float]]:
    """Sums over all cases, and their number of timesteps: first as they are, then of cases drawn with repetition."""
    weighed = np.concatenate([sums.reshape(len(sums), -1), timesteps[:, None]], axis=1)
    drawn = np.concatenate([weighed.sum(axis=0)[None], resampled(weighed, RESAMPLES)])
    return [(row[:-1].reshape(sums.shape[1:]), float(row[-1])) for row in drawn]


def _bootstrapped(
    sums: Numbers, timesteps: NDArray[np.int64], statistic: Callable[[Numbers, float], float]
) -> Interval:
    found = np.array([statistic(part, total) for part, total in _samples(sums, timesteps)])
    return spread(float(found[0]), found[1:], len(sums))


def _centred(found: Numbers, count: int) -> Interval:
    """Of a rank: fewer different cases have a lower one, so resampled ranks lie below the value, and their mean is
    put where it is."""
    return spread(float(found[0]), found[1:] - found[1:].mean() + found[0], count)


def _covariance(moments: Numbers, total: float) -> Numbers:
    """(H, H) from sums (1 + H, H): of the values, and of their products."""
    mean = moments[0] / total
    covariance: Numbers = moments[1:] / total - np.outer(mean, mean)
    return covariance


def _dead(covariance: Numbers) -> NDArray[np.bool_]:
    deviation = np.sqrt(np.maximum(np.diag(covariance), 0))
    still: NDArray[np.bool_] = (deviation <= DEAD * np.median(deviation)) | (deviation < 1e-12)
    return still


def _duplicates(covariance: Numbers) -> float:
    """The share of units that vary like another one; dead ones do not vary."""
    living = np.flatnonzero(~_dead(covariance))
    deviation = np.sqrt(np.diag(covariance)[living])
    correlation = np.abs(covariance[np.ix_(living, living)] / np.outer(deviation, deviation))
    np.fill_diagonal(correlation, 0.0)
    return float((correlation > SAME).any(axis=1).sum()) / len(covariance)


def _ranks(covariance: Numbers) -> tuple[float, float]:
    """Effective rank and participation ratio; 0 where nothing varies."""
    eigenvalues = np.maximum(torch.linalg.eigvalsh(torch.from_numpy(covariance)).numpy(), 0.0)
    eigenvalues[eigenvalues < eigenvalues.max() * len(covariance) * np.finfo(np.float64).eps] = 0.0  # rounding
    if not eigenvalues.any():
        return 0.0, 0.0
    shares = np.sqrt(eigenvalues) / np.sqrt(eigenvalues).sum()  # of the singular values
    shares = shares[shares > 0]
    rank = float(np.exp(-(shares * np.log(shares)).sum()))
    return rank, float(eigenvalues.sum() ** 2 / (eigenvalues**2).sum())


def gates_of(recurrence: Recurrence, steps: Steps) -> list[Gate]:
    """Returns every gate of every layer."""
    hidden, below = steps.before[0], steps.inputs
    cases = steps.cases.numpy()
    timesteps = np.bincount(cases)
    found = []
    for number, layer in enumerate(recurrence.layers):
        made = _gate_values(layer, recurrence, below, hidden[number])
        for gate, values in zip(recurrence.specification.gates, made, strict=True):
            lowest = -SATURATED if gate.activation == "tanh" else CLOSED
            shares = [
                _per_case(part.double().cpu().numpy(), cases).mean(axis=1) / timesteps
                for part in (values, values < lowest, values > OPEN)
            ]
            found.append(Gate(number + 1, gate.name, *(of_mean(share) for share in shares)))
        below = steps.after[0][number]
    return found


def _gate_values(layer: Layer, recurrence: Recurrence, inputs: Tensor, h: Tensor) -> list[Tensor]:
    """Returns the gates (N, H) of a layer with inputs (N, I) and state h (N, H) before the timestep, in the order of
    the specification."""
    gates = recurrence.specification.gates
    if not gates:
        return []
    matrices = [matrix.detach() if layer.transposed else matrix.detach().T for matrix in layer.matrices]
    from_inputs, from_state = (
        matrices if len(matrices) == 2 else torch.split(matrices[0], [layer.inputs, h.shape[1]], dim=1)
    )
    biases = [bias.detach() for bias in layer.biases]
    inputs_part = inputs @ from_inputs.T + (biases[0] if biases else 0.0)  # (N, G · H)
    state_part = h @ from_state.T + (biases[1] if len(biases) == 2 else 0.0)
    values: dict[str, Tensor] = {}
    parts = (torch.split(part, recurrence.size, dim=1) for part in (inputs_part, state_part))
    for gate, of_inputs, of_state in zip(gates, *parts, strict=True):
        if gate.state_scale is not None:
            of_state = values[gate.state_scale] * of_state
        values[gate.name] = getattr(torch, gate.activation)(of_inputs + of_state)
    return list(values.values())
