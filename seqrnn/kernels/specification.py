"""What a cell tells about itself: the specification of its kind, and the parameters of its layers.

T timesteps, B streams, I inputs, H hidden units, L layers. Nothing here imports the compiler.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from torch import Tensor
from torch.nn import Parameter

from seqrnn.kernels import cells

# clip limits to [0, 1]; positive is x + 1/2 for x ≥ 0 and σ(x) below.
Activation = Literal["tanh", "relu", "clip", "linear", "positive"]
GateActivation = Literal["sigmoid", "tanh", "relu", "linear", "positive"]


@dataclass(frozen=True)
class GateSpecification:
    """One gate: activation(W x + b + U h), or activation(W x + b + scale ⊙ (U h + b')) where it has a scale. A
    candidate that is neither a sigmoid nor a tanh has no limits, so it is neither open nor closed.

    Args:
        name: such as ``forget``.
        activation: the function of the sum.
        state_scale: the name of an earlier gate that multiplies the state's part of the sum.
        is_normalised: whether the cell divides it by the sum of all its gates of which this is true. All are
            sigmoids.
    """

    name: str
    activation: GateActivation
    state_scale: str | None = None
    is_normalised: bool = False

    def __post_init__(self) -> None:
        _check_choice(f"gate {self.name!r}: activation", self.activation, GateActivation)
        if self.is_normalised and self.activation != "sigmoid":
            raise ValueError(
                f"gate {self.name!r}: activation={self.activation!r}: must be sigmoid where it is normalised"
            )


@dataclass(frozen=True, eq=False)  # compared and hashed by identity: hashing all fields would slow down each call
class CellSpecification:
    """Everything that depends on the kind of a cell and that others must know: compiled code, schedules, diagnosis.

    The defaults describe the simple recurrent network.

    Args:
        activation: the function whose range the outputs have.
        gates: the blocks of H columns of the matrices, in order, those with a ``state_scale`` last. None: there is
            one block, and ``activation`` of its sum is the output.
        state: the names of the state's parts, each (L, B, H). The first part is the cell's output; all start as zero.
        independent: whether each unit receives only itself from the state, so that U is a vector (H,).
        state_in_sums: whether the sums have a part U h. Where they have none, there is no U: gates and candidate
            depend on the inputs alone, and each unit receives only itself from the state.
        compiled: the name of the module with the cell's compiled twin (see ``seqrnn.kernels.cells``), if it has one.
        saved: numbers per hidden unit and timestep that the compiled forward pass saves for the backward pass, apart
            from the state; None: as many as there are blocks.
        faster_up_to: hidden units up to which compiled code is faster than torch; None: as many as with torch's own
            loop over timesteps (see ``seqrnn.kernels.support``).
        forward_faster_up_to: the same where no gradients are needed: hidden units, or else streams, up to which
            compiled code is faster; None: ``faster_up_to`` holds there too.
    """

    activation: Activation = "tanh"
    gates: tuple[GateSpecification, ...] = ()
    state: tuple[str, ...] = ("h",)
    independent: bool = False
    state_in_sums: bool = True
    compiled: str | None = None
    saved: int | None = None
    faster_up_to: int | None = None
    forward_faster_up_to: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        _check_choice("activation", self.activation, Activation)
        for name in ("gates", "state"):
            if not isinstance(getattr(self, name), tuple):
                raise ValueError(f"{name}={getattr(self, name)!r}: must be a tuple, such as (one,) for a single one")
        names = [gate.name for gate in self.gates]
        scales = [gate.state_scale for gate in self.gates]
        for number, scale in enumerate(scales):
            if scale is not None and scale not in names[:number]:
                raise ValueError(f"gate {names[number]!r}: its state_scale={scale!r} is no gate before it")
            if scale is None and any(scales[:number]):
                raise ValueError(f"gate {names[number]!r}: must stand before the gates that have a state_scale")
        if self.saved is not None and self.saved < self.blocks + self.scaled:
            raise ValueError(f"saved={self.saved}: must be at least {self.blocks + self.scaled}")

    @property
    def blocks(self) -> int:
        """Blocks of H columns in the matrices."""
        return max(1, len(self.gates))

    @property
    def scaled(self) -> int:
        """How many of the blocks, the last ones, have a ``state_scale``. The gradient by U h is not the one by W x
        there."""
        return sum(gate.state_scale is not None for gate in self.gates)

    @property
    def saved_numbers(self) -> int:
        """Numbers per hidden unit and timestep that the compiled forward pass saves, apart from the state."""
        return self.blocks + self.scaled if self.saved is None else self.saved

    @property
    def has_diagonal_recurrence(self) -> bool:
        """Whether each unit receives only itself from the state of its own layer."""
        return self.independent or not self.state_in_sums

    @property
    def outputs_are_states(self) -> bool:
        """Whether the outputs of a single layer tell its whole state."""
        return len(self.state) == 1


@dataclass(frozen=True)
class Layer:
    """The parameters of one layer of a recurrence.

    Args:
        inputs: I.
        matrices: the matrix of the inputs and that of the state, or a single one with the former on top. Of a cell
            whose units are ``independent``, that of the state is a vector (H,); of one without ``state_in_sums``,
            there is that of the inputs alone. A single matrix is not transposed.
        biases: the bias of the inputs and that of the state, or a single one, or none.
        transposed: whether the matrices are (outputs, inputs), as torch has them, and not (inputs, outputs).
    """

    inputs: int
    matrices: Sequence[Parameter]
    biases: Sequence[Parameter]
    transposed: bool


@dataclass(frozen=True)
class Recurrence:
    """What a cell computes, for code that computes it by itself, or that looks into it.

    Args:
        specification: of the kind of the cell.
        size: H, of all layers.
        layers: from the lowest on.
        dropout: the share of the outputs that training sets to zero between layers.
    """

    specification: CellSpecification
    size: int
    layers: Sequence[Layer]
    dropout: float

    def check_state(self, state: Sequence[Tensor], streams: int) -> None:
        """Checks that a state has the parts and the shapes that this recurrence needs.

        Raises:
            ValueError: it has not.
        """
        parts, shape = len(self.specification.state), (len(self.layers), streams, self.size)
        if len(state) != parts or any(part.shape != shape for part in state):
            shapes = [tuple(part.shape) for part in state]
            raise ValueError(f"a state of shapes {shapes}: should be {parts} of {shape}")

    def check_layers(self, inputs: int) -> None:
        """Checks that the parameters of the layers have the shapes that the specification asks for. Compiled code
        does not check where it reads and writes.

        Args:
            inputs: of the lowest layer.

        Raises:
            ValueError: a parameter has another shape.
        """
        kind, H = self.specification, self.size
        width = kind.blocks * H
        for number, layer in enumerate(self.layers):
            expected = H if number else inputs
            if layer.inputs != expected:
                raise ValueError(f"layer {number}: inputs={layer.inputs}; should be {expected}")
            state = [(H,)] if kind.independent else [(H, width)] if kind.state_in_sums else []
            allowed = [[(expected, width), *state], [(expected + H, width)]]
            if layer.transposed:
                allowed = [[shape[::-1] for shape in allowed[0]]]
            elif state != [(H, width)]:
                allowed.pop()
            shapes = [tuple(matrix.shape) for matrix in layer.matrices]
            if shapes not in allowed:
                choices = " or ".join(str(choice) for choice in allowed)
                raise ValueError(
                    f"layer {number}: matrices of shapes {shapes}; should be {choices}, for inputs={expected}, "
                    f"H={H}, {kind.blocks} block{'s' * (kind.blocks != 1)} and transposed={layer.transposed}"
                )
            biases = [tuple(bias.shape) for bias in layer.biases]
            if len(biases) > 2 or any(shape != (width,) for shape in biases):
                raise ValueError(f"layer {number}: biases of shapes {biases}; should be at most two of {(width,)}")


def _check_choice(what: str, value: Any, choices: Any) -> None:
    if value not in get_args(choices):
        raise ValueError(f"{what}={value!r}: must be one of {', '.join(get_args(choices))}")


def recurrence_of(cell: Any) -> Recurrence | None:
    """Returns what a cell computes, if it has a method ``recurrence`` that tells it (``seqrnn.models.protocol``)."""
    describe = getattr(cell, "recurrence", None)
    found: Recurrence | None = describe() if describe else None
    return found


_OWN = tuple(sorted(f"{cells.__name__}.{module.name}" for module in pkgutil.iter_modules(cells.__path__)))
_registered: set[str] = set()
_compiled: tuple[str, ...] | None = None


def register_compiled(module: str) -> str:
    """Registers the compiled twin of a cell from outside this package, and returns the name of its module.

    All twins are compiled into the same functions, so a twin must be registered before compiled code is first used in
    a process. Plugins are imported before that.
    """
    _registered.add(module)
    return module


def compiled_modules() -> tuple[str, ...]:
    """Returns the modules whose twins compiled code consists of. Those that are registered later are left out."""
    global _compiled
    if _compiled is None:
        _compiled = _candidates()
    return _compiled


def obstacle_to_compiling(module: str) -> str | None:
    """Returns why compiled code does not contain the twin in a module; None if it does."""
    if module in (_candidates() if _compiled is None else _compiled):
        return None
    if module in _registered:
        return f"{module} was registered after compiled code was first used, which is too late in this process"
    return f"{module} is not registered (see seqrnn.kernels.specification.register_compiled)"


def is_from_outside(module: str) -> bool:
    """Returns whether a compiled twin is not one of this package, whose tests compare its twins with torch."""
    return module not in _OWN


def _candidates() -> tuple[str, ...]:
    return (*_OWN, *sorted(_registered.difference(_OWN)))
