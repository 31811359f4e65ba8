"""optimizer=NAME: the optimizers of torch.optim that suit recurrent networks, by name.

Each takes the network's parameters; their documentation, with sources, is torch.optim's.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from functools import cache
from typing import Any

import torch
from torch.nn import Parameter
from torch.optim import Optimizer

from seqrnn.bounds import BelowOne, NonNegative, Positive
from seqrnn.errors import ConfigError
from seqrnn.registry import register

Parameters = Iterable[Parameter]
NOT_COMPILED = ("add_param_group", "zero_grad", "state_dict", "load_state_dict")


@cache
def light(kind: Any) -> Callable[..., Optimizer]:
    """A class of torch.optim, without ``torch._dynamo``: the first call of torch's own imports it, which takes a
    second, and does no more than keep torch.compile out of these methods.

    Each method is torch's own beneath its wrappers. Where a version of torch has none, it stays as it is, and all
    that is lost is the time.
    """
    methods = {name: inspect.unwrap(getattr(kind, name)) for name in NOT_COMPILED if hasattr(kind, name)}
    methods["step"] = torch.no_grad()(inspect.unwrap(kind.step))
    found: Callable[..., Optimizer] = type(kind.__name__, (kind,), {"__module__": kind.__module__, **methods})
    return found


@register("optimizer", "sgd")
def sgd(
    parameters: Parameters, *, lr: Positive, momentum: BelowOne, nesterov: bool, weight_decay: NonNegative
) -> Optimizer:
    """Stochastic gradient descent, with (Nesterov) momentum."""
    if nesterov and not momentum:
        raise ConfigError("optimizer.nesterov=True: needs momentum; set optimizer.momentum=0.9, say")
    return light(torch.optim.SGD)(parameters, lr=lr, momentum=momentum, nesterov=nesterov, weight_decay=weight_decay)


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
    return light(torch.optim.Adam)(
        parameters, lr=lr, betas=(float(beta1), float(beta2)), eps=eps, amsgrad=amsgrad, weight_decay=weight_decay
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
    return light(torch.optim.AdamW)(
        parameters, lr=lr, betas=(float(beta1), float(beta2)), eps=eps, weight_decay=weight_decay
    )


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
    return light(torch.optim.NAdam)(
        parameters, lr=lr, betas=(float(beta1), float(beta2)), eps=eps, weight_decay=weight_decay
    )


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
    return light(torch.optim.RAdam)(
        parameters, lr=lr, betas=(float(beta1), float(beta2)), eps=eps, weight_decay=weight_decay
    )


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
    return light(torch.optim.RMSprop)(
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
    return light(torch.optim.Adagrad)(parameters, lr=lr, eps=eps, weight_decay=weight_decay)
