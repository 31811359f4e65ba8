"""Records the operations of a function on a CPU, and repeats them without autograd and without the function's Python.

An update of a small network takes most of its time in what surrounds the arithmetic: autograd's nodes, views, new
tensors, and the Python of the cell. A ``Program`` holds only the operations that compute, each with the tensors that
it reads and writes. It repeats them in place, on the memory of the recording, with torch's own kernels, so that the
numbers are the same to the last bit. This is for the CPU what a CUDA graph is for the GPU, and has the same limits:
what the function does in Python, or outside of torch, is not repeated.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from seqrnn.strategies.engine import NotCapturable

MOST_BYTES = 2**23  # of the tensors of a recording: beyond, the time goes into arithmetic
# Operations that make a tensor of constant values, whatever the values of the tensors that they are given.
CONSTANT = {"zeros", "ones", "full", "arange", "scalar_tensor", "eye", "linspace"}
CONSTANT |= {"zeros_like", "ones_like", "full_like", "new_zeros", "new_ones", "new_full"}
UNWRITTEN = {"empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided"}
MOVED = {"set_", "resize_", "resize_as_"}  # the memory of a tensor is exchanged


class Operation:
    """One operation: its arguments, the tensors that it has returned, and which memory it reads and writes."""

    __slots__ = ("arguments", "function", "grad_enabled", "keywords", "reads", "returned", "writes")

    def __init__(self, function: Any, arguments: Any, keywords: Any, returned: list[Tensor]) -> None:
        self.function, self.arguments, self.keywords, self.returned = function, arguments, keywords, returned
        self.grad_enabled = torch.is_grad_enabled()  # some layers save numbers only where it is
        self.reads = {_memory(tensor) for tensor in _tensors((arguments, keywords))}
        self.writes: set[int] = set()
        for number, name in _written(function):
            value = arguments[number] if number < len(arguments) else keywords.get(name)
            self.writes |= {_memory(tensor) for tensor in _tensors(value)}

    @property
    def name(self) -> str:
        """The name without that of the overload."""
        name: str = self.function.overloadpacket.__name__
        return name

    @property
    def is_random(self) -> bool:
        return torch.Tag.nondeterministic_seeded in self.function.tags

    def candidates(self) -> Iterator[Callable[[], object]]:
        """Yields ways to compute the operation into the tensors that it has returned, the fastest first. One that
        does not exist raises a TypeError when it is called."""
        if self.name in {"clone", "_to_copy"}:
            yield partial(torch.Tensor.copy_, self.returned[0], self.arguments[0])
            return
        owner = torch.Tensor if self.writes else torch
        direct = getattr(owner, self.name, None)
        if self.writes and not self._new():
            if direct is not None:
                yield partial(direct, *self.arguments, **self.keywords)
            yield partial(self.function, *self.arguments, **self.keywords)
            return
        found = _with_out(self.function)
        if found is not None:
            overload, name, is_list = found
            out = self.returned if is_list else self.returned[0]
            if direct is not None and name == "out":
                yield partial(direct, *self.arguments, **self.keywords, out=out)
            yield partial(overload, *self.arguments, **self.keywords, **{name: out})
        yield self._copied

    def _new(self) -> list[Tensor]:
        """Returns the tensors returned that are none of the arguments."""
        return [tensor for tensor in self.returned if _memory(tensor) not in self.reads]

    def _copied(self) -> None:
        with torch.set_grad_enabled(self.grad_enabled):
            found = self.function(*self.arguments, **self.keywords)
        if self.returned:
            torch._foreach_copy_(self.returned, list(_tensors(found)))


class Program:
    """The operations of a function, which can be repeated.

    Args:
        results: the tensors that the function has returned; each repetition writes to them.
    """

    def __init__(self, operations: Sequence[Operation], results: Sequence[Tensor]) -> None:
        self.results = results
        self._operations: Sequence[Operation] | None = operations
        self._calls: list[Callable[[], object]] = []

    def __call__(self) -> None:
        """Computes the results from what the tensors that the operations read hold now."""
        with torch.no_grad():
            if self._operations is not None:
                self._calls = [_first_call(operation) for operation in self._operations]
                self._operations = None
                return
            for call in self._calls:
                call()


def _first_call(operation: Operation) -> Callable[[], object]:
    """Computes an operation; returns what computes it in the fastest way that exists."""
    *candidates, last = operation.candidates()
    for call in candidates:
        try:
            call()
        except TypeError:
            continue
        return call
    last()
    return last


class Recording:
    """Captures functions on a CPU, as programs."""

    exact = True
    captures_steps = False  # on a CPU, optimizers read their counts of steps in Python

    def warm_up(self) -> AbstractContextManager[object]:
        return nullcontext()

    def capture(self, function: Callable[[], Sequence[Tensor]]) -> Program:
        recorder = _Recorder()
        with recorder:
            results = [recorder.plain(tensor) for tensor in function()]
        if recorder.obstacle:
            raise NotCapturable(recorder.obstacle)
        return Program(_needed(recorder.operations, results), results)


def _needed(operations: Sequence[Operation], results: Sequence[Tensor]) -> list[Operation]:
    """Returns the operations on which the results, or tensors from before the recording, depend."""
    written = set().union(*(operation.writes for operation in operations))
    own = {_memory(tensor) for operation in operations for tensor in operation._new()}
    needed, found = {_memory(tensor) for tensor in results}, []
    for operation in reversed(operations):
        constant = operation.name in CONSTANT and not written & {_memory(each) for each in operation.returned}
        makes = {_memory(tensor) for tensor in operation.returned} | operation.writes
        if constant or not (operation.is_random or makes & needed or operation.writes - own):
            continue
        needed |= operation.reads
        found.append(operation)
    return found[::-1]


class _Recorder(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Takes note of all operations while it is active."""

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # to skip it, torch would import its compiler, which takes a second

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.operations: list[Operation] = []
        self.obstacle: str | None = None
        self._plain: dict[int, tuple[Tensor, Tensor]] = {}  # tensors without their history, and what has the key's id
        self._unwritten: set[int] = set()
        self._bytes = 0

    def plain(self, tensor: Tensor) -> Tensor:
        """Returns a tensor of the same memory without the history that autograd keeps."""
        found = self._plain.get(id(tensor))
        if found is None:
            found = self._plain[id(tensor)] = tensor, tensor.detach()
        return found[1]

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = function(*args, **(kwargs or {}))
        if self.obstacle is None:
            returned = [self.plain(tensor) for tensor in _tensors(result)]
            self._add(Operation(function, _mapped(self.plain, args), _mapped(self.plain, kwargs or {}), returned))
        return result

    def _add(self, operation: Operation) -> None:
        self.obstacle = self._obstacle_of(operation)
        new = operation._new()
        if self.obstacle or (operation.returned and not new and not operation.writes):
            return  # a view: it stays what it is
        if operation.name in UNWRITTEN:
            self._unwritten |= {_memory(tensor) for tensor in new}
        else:
            self._unwritten -= operation.writes
            self.operations.append(operation)
        self._bytes += sum(tensor.untyped_storage().nbytes() for tensor in new)
        if self._bytes > MOST_BYTES:
            self.obstacle = f"one has more than {MOST_BYTES / 2**20:.0f} MiB of numbers, and would not be faster"

    def _obstacle_of(self, operation: Operation) -> str | None:
        tags = operation.function.tags
        if torch.Tag.data_dependent_output in tags or torch.Tag.dynamic_output_shape in tags:
            return f"Python depends on a number in a tensor ({operation.function})"
        if operation.name in MOVED:
            return f"the memory of a tensor is exchanged ({operation.function})"
        if any(tensor.device.type != "cpu" or tensor.layout != torch.strided for tensor in operation.returned):
            return f"a tensor is not a plain one on the CPU ({operation.function})"
        views = operation.returned and not operation._new() and not operation.writes
        only_shapes = operation.name in UNWRITTEN | CONSTANT
        if not (views or only_shapes) and (operation.reads - operation.writes) & self._unwritten:
            return f"something outside of torch computes what {operation.function} reads"
        return None


@cache
def _written(function: Any) -> list[tuple[int, str]]:
    """Returns the arguments that an operation writes to, by place and name."""
    arguments = enumerate(function._schema.arguments)
    return [(number, each.name) for number, each in arguments if each.alias_info and each.alias_info.is_write]


@cache
def _with_out(function: Any) -> tuple[Any, str, bool] | None:
    """Returns the overload that writes to a given tensor or list, the name of that argument, and which it is."""
    schema, packet = function._schema, function.overloadpacket
    if len(schema.returns) != 1:
        return None
    own = [(argument.name, str(argument.type)) for argument in schema.arguments]
    for overload in (getattr(packet, name) for name in packet.overloads()):
        given = [each for each in overload._schema.arguments if each.is_out]
        others = [(each.name, str(each.type)) for each in overload._schema.arguments if not each.is_out]
        if len(given) == 1 and others == own and str(given[0].type) == str(schema.returns[0].type):
            return overload, given[0].name, str(given[0].type) != "Tensor"
    return None


def _memory(tensor: Tensor) -> int:
    """Returns what identifies the memory that a tensor is a view of."""
    found: int = tensor.untyped_storage()._cdata
    return found


def _tensors(values: Any) -> Iterator[Tensor]:
    if isinstance(values, Tensor):
        yield values
    elif isinstance(values, list | tuple):
        for value in values:
            yield from _tensors(value)
    elif isinstance(values, dict):
        yield from _tensors(list(values.values()))


def _mapped(function: Callable[[Tensor], Tensor], values: Any) -> Any:
    """Returns arguments with other tensors in the place of theirs."""
    if isinstance(values, Tensor):
        return function(values)
    if isinstance(values, list | tuple):
        return [_mapped(function, value) for value in values]
    if isinstance(values, dict):
        return {name: _mapped(function, value) for name, value in values.items()}
    return values
