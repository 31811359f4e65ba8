"""Steps of optimizers for many networks at once, each with settings of its own: as torch.optim makes them.

N members, P parameters. A rule changes weights (N, P) in place, from gradients (N, P) that are averaged and clipped.
What it remembers has torch's names, so that a checkpoint of a member is one of an ordinary run.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.adam import adam
from torch.optim.adamw import adamw

from seqrnn.optimizers import is_elementwise

FUSED_ON = ("cpu",)  # devices where torch's own function is faster; on a GPU it would be called for each member
Rows = NDArray[np.float64]  # (N,): a number of each member
Group = Mapping[str, Any]  # the settings of one of torch's parameter groups


class Settings:
    """The settings of the members' optimizers, which stay the same, and the rates and numbers of their next steps.

    Args:
        groups: of the members.
        like: a tensor of the weights' device and type.
    """

    def __init__(self, groups: Sequence[Group], like: Tensor) -> None:
        self._groups, self._like = groups, like
        self._rows: dict[tuple[str, int | None], Rows] = {}
        self.rates = np.zeros(len(groups))  # of this step
        self.numbers = np.zeros(len(groups))  # of this step, counted from 1

    def rows(self, name: str, index: int | None = None) -> Rows:
        """Returns a setting of all members; ``index``: of one that is a pair."""
        key = name, index
        if key not in self._rows:
            self._rows[key] = np.array(
                [float(group[name] if index is None else group[name][index]) for group in self._groups]
            )
        return self._rows[key]

    def flag(self, name: str) -> bool:
        """Returns a setting that is the same for all members."""
        return bool(self._groups[0].get(name))

    def column(self, rows: Rows) -> Tensor:
        """Returns (N, 1), on the device."""
        return torch.from_numpy(rows).to(self._like.device, self._like.dtype).unsqueeze(1)


Kept = dict[str, Tensor]  # what is remembered of the weights, (N, P) each
Scalars = dict[str, Rows]  # single numbers that are remembered of each member
Step = Callable[[Tensor, Tensor, Kept, Scalars, Settings], None]


def _decayed(p: Tensor, g: Tensor, settings: Settings) -> Tensor:
    """Returns the gradient with weight decay added to it."""
    decay = settings.rows("weight_decay")
    return torch.addcmul(g, settings.column(decay), p) if decay.any() else g


def _sgd(p: Tensor, g: Tensor, kept: Kept, scalars: Scalars, settings: Settings) -> None:
    g = _decayed(p, g, settings)
    if "momentum_buffer" in kept:
        momentum = settings.column(settings.rows("momentum"))
        buffer = kept["momentum_buffer"].mul_(momentum).add_(g)
        g = torch.addcmul(g, momentum, buffer) if settings.flag("nesterov") else buffer
    p.addcmul_(settings.column(-settings.rates), g)


def _moments(g: Tensor, kept: Kept, settings: Settings) -> tuple[Tensor, Tensor]:
    """Updates the means of the gradient and of its square, and returns them."""
    beta1, beta2 = (settings.column(settings.rows("betas", index)) for index in (0, 1))
    mean = kept["exp_avg"].lerp_(g, (1 - beta1).expand_as(g))
    return mean, kept["exp_avg_sq"].mul_(beta2).addcmul_(g * g, 1 - beta2)


def _coupled(p: Tensor, g: Tensor, settings: Settings, is_decoupled: bool) -> Tensor:
    """Returns the gradient after weight decay, which is decoupled from it or added to it."""
    if not is_decoupled:
        return _decayed(p, g, settings)
    p.mul_(settings.column(1 - settings.rates * settings.rows("weight_decay")))
    return g


def _adam(p: Tensor, g: Tensor, kept: Kept, scalars: Scalars, settings: Settings) -> None:
    _adaptive(p, g, kept, settings, settings.flag("decoupled_weight_decay"))


def _adamw(p: Tensor, g: Tensor, kept: Kept, scalars: Scalars, settings: Settings) -> None:
    _adaptive(p, g, kept, settings, True)


def _adaptive(p: Tensor, g: Tensor, kept: Kept, settings: Settings, is_decoupled: bool) -> None:
    """Takes the step of Adam or AdamW."""
    if p.device.type in FUSED_ON:
        _fused(p, g, kept, settings, adamw if is_decoupled else adam)
        return
    g = _coupled(p, g, settings, is_decoupled)
    mean, square = _moments(g, kept, settings)
    bias1, bias2 = (1 - settings.rows("betas", index) ** settings.numbers for index in (0, 1))
    if "max_exp_avg_sq" in kept:
        square = torch.maximum(kept["max_exp_avg_sq"], square, out=kept["max_exp_avg_sq"])
    below = square.sqrt().div_(settings.column(np.sqrt(bias2))).add_(settings.column(settings.rows("eps")))
    p.sub_((mean / below).mul_(settings.column(settings.rates / bias1)))


def _fused(p: Tensor, g: Tensor, kept: Kept, settings: Settings, step: Callable[..., None]) -> None:
    """Takes the step of Adam or AdamW by torch's function for CPUs, which reads all numbers only once: of consecutive
    members whose settings are equal at once."""
    names = (("betas", 0), ("betas", 1), ("weight_decay", None), ("eps", None))
    rows = [settings.rates, settings.numbers, *(settings.rows(*name) for name in names)]
    changes = np.flatnonzero(np.any([row[1:] != row[:-1] for row in rows], axis=0)) + 1
    values = [p, g, kept["exp_avg"], kept["exp_avg_sq"]]
    largest = [kept["max_exp_avg_sq"]] if "max_exp_avg_sq" in kept else []
    for begin, end in pairwise([0, *changes.tolist(), len(p)]):
        rate, number, beta1, beta2, decay, eps = (float(row[begin]) for row in rows)
        step(
            *([each[begin:end]] for each in values), [each[begin:end] for each in largest],
            [torch.tensor(number - 1)],  # which it counts up
            fused=True, amsgrad=bool(largest), beta1=beta1, beta2=beta2, lr=rate, weight_decay=decay, eps=eps,
            maximize=False,
        )  # fmt: skip


def _nadam(p: Tensor, g: Tensor, kept: Kept, scalars: Scalars, settings: Settings) -> None:
    g = _coupled(p, g, settings, settings.flag("decoupled_weight_decay"))
    mean, square = _moments(g, kept, settings)
    beta1, decay, number = settings.rows("betas", 0), settings.rows("momentum_decay"), settings.numbers
    now, following = (beta1 * (1 - 0.5 * 0.96 ** (n * decay)) for n in (number, number + 1))
    product = (scalars["mu_product"].astype(np.float32) * now.astype(np.float32)).astype(np.float64)  # as torch
    scalars["mu_product"][:] = product
    bias2 = 1 - settings.rows("betas", 1) ** number
    below = (square / settings.column(bias2)).sqrt_().add_(settings.column(settings.rows("eps")))
    from_gradient = settings.column(settings.rates * (1 - now) / (1 - product))
    from_mean = settings.column(settings.rates * following / (1 - product * following))
    p.sub_((from_gradient * g + from_mean * mean) / below)


def _radam(p: Tensor, g: Tensor, kept: Kept, scalars: Scalars, settings: Settings) -> None:
    g = _coupled(p, g, settings, settings.flag("decoupled_weight_decay"))
    mean, square = _moments(g, kept, settings)
    number, beta2 = settings.numbers, settings.rows("betas", 1)
    bias1, bias2 = 1 - settings.rows("betas", 0) ** number, 1 - beta2**number
    longest = 2 / (1 - beta2) - 1
    length = longest - 2 * number * beta2**number / bias2
    is_rectified = length > 5
    above = np.where(is_rectified, (length - 4) * (length - 2) * longest, 1.0)
    under = np.where(is_rectified, (longest - 4) * (longest - 2) * length, 1.0)
    by = settings.rates / bias1 * np.sqrt(above / under) * np.where(is_rectified, np.sqrt(bias2), 1.0)
    root = settings.column(np.where(is_rectified, 1.0, 0.0))
    eps = settings.column(np.where(is_rectified, settings.rows("eps"), 1.0))
    p.sub_((mean / (square.sqrt().mul_(root).add_(eps))).mul_(settings.column(by)))


def _rmsprop(p: Tensor, g: Tensor, kept: Kept, scalars: Scalars, settings: Settings) -> None:
    g = _decayed(p, g, settings)
    alpha = settings.column(settings.rows("alpha"))
    square = kept["square_avg"].mul_(alpha).addcmul_(g * g, 1 - alpha)
    if "grad_avg" in kept:
        mean = kept["grad_avg"].lerp_(g, (1 - alpha).expand_as(g))
        square = square - mean * mean
    g = g / square.sqrt().add_(settings.column(settings.rows("eps")))
    if "momentum_buffer" in kept:
        g = kept["momentum_buffer"].mul_(settings.column(settings.rows("momentum"))).add_(g)
    p.addcmul_(settings.column(-settings.rates), g)


def _adagrad(p: Tensor, g: Tensor, kept: Kept, scalars: Scalars, settings: Settings) -> None:
    g = _decayed(p, g, settings)
    total = kept["sum"].addcmul_(g, g)
    p.sub_((g / total.sqrt().add_(settings.column(settings.rows("eps")))).mul_(settings.column(settings.rates)))


@dataclass(frozen=True)
class Rule:
    """A kind of step.

    Args:
        optimizer: the class of torch.optim that makes the same step.
        tensors: what it remembers of each weight, by torch's names: the setting without which torch does not
            remember it, or None.
        flags: settings that must be the same, as true or false, for all members.
        scalars: single numbers that it remembers, and their first values.
        fixed: settings that must have this value.
        is_fused: whether its step on a CPU keeps no intermediate results.
    """

    optimizer: type[Optimizer]
    step: Step
    tensors: Mapping[str, str | None]
    flags: Sequence[str] = ()
    scalars: Mapping[str, float] = field(default_factory=dict)
    fixed: Mapping[str, Any] = field(default_factory=dict)
    is_counted: bool = True
    is_fused: bool = False

    def remembered(self, group: Group) -> list[str]:
        """Returns the names of what it remembers with the settings of a parameter group."""
        return [name for name, setting in self.tensors.items() if setting is None or group[setting]]

    def alike(self, group: Group) -> tuple[Any, ...]:
        """Returns what must be equal for all members of a population."""
        return (self.optimizer.__name__, *(bool(group.get(flag)) for flag in self.flags))


_MOMENTS: dict[str, str | None] = {"exp_avg": None, "exp_avg_sq": None}
_DECOUPLED = ("decoupled_weight_decay",)
RULES = (
    Rule(
        torch.optim.SGD,
        _sgd,
        {"momentum_buffer": "momentum"},
        ("momentum", "nesterov"),
        fixed={"dampening": 0},
        is_counted=False,
    ),
    Rule(torch.optim.Adam, _adam, {**_MOMENTS, "max_exp_avg_sq": "amsgrad"}, ("amsgrad", *_DECOUPLED), is_fused=True),
    Rule(torch.optim.AdamW, _adamw, {**_MOMENTS, "max_exp_avg_sq": "amsgrad"}, ("amsgrad",), is_fused=True),
    Rule(torch.optim.NAdam, _nadam, _MOMENTS, _DECOUPLED, scalars={"mu_product": 1.0}),
    Rule(torch.optim.RAdam, _radam, _MOMENTS, _DECOUPLED),
    Rule(
        torch.optim.RMSprop,
        _rmsprop,
        {"square_avg": None, "momentum_buffer": "momentum", "grad_avg": "centered"},
        ("momentum", "centered"),
    ),
    Rule(torch.optim.Adagrad, _adagrad, {"sum": None}, fixed={"lr_decay": 0, "initial_accumulator_value": 0}),
)


def rule_of(optimizer: Optimizer) -> Rule | None:
    """Returns the rule that makes the step of an optimizer of torch's; None: there is none."""
    group, *others = optimizer.param_groups
    if others or not is_elementwise(optimizer) or group.get("maximize"):
        return None
    for rule in RULES:
        if isinstance(optimizer, rule.optimizer) and type(optimizer).__name__ == rule.optimizer.__name__:
            is_fixed = all(group.get(name, value) == value for name, value in rule.fixed.items())
            return rule if is_fixed else None
    return None
