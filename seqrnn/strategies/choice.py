"""Which strategy computes the updates of a run."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from seqrnn.errors import ConfigError
from seqrnn.kernels import obstacles
from seqrnn.losses import LOSSES, Loss
from seqrnn.models.network import Network
from seqrnn.schedule import distinct
from seqrnn.settings import Experiment
from seqrnn.strategies.folded import Folded, obstacle_to_folding
from seqrnn.strategies.plain import Gradients, Plain, WindowByWindow
from seqrnn.strategies.protocol import Strategy

# Hidden units times streams: beyond, a processor is busy with one window, and what the pass without gradients takes
# is not won back.
FOLD_UP_TO = 4096


def choose(run: Experiment) -> Strategy:
    """The fastest way to compute the updates of a run that ``model.kernel`` allows.

    Raises:
        ConfigError: model.kernel=compiled, where compiled code does not apply.
    """
    network, place = run.network, run.place
    dtype = place.autocast or place.dtype
    obstacle = obstacles.to_compiled(network.cell, place.device, dtype)
    if network.kernel == "compiled" and obstacle:
        raise ConfigError(f"model.kernel=compiled: {obstacle}; set model.kernel=auto or model.kernel=torch")
    if network.computes_compiled(place.device, dtype, run.schedule.streams, gradients=True) and knows(
        network, run.loss
    ):
        from seqrnn.strategies.compiled import Compiled  # late: it imports the compiler

        batches = [batch for batch, _ in distinct(run.task.train(0, run.schedule.streams))]
        largest = max(batch.streams for batch in batches), max(batch.timesteps for batch in batches)
        return Compiled(network, run.loss, run.optimizer, run.schedule, largest, torch.get_num_threads())
    way: Callable[..., Gradients] = Folded if folding_pays(run) else WindowByWindow
    return Plain(network, run.optimizer, run.schedule, way(network, run.loss, run.schedule.carry, place))


def folding_pays(run: Experiment) -> bool:
    """Whether the windows of an update are run side by side: there is more than one of the same extent, nothing
    stands in the way, and it is faster."""
    schedule, work = run.schedule, run.network.cell.output_size * run.schedule.streams
    if schedule.passes == 1 or schedule.window is None:
        return False
    overlap = schedule.stride is not None and schedule.stride < schedule.window
    if schedule.carry and not overlap and run.place.device.type == "cpu" and work > FOLD_UP_TO:
        return False
    return obstacle_to_folding(run.network, run.task.input_size, run.place) is None


def knows(network: Network, loss: Loss) -> bool:
    """Whether compiled updates know the head and the loss, and there is nothing that they do not know: dropout, and
    weights that stay as they are."""
    head = list(network.head) if isinstance(network.head, nn.Sequential) else [network.head]
    known = [type(part) for part in head] in ([nn.Linear], [nn.Linear, nn.ReLU, nn.Linear])
    moving = all(parameter.requires_grad for parameter in network.parameters())
    return known and moving and loss in LOSSES.values() and not network.cell.recurrence().dropout
