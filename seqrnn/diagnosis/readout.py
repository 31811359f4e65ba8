"""How well a linear readout decodes targets from a state: least squares, judged on groups that it was not fitted to.

    r²    1 − Σ(y − ŷ)² / Σ(y − ȳ)², over groups held out in turn (8 folds), where ŷ = w·s + b

Each unit is scaled to variance 1 and read with a noise of 1 % of its standard deviation, which is ridge regression
with λ = 1e-4 per timestep: without it, a readout in float64 would find what no head could ever use.

N timesteps, G independent groups of them, S numbers of a state, O targets.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from seqrnn.diagnosis.budget import Budget
from seqrnn.diagnosis.intervals import Numbers

FOLDS = 8
NOISE = 0.01  # of a unit's standard deviation
SLOW = 256  # numbers of a state from which on the time matters
SAMPLE = 512  # timesteps by which it is estimated


@dataclass(frozen=True)
class Fit:
    """How well targets were decoded, per independent group.

    Args:
        errors: (G, O), sums of squared errors of held-out predictions.
        totals: (G, O), sums of squares of the targets around their overall mean.
        hits: (G,), how often the largest output is that of the largest target: the class, of one-hot targets.
        counts: (G,), timesteps.
    """

    errors: Numbers
    totals: Numbers
    hits: Numbers
    counts: Numbers


def scaled(states: Numbers) -> Numbers:
    """Returns states (…, S) at mean 0 and variance 1, without units that do not vary."""
    flat = states.reshape(-1, states.shape[-1])
    deviation = flat.std(axis=0)
    living = deviation > 1e-9 * max(1e-300, float(deviation.max(initial=0.0)))
    found: Numbers = (states[..., living] - flat.mean(axis=0)[living]) / deviation[living]
    return found


def decoded(states: Numbers, targets: Numbers, groups: NDArray[np.int64]) -> Fit:
    """Returns how well targets (N, O) are decoded from states (N, S) that were ``scaled``; ``groups`` (N,) are
    independent, and at least two."""
    known, number = np.unique(groups, return_inverse=True)
    count = len(known)
    fold = (np.arange(count) * min(FOLDS, count) // count)[number]  # (N,): neighbours in time are held out together
    given = torch.from_numpy(np.concatenate([states, np.ones((len(states), 1))], axis=1))
    wanted = torch.from_numpy(targets)
    folds = [torch.from_numpy(np.flatnonzero(fold == part)) for part in range(int(fold.max()) + 1)]
    moments = [(given[group].T @ given[group], given[group].T @ wanted[group]) for group in folds]
    gram, cross = (torch.stack(part).sum(dim=0) for part in zip(*moments, strict=True))
    ridge = torch.eye(len(gram), dtype=torch.float64) * NOISE**2
    ridge[-1, -1] = 0.0  # the bias is read as it is
    predicted = torch.empty_like(wanted)
    for group, (own_gram, own_cross) in zip(folds, moments, strict=True):
        matrix = gram - own_gram + (len(wanted) - len(group)) * ridge
        predicted[group] = given[group] @ torch.linalg.solve(matrix, cross - own_cross)
    group_of = torch.from_numpy(number)

    def group_sums(values: Tensor) -> Numbers:
        sums = torch.zeros(count, values.shape[1], dtype=torch.float64)
        found: Numbers = sums.index_add_(0, group_of, values).numpy()
        return found

    hits = predicted.argmax(dim=1) == wanted.argmax(dim=1)
    return Fit(
        errors=group_sums((wanted - predicted) ** 2),
        totals=group_sums((wanted - wanted.mean(dim=0)) ** 2),
        hits=group_sums(hits.double()[:, None])[:, 0],
        counts=np.bincount(number, minlength=count).astype(np.float64),
    )


def r2(errors: Numbers, totals: Numbers) -> Numbers:
    """Returns r² from sums; 0 where the targets do not vary."""
    with np.errstate(divide="ignore", invalid="ignore"):
        found: Numbers = np.where(totals > 0, 1 - errors / totals, 0.0)
    return found


def lags_up_to(limit: int, every_one: int = 16, per_doubling: int = 4) -> list[int]:
    """Returns 0, 1, 2, … and then lags at growing distances, up to ``limit``."""
    lags: Iterable[int] = range(min(limit, every_one) + 1)
    found = list(lags)
    while found[-1] < limit:
        found.append(min(limit, max(found[-1] + 1, round(found[-1] * 2 ** (1 / per_doubling)))))
    return found


def decoding_seconds(timesteps: int, size: int, budget: Budget) -> float:
    """Estimates how long ``decoded`` takes for so many timesteps of states of so many numbers."""
    if size < SLOW:
        return 0.0
    rows = torch.randn(min(SAMPLE, timesteps), size, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    began = budget.remaining
    gram = rows.T @ rows
    product = budget.remaining
    torch.linalg.solve(gram + torch.eye(size, dtype=torch.float64), rows[0])
    return (began - product) * timesteps / len(rows) + FOLDS * (product - budget.remaining)
