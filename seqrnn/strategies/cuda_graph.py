"""Captures functions as CUDA graphs. This is the only file that knows of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from seqrnn.strategies.engine import Captured, NotCapturable


@dataclass
class Graph:
    """A captured function."""

    results: Sequence[Tensor]
    graph: torch.cuda.CUDAGraph

    def __call__(self) -> None:
        self.graph.replay()


class CudaGraphs:
    """Captures functions on an NVIDIA GPU.

    A function is computed as usual on a side stream before it is captured there, as torch's documentation of CUDA
    graphs asks for. Each graph has memory of its own, so that graphs may be repeated in any order.
    """

    exact = False  # atomic additions have no order
    captures_steps = True

    def __init__(self, device: torch.device) -> None:
        self.device, self.stream = device, torch.cuda.Stream(device)  # type: ignore[no-untyped-call]

    @contextmanager
    def warm_up(self) -> Iterator[None]:
        current = torch.cuda.current_stream(self.device)
        self.stream.wait_stream(current)
        with torch.cuda.stream(self.stream):
            yield
        current.wait_stream(self.stream)

    def capture(self, function: Callable[[], Sequence[Tensor]]) -> Captured:
        graph = torch.cuda.CUDAGraph()
        try:
            with torch.cuda.graph(graph, stream=self.stream):
                results = function()
        except RuntimeError as error:  # an operation that waits for the GPU, or copies from memory that is not pinned
            torch.cuda.synchronize(self.device)
            raise NotCapturable(str(error).splitlines()[0]) from None
        graph.replay()  # capturing computes nothing
        return Graph([tensor.detach() for tensor in results], graph)
