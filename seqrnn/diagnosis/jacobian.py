"""The recurrence's Jacobian along real trajectories: how one timestep changes a small perturbation of the state.

J = ∂s_t/∂s_{t−1}, where s is all that the cell remembers: all parts of its state, of all layers. A change of the
state grows in one step by at most the largest singular value of J, and, were J the same at every step, in the long
run by its spectral radius |λ|max per step. Bengio et al. (1994) and Pascanu et al. (2013), arXiv:1211.5063, derive
from these whether gradients vanish or explode.

Caveats: J changes from step to step, and the spectral radius of a product is not the product of the radii: where the
two disagree, the gradients themselves (gradient reach) are decisive. The largest singular value depends on the units'
scales.

It works for every cell: each state is repeated as often as it has numbers, so that one pass forward and one backward
give all rows of J.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from seqrnn.diagnosis.intervals import Interval, of_mean
from seqrnn.diagnosis.state_records import Jacobian
from seqrnn.diagnosis.trajectories import Steps
from seqrnn.models.network import Network
from seqrnn.models.protocol import State

POINTS = 64
FEWEST_POINTS = 4
WORK = 5e7  # points · S³
MOST_NUMBERS = 512  # S of a state; the eigenvalues of a larger one would take longer than the rest of a diagnosis
DRAWN = 4  # points whose eigenvalues are kept for a picture


def along(network: Network, steps: Steps) -> Jacobian | None:
    """Returns it at steps that are drawn at random; None if the state is larger than ``MOST_NUMBERS``."""
    numbers = sum(part.shape[0] * part.shape[2] for part in steps.before)
    if numbers > MOST_NUMBERS:
        return None
    inside = (~steps.starts).nonzero().flatten()  # no state is carried to where a sequence begins
    candidates = inside if len(inside) else torch.arange(len(steps.starts))
    points = max(FEWEST_POINTS, min(POINTS, int(WORK / numbers**3)))
    if len(candidates) > points:  # at even distances, all of them could be of one sequence
        chosen = torch.randperm(len(candidates), generator=torch.Generator().manual_seed(0))[:points]
        candidates = candidates[chosen.sort().values]
    matrices = torch.cat([_at(network, steps, part) for part in torch.split(candidates, max(1, 4096 // numbers))])
    eigenvalues = torch.linalg.eigvals(matrices).numpy()  # (P, S)
    radii, norms = np.abs(eigenvalues).max(axis=1), torch.linalg.matrix_norm(matrices, 2).numpy()
    groups = steps.groups[candidates].numpy()

    def mean(values: NDArray[np.float64], most: float = math.inf) -> Interval:
        found = of_mean([values[groups == group].mean() for group in np.unique(groups)])
        return Interval(found.value, max(0.0, found.low), min(most, found.high))

    drawn = eigenvalues[np.linspace(0, len(eigenvalues) - 1, min(DRAWN, len(eigenvalues))).astype(int)]
    return Jacobian(
        points=len(matrices),
        spectral_radius=mean(radii),
        largest_singular_value=mean(norms),
        share_above_one=mean((radii > 1).astype(np.float64), most=1.0),
        eigenvalues=[[[float(value.real), float(value.imag)] for value in point] for point in drawn],
    )


def _at(network: Network, steps: Steps, chosen: Tensor) -> Tensor:
    """Returns Jacobians (P, S, S) at some of the steps."""
    there = chosen.to(steps.inputs.device)
    return jacobians(network, steps.inputs[there], tuple(part[:, there] for part in steps.before))


def jacobians(network: Network, inputs: Tensor, state: State) -> Tensor:
    """Returns ∂s_t/∂s_{t−1} (P, S, S), on the CPU, of one timestep with ``inputs`` (P, I) from ``state``, parts
    (L, P, H)."""
    points = len(inputs)
    numbers = sum(part.shape[0] * part.shape[2] for part in state)
    before = tuple(part.repeat_interleave(numbers, dim=1).requires_grad_() for part in state)  # (L, P · S, H)
    with torch.enable_grad(), torch.backends.cudnn.flags(enabled=False):  # cuDNN has no backward for evaluation mode
        _, after = network.cell(inputs.repeat_interleave(numbers, dim=0)[None], before)
        wanted = torch.eye(numbers, dtype=inputs.dtype, device=inputs.device).repeat(points, 1)  # (P · S, S)
        pieces = torch.split(wanted, [part.shape[0] * part.shape[2] for part in state], dim=1)
        seeds = [
            piece.reshape(-1, part.shape[0], part.shape[2]).transpose(0, 1)
            for piece, part in zip(pieces, state, strict=True)
        ]
        # One number to differentiate: given the seeds themselves, torch would import its symbolic shapes (a second).
        total = sum((part * seed).sum() for part, seed in zip(after, seeds, strict=True))
        gradients: tuple[Tensor | None, ...] = (None,) * len(before)
        if isinstance(total, Tensor) and total.requires_grad:  # otherwise the cell forgets everything
            gradients = torch.autograd.grad(total, before, allow_unused=True)
    rows = [
        (torch.zeros_like(part) if gradient is None else gradient).transpose(0, 1).flatten(1)
        for part, gradient in zip(before, gradients, strict=True)
    ]
    return torch.cat(rows, dim=1).reshape(points, numbers, numbers).double().cpu()
