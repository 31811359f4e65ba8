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
    return _mean((outputs - targets).square())


def half_mse(outputs: Tensor, targets: Tensor) -> Tensor:
    """Returns ½(ŷ − y)², mean over the O outputs: the delta rule's loss, whose derivative is the error itself."""
    return 0.5 * mse(outputs, targets)


def l1(outputs: Tensor, targets: Tensor) -> Tensor:
    """Returns the absolute error, mean over the O outputs."""
    return _mean((outputs - targets).abs())


def cross_entropy(outputs: Tensor, targets: Tensor) -> Tensor:
    """Returns the cross-entropy in nats of logits (N, O) and class indices (N,)."""
    return F.cross_entropy(outputs, targets, reduction="none")


def _mean(errors: Tensor) -> Tensor:
    """Returns the mean (N,) over the outputs of errors (N, O)."""
    return errors.squeeze(-1) if errors.shape[-1] == 1 else errors.mean(dim=-1)  # a mean of one number costs as much


LOSSES: dict[str, Loss] = {"mse": mse, "half_mse": half_mse, "l1": l1, "cross_entropy": cross_entropy}
