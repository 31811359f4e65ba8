"""How updates are computed: strategies with one interface, of which training knows no more than that."""

from __future__ import annotations

from typing import TYPE_CHECKING

from seqrnn.errors import ConfigError
from seqrnn.strategies.plain import Plain, WindowByWindow
from seqrnn.strategies.protocol import Strategy

if TYPE_CHECKING:
    from seqrnn.settings import Experiment


def choose(run: Experiment) -> Strategy:
    """The fastest way to compute the updates of a run that ``model.kernel`` allows.

    Raises:
        ConfigError: model.kernel=compiled, where compiled code does not apply.
    """
    network, kernel = run.network, run.network.kernel
    if kernel != "torch":
        from seqrnn.strategies import obstacles

        obstacle = obstacles.to_compiled_updates(network, run.loss, run.place)
        if obstacle is None:
            from seqrnn.strategies.compiled import Compiled

            batches = run.task.train(0, run.schedule.streams)
            largest = max(batch.streams for batch in batches), max(batch.timesteps for batch in batches)
            return Compiled(network, run.loss, run.optimizer, run.schedule, run.place, largest)
        if kernel == "compiled":
            raise ConfigError(f"model.kernel=compiled: {obstacle}; set model.kernel=auto or model.kernel=torch")
    gradients = WindowByWindow(network, run.loss, run.schedule.carry, run.place)
    return Plain(network, run.optimizer, run.schedule, gradients)
