"""optimizer=NAME: the optimizers of torch.optim that suit recurrent networks, by name.

Each takes the network's parameters; their documentation, with sources, is torch.optim's.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch.nn import Parameter
from torch.optim import Optimizer

from seqrnn.bounds import BelowOne, NonNegative, Positive
from seqrnn.errors import ConfigError
from seqrnn.registry import register

Parameters = Iterable[Parameter]


@register("optimizer", "sgd")
def sgd(
    parameters: Parameters, *, lr: Positive, momentum: BelowOne, nesterov: bool, weight_decay: NonNegative
) -> Optimizer:
    """Stochastic gradient descent, with (Nesterov) momentum."""
    if nesterov and not momentum:
        raise ConfigError("optimizer.nesterov=True: needs momentum; set optimizer.momentum=0.9, say")
    return torch.optim.SGD(parameters, lr=lr, momentum=momentum, nesterov=nesterov, weight_decay=weight_decay)


@register("optimizer", "adam")
def adam(
    parameters: Parameters,
    *,
    lr: Positive,
    beta1: BelowOne,
    beta2: BelowOne,
    eps: Positive,
    amsgrad: bool,
    weight_decay: NonNegative,
) -> Optimizer:
    """Adam (Kingma & Ba 2015); its weight decay is added to the gradient."""
    return torch.optim.Adam(
        parameters, lr=lr, betas=(beta1, beta2), eps=eps, amsgrad=amsgrad, weight_decay=weight_decay
    )


@register("optimizer", "adamw")
def adamw(
    parameters: Parameters,
    *,
    lr: Positive,
    beta1: BelowOne,
    beta2: BelowOne,
    eps: Positive,
    weight_decay: NonNegative,
) -> Optimizer:
    """Adam with decoupled weight decay (Loshchilov & Hutter 2019)."""
    return torch.optim.AdamW(parameters, lr=lr, betas=(beta1, beta2), eps=eps, weight_decay=weight_decay)


@register("optimizer", "nadam")
def nadam(
    parameters: Parameters,
    *,
    lr: Positive,
    beta1: BelowOne,
    beta2: BelowOne,
    eps: Positive,
    weight_decay: NonNegative,
) -> Optimizer:
    """Adam with Nesterov momentum (Dozat 2016)."""
    return torch.optim.NAdam(parameters, lr=lr, betas=(beta1, beta2), eps=eps, weight_decay=weight_decay)


@register("optimizer", "radam")
def radam(
    parameters: Parameters,
    *,
    lr: Positive,
    beta1: BelowOne,
    beta2: BelowOne,
    eps: Positive,
    weight_decay: NonNegative,
) -> Optimizer:
    """Rectified Adam (Liu et al. 2020): Adam that warms up by itself."""
    return torch.optim.RAdam(parameters, lr=lr, betas=(beta1, beta2), eps=eps, weight_decay=weight_decay)


@register("optimizer", "rmsprop")
def rmsprop(
    parameters: Parameters,
    *,
    lr: Positive,
    alpha: BelowOne,
    eps: Positive,
    momentum: BelowOne,
    centered: bool,
    weight_decay: NonNegative,
) -> Optimizer:
    """RMSprop (Hinton 2012, lecture 6e), optionally centred (Graves 2013)."""
    return torch.optim.RMSprop(
        parameters,
        lr=lr,
        alpha=alpha,
        eps=eps,
        momentum=momentum,
        centered=centered,
        weight_decay=weight_decay,
    )


@register("optimizer", "adagrad")
def adagrad(parameters: Parameters, *, lr: Positive, eps: Positive, weight_decay: NonNegative) -> Optimizer:
    """Adagrad (Duchi et al. 2011)."""
    return torch.optim.Adagrad(parameters, lr=lr, eps=eps, weight_decay=weight_decay)
