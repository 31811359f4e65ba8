"""Why compiled code cannot compute something, in words; nothing here needs the compiler itself."""

from __future__ import annotations

import platform
from importlib.util import find_spec

import torch
from torch import nn

from seqrnn.loop import Place
from seqrnn.losses import LOSSES, Loss
from seqrnn.models.network import Network


def to_compiled_updates(network: Network, loss: Loss, place: Place) -> str | None:
    """What stands in the way of whole updates in compiled code; None: nothing."""
    if place.device.type != "cpu":
        return f"needs device=cpu, not {place.device.type}"
    if place.autocast is not None:
        return "needs precision=float32 or float64"
    if find_spec("numba") is None:
        return "numba is not installed"
    if platform.machine().lower() not in ("x86_64", "amd64"):
        return f"is made for x86-64 processors, not {platform.machine()}"
    capability = torch.backends.cpu.get_cpu_capability()
    if capability not in ("AVX2", "AVX512"):
        return f"needs a processor with AVX2, and this one has {capability}"
    recurrence = getattr(network.cell, "recurrence", None)
    if recurrence is None:
        return "this cell does not say how it computes (see seqrnn.models.protocol.Recurrence)"
    if recurrence().dropout:
        return "knows no dropout"
    head = list(network.head) if isinstance(network.head, nn.Sequential) else [network.head]
    if [type(part) for part in head] not in ([nn.Linear], [nn.Linear, nn.ReLU, nn.Linear]):
        return "knows no such head"
    if loss not in LOSSES.values():
        return "knows no such loss"
    return None
