"""The optimizers of torch.optim that suit recurrent networks, for optimizer=NAME.

Each function takes the network's parameters. torch.optim documents the algorithms, with sources.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from typing import Any

import torch
from torch.nn import Parameter
from torch.optim import Optimizer

from seqrnn import registry
from seqrnn.bounds import BelowOne, Natural, NonNegative, Positive
from seqrnn.errors import ConfigError
from seqrnn.registry import register

Parameters = Iterable[Parameter]
ELEMENTWISE = (
    torch.optim.SGD,
    torch.optim.Adam,
    torch.optim.AdamW,
    torch.optim.NAdam,
    torch.optim.RAdam,
    torch.optim.RMSprop,
    torch.optim.Adagrad,
)
NOT_COMPILED = ("add_param_group", "zero_grad", "state_dict", "load_state_dict")


@cache
def light(kind: Any) -> Callable[..., Optimizer]:
    """Returns a class of torch.optim whose methods do not import ``torch._dynamo``.

    Torch wraps these methods to keep torch.compile out of them, and the first call of a wrapper imports the compiler,
    which takes a second. Each method of the returned class is torch's own without its wrapper. Where a version of
    torch has no wrapper, the method stays as it is.
    """
    methods = {name: inspect.unwrap(getattr(kind, name)) for name in NOT_COMPILED if hasattr(kind, name)}
    methods["step"] = torch.no_grad()(inspect.unwrap(kind.step))
    found: Callable[..., Optimizer] = type(kind.__name__, (kind,), {"__module__": kind.__module__, **methods})
    return found


def is_elementwise(optimizer: Optimizer) -> bool:
    """Returns whether an optimizer is one of torch.optim that treats each number of a parameter by itself, so that
    parameters can be joined into one."""
    kind = type(optimizer)
    return any(kind is each or kind is light(each) for each in ELEMENTWISE)


def tensors_remembered(settings: Mapping[str, Any]) -> int:
    """Returns how many tensors as large as a parameter an optimizer remembers for each, as a trial step shows."""
    parameter = Parameter(torch.zeros(2))
    optimizer: Optimizer = registry.build("optimizer", settings, [parameter])
    parameter.grad = torch.zeros(2)
    try:
        optimizer.step()
    except Exception:  # one from elsewhere may need more for a step, such as a closure
        return 0
    state = optimizer.state[parameter].values()
    return sum(isinstance(value, torch.Tensor) and value.shape == parameter.shape for value in state)


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
    """Adam (Kingma & Ba 2015). Weight decay is added to the gradient."""
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


class Ridge(Optimizer):
    """Asks for a head in closed form: ``seqrnn.strategies.ridge`` computes it, and there are no steps."""

    def __init__(self, parameters: Parameters, ridge: float, washout: int) -> None:
        super().__init__(parameters, {"ridge": ridge, "washout": washout})


@register("optimizer", "ridge")
def ridge(parameters: Parameters, *, ridge: Positive, washout: Natural) -> Optimizer:
    """Ridge regression of the targets on the outputs of the cell (Hoerl & Kennard 1970), for a linear head. It
    minimises the sum of squared errors plus ``ridge`` times the sum of squared weights. The first ``washout``
    timesteps of each sequence are left out. The parameters of the cell stay as they are."""
    return light(Ridge)(parameters, ridge=ridge, washout=washout)
