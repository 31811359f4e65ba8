"""Losses by name: (outputs (N, O), targets (N, O) or (N,)) -> the loss of each of the N targets (N,).

Strategies sum them and divide by the number of targets of an update, so a loss never averages over N itself.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor
from torch.nn import functional as F

Loss = Callable[[Tensor, Tensor], Tensor]


def mse(outputs: Tensor, targets: Tensor) -> Tensor:
    """Returns the squared error, mean over the O outputs."""
    return (outputs - targets).square().mean(dim=-1)


def half_mse(outputs: Tensor, targets: Tensor) -> Tensor:
    """Returns ½(ŷ − y)², mean over the O outputs: the delta rule's loss, whose derivative is the error itself."""
    return 0.5 * mse(outputs, targets)


def l1(outputs: Tensor, targets: Tensor) -> Tensor:
    """Returns the absolute error, mean over the O outputs."""
    return (outputs - targets).abs().mean(dim=-1)


def cross_entropy(outputs: Tensor, targets: Tensor) -> Tensor:
    """Returns the cross-entropy in nats of logits (N, O) and class indices (N,)."""
    return F.cross_entropy(outputs, targets, reduction="none")


LOSSES: dict[str, Loss] = {"mse": mse, "half_mse": half_mse, "l1": l1, "cross_entropy": cross_entropy}
