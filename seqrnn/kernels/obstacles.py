"""Why compiled code cannot compute something, in words. Nothing here imports the compiler."""

from __future__ import annotations

import os
import platform
from functools import cache
from importlib.util import find_spec
from typing import Any

import torch

WIDEST = {"AVX2": 256, "AVX512": 1024}  # hidden units up to which products in compiled code are faster


def to_compiled(cell: Any, device: torch.device, dtype: torch.dtype) -> str | None:
    """What stands in the way of computing a cell in compiled code; None: nothing."""
    if device.type != "cpu":
        return f"needs device=cpu, not {device.type}"
    if dtype not in (torch.float32, torch.float64):
        return "needs precision=float32 or float64"
    if getattr(cell, "recurrence", None) is None:
        return "this cell does not say how it computes (see seqrnn.models.protocol.Recurrence)"
    return of_machine()


@cache
def of_machine() -> str | None:
    """What stands in the way on this machine."""
    if find_spec("numba") is None:
        return "numba is not installed"
    if os.environ.get("NUMBA_DISABLE_JIT", "0") not in ("", "0"):
        return f"numba compiles nothing, as NUMBA_DISABLE_JIT={os.environ['NUMBA_DISABLE_JIT']} is set"
    if platform.machine().lower() not in ("x86_64", "amd64"):
        return f"is made for x86-64 processors, not for {platform.machine()}"
    if _capability() not in WIDEST:
        return f"needs a processor with AVX2, and this one has {_capability()}"
    return None


def pays(kind: str, size: int, streams: int, gradients: bool) -> bool:
    """Whether compiled code is the faster one, as benchmarks/ measures it: torch's own LSTM is oneDNN's, which is as
    good where matrices are large, and better where nothing has to be kept for a backward pass."""
    if kind == "lstm" and not gradients:
        return size <= 64 or streams <= 8
    return size <= (256 if kind == "lstm" else WIDEST[_capability()])


def _capability() -> str:
    return torch.backends.cpu.get_cpu_capability()
