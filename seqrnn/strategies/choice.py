"""Chooses the strategy that computes the updates of a run."""

from __future__ import annotations

import torch

from seqrnn.components import Components
from seqrnn.device import DeviceContext
from seqrnn.errors import ConfigError
from seqrnn.kernels import support
from seqrnn.kernels.specification import recurrence_of
from seqrnn.losses import KNOWN, Loss
from seqrnn.models.network import Network
from seqrnn.optimizers import Ridge
from seqrnn.schedule import Schedule, distinct
from seqrnn.strategies.cuda_graph import CudaGraphs
from seqrnn.strategies.engine import Engine
from seqrnn.strategies.folded import Folded, obstacle_to_folding
from seqrnn.strategies.influence import check_memory
from seqrnn.strategies.plain import Gradients, Plain, WindowByWindow
from seqrnn.strategies.protocol import Strategy
from seqrnn.strategies.replay import Recording
from seqrnn.strategies.ridge import RidgeRegression, check_ridge
from seqrnn.strategies.rtrl import RTRL
from seqrnn.tasks.checks import DataFormat

# Hidden units times streams. Beyond that, one window is enough work for a processor, and side-by-side windows gain
# less than the pass without gradients costs.
FOLD_UP_TO = 4096


def choose(components: Components) -> Strategy:
    """Returns the fastest strategy that ``kernel`` allows for a run.

    Raises:
        ConfigError: kernel=compiled, and compiled code cannot compute this network here; or optimizer=ridge with a
            head or a loss that it cannot compute.
    """
    if isinstance(components.optimizer, Ridge):
        check_ridge(components)
        return RidgeRegression(components)
    network, context = components.network, components.context
    dtype = context.autocast or context.dtype
    obstacle = support.compiled_obstacle(recurrence_of(network.cell), context.device, dtype)
    if network.kernel == "compiled" and obstacle:
        raise ConfigError(f"kernel=compiled: {obstacle}; set kernel=auto or kernel=torch")
    schedule, streams = components.schedule, components.schedule.streams
    if schedule.is_forward:
        check_memory(network, schedule.gradient, streams, context)
        recurrence = None if obstacle or network.kernel == "torch" else recurrence_of(network.cell)
    else:
        recurrence = network.compiled_recurrence(context.device, dtype, streams, gradients=True)
    if recurrence is not None and covers(network, components.loss):
        from seqrnn.strategies.compiled import Compiled  # late: it imports the compiler

        batches = [batch for batch, _ in distinct(components.task.train(0, components.schedule.streams))]
        largest = max(batch.streams for batch in batches), max(batch.timesteps for batch in batches)
        return Compiled(network, components.loss, components.optimizer, schedule, largest, torch.get_num_threads())
    return Plain(network, components.optimizer, schedule, torch_gradients(components), engine_for(components))


def torch_gradients(components: Components) -> Gradients:
    """Returns the fastest way to compute the gradient of an update with torch.

    Raises:
        ConfigError: the schedule's gradient is not defined for this network.
    """
    network, schedule, context = components.network, components.schedule, components.context
    data_format = DataFormat.of(components.task)
    if not schedule.is_forward and folding_pays(components):
        return Folded(network, components.loss, schedule.carry, context, data_format)
    return window_by_window(network, components.loss, schedule, context, data_format)


def engine_for(components: Components) -> Engine | None:
    """Returns what captures the updates that torch computes; None: nothing does."""
    schedule, context = components.schedule, components.context
    if not components.settings.capture or schedule.is_forward:
        return None
    dtype = context.autocast or context.dtype
    compiled = components.network.compiled_recurrence(context.device, dtype, schedule.streams, gradients=True)
    if compiled is not None:
        return None  # torch does not see what compiled code computes
    return engine_on(context.device)


def engine_on(device: torch.device) -> Engine:
    """Returns what captures the operations of torch on a device."""
    return CudaGraphs(device) if device.type == "cuda" else Recording()


def window_by_window(
    network: Network, loss: Loss, schedule: Schedule, context: DeviceContext, data_format: DataFormat
) -> Gradients:
    """Returns what computes the gradient of one window after another with torch, backwards or forwards in time.

    Raises:
        ConfigError: the schedule's gradient is not defined for this network.
    """
    if schedule.is_forward:
        return RTRL(network, loss, schedule.gradient, context, data_format)
    return WindowByWindow(network, loss, schedule.carry, context, data_format)


def folding_pays(components: Components) -> bool:
    """Returns whether computing the windows of an update side by side is possible and faster."""
    schedule, work = components.schedule, components.network.cell.output_size * components.schedule.streams
    if schedule.windows_per_update == 1 or schedule.window is None:
        return False
    overlap = schedule.stride is not None and schedule.stride < schedule.window
    if schedule.carry and not overlap and components.context.device.type == "cpu" and work > FOLD_UP_TO:
        return False
    return obstacle_to_folding(components.network, components.task.input_size, components.context) is None


def covers(network: Network, loss: Loss) -> bool:
    """Returns whether compiled updates can compute the head and the loss, with neither dropout nor frozen weights."""
    if loss not in {*KNOWN, *KNOWN.values()} or not network.has_compiled_head:
        return False
    trains_all = all(parameter.requires_grad for parameter in network.parameters())
    return trains_all and not network.cell.recurrence().dropout
