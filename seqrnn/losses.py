"""Losses by name: (outputs (N, O), targets (N, O) or (N,)) -> the loss of each of the N targets (N,).

Strategies sum them and divide by the number of targets of an update, so a loss never averages over N itself. Of a
task with ``missing_targets``, some of the O targets may be NaN: ``loss_of`` returns a loss that leaves them out.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
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


def known_mse(outputs: Tensor, targets: Tensor) -> Tensor:
    """Returns the squared error, mean over the outputs whose target is not NaN; at least one must be."""
    return _known_errors(outputs, targets).square().sum(dim=-1) / _count_known(targets)


def known_half_mse(outputs: Tensor, targets: Tensor) -> Tensor:
    """Returns ½(ŷ − y)², mean over the outputs whose target is not NaN."""
    return 0.5 * known_mse(outputs, targets)


def known_l1(outputs: Tensor, targets: Tensor) -> Tensor:
    """Returns the absolute error, mean over the outputs whose target is not NaN."""
    return _known_errors(outputs, targets).abs().sum(dim=-1) / _count_known(targets)


def _known_errors(outputs: Tensor, targets: Tensor) -> Tensor:
    """Returns the errors (N, O), 0 where a target is NaN."""
    return torch.where(targets.isnan(), 0.0, outputs - targets)


def _count_known(targets: Tensor) -> Tensor:
    return targets.shape[-1] - targets.isnan().sum(dim=-1)


LOSSES: dict[str, Loss] = {"mse": mse, "half_mse": half_mse, "l1": l1, "cross_entropy": cross_entropy}
KNOWN: dict[Loss, Loss] = {mse: known_mse, half_mse: known_half_mse, l1: known_l1, cross_entropy: cross_entropy}


def loss_of(name: str, missing_targets: bool) -> Loss:
    """Returns a loss.

    Args:
        name: in ``LOSSES``.
        missing_targets: whether numbers among the targets may be NaN, which are left out.
    """
    loss = LOSSES[name]
    return KNOWN[loss] if missing_targets else loss
