"""Linear recurrences over all timesteps at once. T timesteps, B streams, H hidden units."""

from __future__ import annotations

import torch
from torch import Tensor


def linear_scan(factors: Tensor, terms: Tensor, start: Tensor) -> Tensor:
    """Returns h_t = a_t ⊙ h_{t−1} + b_t for all timesteps, (T, B, H).

    It takes ⌈log₂ T⌉ steps, each of which reaches twice as far back as the one before (Hillis & Steele 1986, "Data
    parallel algorithms", Communications of the ACM 29), and equals the loop over timesteps to rounding.

    Args:
        factors: a, (T, B, H).
        terms: b, (T, B, H).
        start: h before the first timestep, (B, H).
    """
    a, h = factors, torch.cat([torch.addcmul(terms[:1], factors[:1], start), terms[1:]])
    reach = 1
    while reach < len(h):
        h = torch.cat([h[:reach], torch.addcmul(h[reach:], a[reach:], h[:-reach])])
        a = torch.cat([a[:reach], a[reach:] * a[:-reach]])
        reach *= 2
    return h
