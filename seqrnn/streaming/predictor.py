"""Feeds a trained network one timestep at a time. I inputs, H hidden units, O outputs, L layers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from seqrnn.checkpoints.init_from import weights_hash
from seqrnn.errors import DataError
from seqrnn.models.network import Network
from seqrnn.models.protocol import State, detached
from seqrnn.streaming import state_file

Array = NDArray[Any]


class Timestep(Protocol):
    """Computes one timestep after another, and holds the state in between."""

    state: State  # after the latest timestep, parts (L, 1, H)

    def __call__(self, inputs: Array) -> Array:
        """Returns the outputs (O,) for the inputs (I,) of the next timestep."""

    def refresh(self) -> None:
        """Takes over weights that have been changed in place."""


class StreamPredictor:
    """Predicts from one timestep after another, and holds the network's state in between.

        predictor = seqrnn.load(RUN_DIR).stream()
        outputs = predictor(inputs)  # (I,) -> (O,)

    The outputs are those that the network computes for the whole sequence at once, to rounding. Small networks are
    computed in compiled code unless ``kernel=torch``. A predictor serves one thread.

    Args:
        network: in evaluation mode, on the CPU; its parameters are moved in memory.
        input_size: I.
        origin: what the network is, by name, for the files of states; the hash of the weights is added.
        announce: is given a line before compiled code is compiled.
    """

    def __init__(
        self,
        network: Network,
        input_size: int,
        origin: Mapping[str, Any],
        announce: Callable[[str], None] | None = None,
    ) -> None:
        self.network, self.input_size = network, input_size
        self.timesteps = 0  # since the last reset
        self._origin = dict(origin)
        parameter = next(network.parameters())
        self._dtype: Any = torch.empty(0, dtype=parameter.dtype).numpy().dtype
        self._timestep = _timestep_of(network, announce)
        self._initial = network.initial_state(1)

    def __call__(self, inputs: ArrayLike) -> Array:
        """Returns the outputs (O,) for the inputs (I,) of the next timestep.

        Raises:
            DataError: the inputs are not I finite numbers; the state is as it was.
        """
        outputs = self._timestep(self.check(inputs))
        self.timesteps += 1
        return outputs

    def reset(self) -> None:
        """Begins a new sequence: returns to the initial state."""
        self._timestep.state = self._initial
        self.timesteps = 0

    @property
    def state(self) -> State:
        """The state after the latest timestep: parts (L, 1, H), copies."""
        return self._timestep.state

    @state.setter
    def state(self, state: State) -> None:
        state_file.check_parts(state, self._initial)
        self._timestep.state = state

    def refresh(self) -> None:
        """Takes over weights of the network that have been changed in place; the state stays as it is."""
        self._timestep.refresh()

    def save(self, path: str | Path) -> None:
        """Writes the state to a file, whole or not at all.

        Raises:
            OSError: the file cannot be written.
        """
        state_file.save(Path(path), self.identity, self.state, self.timesteps)

    def restore(self, path: str | Path) -> None:
        """Continues from a state that ``save`` has written.

        Raises:
            DataError: the file cannot be read or is damaged, or it holds the state of another network.
        """
        state, self.timesteps = state_file.restore(Path(path), self.identity, self._initial)
        self._timestep.state = state

    @property
    def identity(self) -> dict[str, Any]:
        """What the network is, by name, and the hash of its weights."""
        return {**self._origin, "weights": weights_hash(self.network.state_dict())[:16]}

    def check(self, inputs: ArrayLike) -> Array:
        """Returns the inputs of a timestep (I,) in the network's precision.

        Raises:
            DataError: they are not I finite numbers.
        """
        try:
            with np.errstate(over="ignore"):  # it is refused below
                values = np.asarray(inputs, self._dtype)
        except (TypeError, ValueError):
            raise DataError(f"inputs {_shown(inputs)}: should be {self.input_size} numbers") from None
        if values.shape != (self.input_size,):
            raise DataError(f"inputs of shape {values.shape}: should be ({self.input_size},), one timestep")
        if not np.isfinite(values).all():
            number = int(np.flatnonzero(~np.isfinite(values))[0])
            raise DataError(f"input {number} is {values[number]}; should be a finite number")
        return values


class _TorchTimestep:
    """Computes a timestep by torch's operations: any cell."""

    def __init__(self, network: Network) -> None:
        self.network = network
        self._state = network.initial_state(1)
        self._device = next(network.parameters()).device

    def __call__(self, inputs: Array) -> Array:
        with torch.inference_mode():
            values = torch.from_numpy(inputs.copy()).view(1, 1, -1)
            outputs, self._state = self.network(values.to(self._device), self._state)
        found: Array = outputs.view(-1).cpu().numpy()
        return found

    @property
    def state(self) -> State:
        return tuple(part.detach().cpu().clone() for part in self._state)

    @state.setter
    def state(self, state: State) -> None:
        self._state = tuple(part.to(self._device) for part in detached(state))

    def refresh(self) -> None:
        pass


def _timestep_of(network: Network, announce: Callable[[str], None] | None) -> Timestep:
    parameter = next(network.parameters())
    recurrence = network.compiled_recurrence(parameter.device, parameter.dtype, 1, gradients=False)
    if recurrence is None or not network.has_compiled_head:
        return _TorchTimestep(network)
    from seqrnn.kernels import timestep  # late: it imports the compiler

    return timestep.Timestep(recurrence, network.head, announce)


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
