"""Prints what the first training of an experiment in this process takes longer than the second, in seconds: compiling
kernels, or loading them from their cache.

    python -m benchmarks.first_call integral_forgetting
"""

from __future__ import annotations

import sys
import time

import torch

from benchmarks import implementation
from benchmarks.seqrnn_implementation import overrides
from seqrnn.components import build_components
from seqrnn.plugins import load_components
from seqrnn.settings import composed_values
from seqrnn.training import fit


def main() -> None:
    load_components()
    torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))])  # torch's own first call, which is not what is asked
    words = [*overrides(sys.argv[1], implementation.Options(), "compiled"), "schedule.max_updates=2"]
    words += ["task.synthetic=true"] if sys.argv[1] == "mnist_lstm" else []
    values = composed_values(words)
    clocks = []
    for _ in range(3):
        began = time.perf_counter()
        fit(build_components(values))
        clocks.append(time.perf_counter() - began)
    print(clocks[0] - min(clocks[1:]))


if __name__ == "__main__":
    main()
