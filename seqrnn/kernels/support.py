"""Whether compiled code can compute something here, and whether it is faster. Nothing here imports the compiler."""

from __future__ import annotations

import os
import platform
from functools import cache
from importlib.util import find_spec

import torch

from seqrnn.kernels.specification import CellSpecification, Recurrence, obstacle_to_compiling

PROCESSORS = ("x86_64", "amd64", "aarch64", "arm64")  # names of two kinds
# Hidden units up to which compiled code is faster than torch's own loop over timesteps, by the bytes of a vector:
# its products are made for small matrices. Measured by benchmarks/kernels.py. At 16 bytes, the two are about even
# there if compiler and libraries use SSE alone; ARM has not been measured.
FASTER_UP_TO = {16: 128, 32: 256, 64: 1024}


def compiled_obstacle(recurrence: Recurrence | None, device: torch.device, dtype: torch.dtype) -> str | None:
    """Returns why a cell cannot be computed in compiled code; None if it can.

    Args:
        recurrence: what the cell computes; None: the cell has no such method.
    """
    if device.type != "cpu":
        return f"needs device=cpu, not {device.type}"
    if dtype not in (torch.float32, torch.float64):
        return "needs precision=float32 or float64"
    if recurrence is None or recurrence.specification.compiled is None:
        return "this cell is written for torch alone"
    return machine_obstacle() or obstacle_to_compiling(recurrence.specification.compiled)


@cache
def machine_obstacle() -> str | None:
    """Returns why this machine cannot run compiled code; None if it can."""
    if find_spec("numba") is None:
        return "numba is not installed"
    if os.environ.get("NUMBA_DISABLE_JIT", "0") not in ("", "0"):
        return f"numba compiles nothing, as NUMBA_DISABLE_JIT={os.environ['NUMBA_DISABLE_JIT']} is set"
    if platform.machine().lower() not in PROCESSORS:
        return f"is made for x86-64 and 64-bit ARM processors, not for {platform.machine()}"
    return None


def slower_reason(specification: CellSpecification, size: int, streams: int, gradients: bool) -> str | None:
    """Returns why torch is to compute a cell of ``size`` hidden units; None if compiled code is faster."""
    if not gradients and specification.forward_faster_up_to is not None:
        most, most_streams = specification.forward_faster_up_to
        if size <= most or streams <= most_streams:
            return None
        return f"faster than compiled code beyond {most} hidden units and {most_streams} streams without gradients"
    most = specification.faster_up_to or FASTER_UP_TO[64]
    if size > most:
        return f"faster than compiled code beyond {most} hidden units"
    if size <= min(FASTER_UP_TO.values()):
        return None  # whatever the processor is; the compiler, which knows it, need not be imported
    from seqrnn.kernels.target import TARGET  # late: it imports the compiler

    width = TARGET.vector_bytes
    if size <= FASTER_UP_TO[width] or width == max(FASTER_UP_TO):  # where a cell's own limit was measured
        return None
    return f"faster than compiled code beyond {FASTER_UP_TO[width]} hidden units, with vectors of {width} bytes"
