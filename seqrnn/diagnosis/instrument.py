"""What an instrument is: it measures a trained network, recognises symptoms in its result, and draws the result.

An instrument is one file with one registered class. The built-in ones are in ``seqrnn/diagnosis/instruments/``; a
package of your own registers another one the same way, and is imported by ``--plugins`` or ``plugins``:

    class Sparsity(Record):
        zeros: Interval

    @register("instrument", "sparsity")
    class SparsityInstrument:
        description = "counting weights that are zero"
        order = 5
        result_type = Sparsity

        def measure(self, run: TrainedRun) -> Sparsity: ...
        def symptoms(self, result: Sparsity) -> Iterator[Finding]: ...
        def pictures(self) -> list[Picture]: ...

A result is read and drawn without torch: import torch, and what needs it, inside ``measure``.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from seqrnn import registry
from seqrnn.diagnosis.intervals import Interval
from seqrnn.diagnosis.record import Items, Name, Record

if TYPE_CHECKING:
    from seqrnn.diagnosis.panel import Panel
    from seqrnn.diagnosis.trained_run import TrainedRun

R = TypeVar("R", bound=Record)


class Evidence(Record):
    """A measured quantity that a finding rests on."""

    quantity: str
    interval: Interval


class Finding(Record):
    """A conclusion from measurements, made only where a whole confidence interval lies beyond a threshold.

    Args:
        name: of the kind of finding.
        title: in a few words.
        description: in a sentence or two.
        evidence: what it rests on.
        remedies: names of those that might help, see ``seqrnn.diagnosis.remedies``. A finding without remedies is
            reported, and is not a cause of anything, unless it has an effect.
        effect: of a fault that lies in the data, where no remedy can show it: the loss without the fault ÷ the loss
            as it is, as it was measured or estimated. Such a finding is a cause, whatever its remedies do.
    """

    name: Name
    title: str
    description: str
    evidence: Items[Evidence]
    remedies: Items[str]
    effect: Interval | None = None


@dataclass(frozen=True)
class Examination:
    """The results of the instruments by their names, and for each instrument without a result the reason."""

    results: Mapping[str, Record] = field(default_factory=dict)
    missing: Mapping[str, str] = field(default_factory=dict)

    def get(self, result_type: type[R]) -> R | None:
        """Returns the result of this type; None if it is missing."""
        return next((result for result in self.results.values() if isinstance(result, result_type)), None)


@dataclass(frozen=True)
class Picture:
    """A panel of diagnosis.png.

    Args:
        question: that the panel answers; its title.
        draw: draws the instrument's result; may draw what other instruments found as well.
        findings: names of the findings that rest on what is drawn.
    """

    question: str
    draw: Callable[[Panel, Any, Examination], None]
    findings: frozenset[str] = frozenset()


class Instrument(Protocol[R]):
    """
    Attributes:
        description: what it does, for the terminal while it measures; begins with a verb.
        order: its place among the instruments, smallest first.
        result_type: the class of its results.
    """

    description: str
    order: int
    result_type: type[R]

    def measure(self, run: TrainedRun) -> R:
        """Measures a trained network, within ``run.budget``.

        Raises:
            UserError: the measurement does not apply to this run, or takes too long.
        """

    def symptoms(self, result: R) -> Iterable[Finding]:
        """Returns what is wrong according to this result alone."""

    def pictures(self) -> Sequence[Picture]:
        """Returns the panels that show the result; none are needed."""


def instruments() -> dict[str, Instrument[Any]]:
    """Returns the registered instruments by name, in their order."""
    package = importlib.import_module("seqrnn.diagnosis.instruments")
    for module in pkgutil.iter_modules(package.__path__):
        importlib.import_module(f"{package.__name__}.{module.name}")
    known = {name: registry.find("instrument", name)() for name in registry.names("instrument")}
    return dict(sorted(known.items(), key=lambda item: (item[1].order, item[0])))
