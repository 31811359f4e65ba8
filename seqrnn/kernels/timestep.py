"""One timestep of one stream of a network, in one call of compiled code, for predictions that come one at a time.

It computes what the forward pass of ``seqrnn.kernels.recurrence`` and the head compute.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from seqrnn.kernels import head, layers, layout
from seqrnn.kernels.compiler import entry
from seqrnn.kernels.functions import copy
from seqrnn.kernels.layout import (
    CELL_NUMBER,
    INPUT,
    INPUTS,
    LAYER_FIELDS,
    LAYERS,
    NEXT_PART,
    OUT,
    OUTPUT,
    OUTPUTS,
    PARTS,
    PREVIOUS,
    SIZE,
)
from seqrnn.kernels.network import FlatNetwork
from seqrnn.kernels.simd import offset, pointer
from seqrnn.kernels.specification import Recurrence

Array = NDArray[Any]
State = tuple[Tensor, ...]  # parts (L, B, H), as in seqrnn.models.protocol


@entry
def prepare(p_, w_, layers_, c_):
    """Computes what all timesteps share between two changes of the parameters."""
    p, w, q, c = pointer(p_), pointer(w_), pointer(layers_), pointer(c_)
    for index in range(c[LAYERS]):
        layers.prepare(p, w, offset(q, index * LAYER_FIELDS), False, False)


@entry
def advance(p_, w_, layers_, c_, state_, inputs_, outputs_):
    """Computes the outputs for one timestep, and replaces the state, (parts, L, H), with the one after it."""
    p, w, q, c = pointer(p_), pointer(w_), pointer(layers_), pointer(c_)
    state, inputs, outputs = pointer(state_), pointer(inputs_), pointer(outputs_)
    deep = c[LAYERS]
    top = offset(q, (deep - 1) * LAYER_FIELDS)
    H, parts = top[SIZE], top[PARTS]
    copy(inputs, 0, w, q[INPUT], q[INPUTS])
    for index in range(deep):
        layer = offset(q, index * LAYER_FIELDS)
        layers.project(p, w, layer, 1)
        for part in range(parts):
            copy(state, (part * deep + index) * H, w, layer[PREVIOUS] + part * layer[NEXT_PART], H)
        layers.step(c[CELL_NUMBER], p, w, layer, 0, 1)
        for part in range(parts):
            copy(w, layer[OUTPUT] + part * layer[NEXT_PART], state, (part * deep + index) * H, H)
    head.forward(p, w, c, H, 1, top[OUTPUT])
    copy(w, c[OUT], outputs, 0, c[OUTPUTS])


class Timestep:
    """Computes a network one timestep at a time, and holds its state in between.

    Args:
        recurrence: the network's cell, whose parameters are moved into one array.
        head: a linear module, or a sequence of linear, ReLU and linear.
        announce: is given a line before compiled code is compiled.
    """

    def __init__(
        self, recurrence: Recurrence, head: nn.Module, announce: Callable[[str], None] | None = None
    ) -> None:
        flat = FlatNetwork(recurrence, head, 1, 1)
        p = flat.p.numpy()
        parts, deep = len(recurrence.specification.state), len(recurrence.layers)
        self._state: Array = np.zeros((parts, deep, recurrence.size), p.dtype)
        self._inputs: Array = np.zeros(int(flat.layers[0, INPUTS]), p.dtype)
        self._outputs: Array = np.zeros(int(flat.table[layout.OUTPUTS]), p.dtype)
        self._network = p, flat.w, flat.layers.reshape(-1), flat.table
        self._arguments = *self._network, self._state.reshape(-1), self._inputs, self._outputs
        prepare.ready(*self._network, announce=announce)
        self._advance = advance.ready(*self._arguments, announce=announce)
        self.refresh()

    def refresh(self) -> None:
        """Takes over weights that have been changed in place."""
        prepare(*self._network)

    def __call__(self, inputs: Array) -> Array:
        """Returns the outputs (O,) for the inputs (I,) of the next timestep."""
        self._inputs[:] = inputs
        self._advance(*self._arguments)
        return self._outputs.copy()

    @property
    def state(self) -> State:
        """The state after the latest timestep, parts (L, 1, H), as copies."""
        return tuple(torch.from_numpy(part[:, None].copy()) for part in self._state)

    @state.setter
    def state(self, state: State) -> None:
        for own, part in zip(self._state, state, strict=True):
            own[:] = part[:, 0].numpy()
