"""Whether compiled code can compute something here, and whether it is faster. Nothing here imports the compiler."""

from __future__ import annotations

import os
import platform
from functools import cache
from importlib.util import find_spec

import torch

from seqrnn.kernels.specification import CellSpecification, Recurrence, obstacle_to_compiling

# Hidden units up to which compiled code is faster than torch's own loop over timesteps: its products are made for
# small matrices. Measured by benchmarks/kernels.py.
FASTER_UP_TO = {"AVX2": 256, "AVX512": 1024}


def compiled_obstacle(recurrence: Recurrence | None, device: torch.device, dtype: torch.dtype) -> str | None:
    """Returns why a cell cannot be computed in compiled code; None if it can.

    Args:
        recurrence: what the cell computes, if it tells that.
    """
    if device.type != "cpu":
        return f"needs device=cpu, not {device.type}"
    if dtype not in (torch.float32, torch.float64):
        return "needs precision=float32 or float64"
    if recurrence is None:
        return "this cell does not tell what it computes (it has no method recurrence: see seqrnn.models.protocol)"
    if recurrence.specification.compiled is None:
        return "this cell has no compiled twin (see seqrnn.kernels.cells)"
    return machine_obstacle() or obstacle_to_compiling(recurrence.specification.compiled)


@cache
def machine_obstacle() -> str | None:
    """Returns why this machine cannot run compiled code; None if it can."""
    if find_spec("numba") is None:
        return "numba is not installed"
    if os.environ.get("NUMBA_DISABLE_JIT", "0") not in ("", "0"):
        return f"numba compiles nothing, as NUMBA_DISABLE_JIT={os.environ['NUMBA_DISABLE_JIT']} is set"
    if platform.machine().lower() not in ("x86_64", "amd64"):
        return f"is made for x86-64 processors, not for {platform.machine()}"
    if _capability() not in FASTER_UP_TO:
        return f"needs a processor with AVX2, and this one has {_capability()}"
    return None


def is_faster(specification: CellSpecification, size: int, streams: int, gradients: bool) -> bool:
    """Returns whether compiled code computes a cell of ``size`` hidden units faster than torch does."""
    if not gradients and specification.forward_faster_up_to is not None:
        most_units, most_streams = specification.forward_faster_up_to
        return size <= most_units or streams <= most_streams
    most = specification.faster_up_to
    return size <= (FASTER_UP_TO[_capability()] if most is None else most)


def _capability() -> str:
    return torch.backends.cpu.get_cpu_capability()
