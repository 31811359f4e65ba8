"""All instruments, one after another, on one run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch.linalg import LinAlgError  # type: ignore[attr-defined]

from seqrnn.diagnosis import baselines, drift, forgetting, memory, noise, reach, states, truncation
from seqrnn.diagnosis.baselines import Baselines
from seqrnn.diagnosis.drift import Drift
from seqrnn.diagnosis.forgetting import Forgetting
from seqrnn.diagnosis.memory import MemoryCapacity
from seqrnn.diagnosis.noise import Noise
from seqrnn.diagnosis.reach import Reach
from seqrnn.diagnosis.states import States
from seqrnn.diagnosis.subject import Subject
from seqrnn.diagnosis.truncation import Truncation
from seqrnn.errors import UserError


@dataclass(frozen=True)
class Examination:
    """What the instruments say; None: an instrument does not apply, for the reason in ``missing``."""

    baselines: Baselines | None
    reach: Reach | None
    truncation: Truncation | None
    forgetting: Forgetting | None
    noise: Noise | None
    states: States | None
    memory: MemoryCapacity | None
    drift: Drift | None
    missing: dict[str, str]


INSTRUMENTS: dict[str, tuple[str, Callable[[Subject], object]]] = {
    "baselines": ("comparing with trivial predictors", baselines.measure),
    "reach": ("following gradients back", reach.measure),
    "truncation": ("comparing gradients with full ones", truncation.measure),
    "forgetting": ("training on, to see what is forgotten", forgetting.measure),
    "noise": ("measuring gradient noise", noise.measure),
    "states": ("looking at units and gates", states.measure),
    "memory": ("reading the past from the state", memory.measure),
    "drift": ("running on, twenty times longer", drift.measure),
}


def examine(subject: Subject, announce: Callable[[str], None] = lambda text: None) -> Examination:
    """Measures everything. What an instrument cannot do is not a failure of the others."""
    found: dict[str, object] = {}
    missing: dict[str, str] = {}
    for name, (what, measure) in INSTRUMENTS.items():
        announce(what)
        try:
            found[name] = measure(subject)
        except UserError as error:
            found[name], missing[name] = None, str(error)
        except LinAlgError:
            found[name], missing[name] = None, "the network's outputs are NaN, infinite, or too large to compute with"
    return Examination(**found, missing=missing)  # type: ignore[arg-type]
