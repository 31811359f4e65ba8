"""Losses by name: (outputs (N, O), targets (N, O) or (N,)) -> loss of each of the N targets (N,).

The loop sums them and divides by the number of targets of an update, so a loss never averages over N itself.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor
from torch.nn import functional as F

Loss = Callable[[Tensor, Tensor], Tensor]


def mse(outputs: Tensor, targets: Tensor) -> Tensor:
    """Squared error, mean over the O outputs."""
    return (outputs - targets).square().mean(dim=-1)


def half_mse(outputs: Tensor, targets: Tensor) -> Tensor:
    """½(ŷ − y)², mean over the O outputs: the delta rule's loss, whose derivative is the error itself."""
    return 0.5 * mse(outputs, targets)


def l1(outputs: Tensor, targets: Tensor) -> Tensor:
    """Absolute error, mean over the O outputs."""
    return (outputs - targets).abs().mean(dim=-1)


def cross_entropy(outputs: Tensor, targets: Tensor) -> Tensor:
    """Cross-entropy in nats of logits (N, O) against class indices (N,)."""
    return F.cross_entropy(outputs, targets, reduction="none")


LOSSES: dict[str, Loss] = {"mse": mse, "half_mse": half_mse, "l1": l1, "cross_entropy": cross_entropy}
