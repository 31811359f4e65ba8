"""Which strategy computes the updates of a run."""

from __future__ import annotations

import platform
from importlib.util import find_spec

import torch
from torch import nn

from seqrnn.errors import ConfigError
from seqrnn.loop import Place
from seqrnn.losses import LOSSES, Loss
from seqrnn.models.network import Network
from seqrnn.settings import Experiment
from seqrnn.strategies.plain import Plain, WindowByWindow
from seqrnn.strategies.protocol import Strategy


def choose(run: Experiment) -> Strategy:
    """The fastest way to compute the updates of a run that ``model.kernel`` allows.

    Raises:
        ConfigError: model.kernel=compiled, where compiled code does not apply.
    """
    network, kernel = run.network, run.network.kernel
    if kernel != "torch":
        obstacle = obstacle_to_compiled_updates(network, run.loss, run.place)
        if obstacle is None:
            from seqrnn.strategies.compiled import Compiled

            batches = run.task.train(0, run.schedule.streams)
            largest = max(batch.streams for batch in batches), max(batch.timesteps for batch in batches)
            return Compiled(network, run.loss, run.optimizer, run.schedule, run.place, largest)
        if kernel == "compiled":
            raise ConfigError(f"model.kernel=compiled: {obstacle}; set model.kernel=auto or model.kernel=torch")
    gradients = WindowByWindow(network, run.loss, run.schedule.carry, run.place)
    return Plain(network, run.optimizer, run.schedule, gradients)


def obstacle_to_compiled_updates(network: Network, loss: Loss, place: Place) -> str | None:
    """What stands in the way of whole updates in compiled code; None: nothing."""
    if place.device.type != "cpu":
        return f"needs device=cpu, not {place.device.type}"
    if place.autocast is not None:
        return "needs precision=float32 or float64"
    if find_spec("numba") is None:
        return "numba is not installed"
    if platform.machine().lower() not in ("x86_64", "amd64"):
        return f"is made for x86-64 processors, not {platform.machine()}"
    capability = torch.backends.cpu.get_cpu_capability()
    if capability not in ("AVX2", "AVX512"):
        return f"needs a processor with AVX2, and this one has {capability}"
    recurrence = getattr(network.cell, "recurrence", None)
    if recurrence is None:
        return "this cell does not say how it computes (see seqrnn.models.protocol.Recurrence)"
    if recurrence().dropout:
        return "knows no dropout"
    head = list(network.head) if isinstance(network.head, nn.Sequential) else [network.head]
    if [type(part) for part in head] not in ([nn.Linear], [nn.Linear, nn.ReLU, nn.Linear]):
        return "knows no such head"
    if loss not in LOSSES.values():
        return "knows no such loss"
    return None
