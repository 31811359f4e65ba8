"""What an exported network is given and what it returns, number by number, and how that belongs to its network.

T timesteps, N sequences, I inputs, O outputs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from pydantic import BaseModel
from torch import Tensor

from seqrnn.exporting.programs import Units
from seqrnn.rundir.formats import SummaryValues

MOST_COLUMNS = 1000  # of a task without names for them


class Column(BaseModel):
    """A number that an exported network is given or returns at each timestep.

    Args:
        name: what it is.
        meaning: its unit, and how it is to be given or read.
    """

    name: str
    meaning: str


@dataclass(frozen=True)
class Interface:
    """The inputs and outputs of an exported network.

    Args:
        inputs, outputs: in the order of the last axis.
        units: what stands around the network.
        given: maps inputs of the network (T, N, I) to what the export is given instead.
        expected: maps outputs of the network (T, N, O) to what the export should return, as the run itself does it.
        data: where the run's data is from, in a sentence.
        purpose: what the network is for, such as ``forecasts``; empty: what its task is, a regression or a
            classification.
    """

    inputs: Sequence[Column]
    outputs: Sequence[Column]
    units: Units
    given: Callable[[Tensor], Tensor]
    expected: Callable[[Tensor], Tensor]
    data: str
    purpose: str = ""

    def dtype(self, network: torch.dtype) -> torch.dtype:
        """Returns the type of inputs and outputs.

        Args:
            network: that of the network.
        """
        return self.units.dtype or network


def task_interface(summary: SummaryValues, seed: int) -> Interface:
    """Returns the interface of a task whose networks read and return its own units."""
    picture, meaning = summary.picture, f"as task={summary.task} has it"
    if summary.kind == "classification":
        outputs = _numbered(summary.output_size, "class", "unnormalised log-probability of this class")
    else:
        outputs = _numbered(summary.output_size, picture.target if picture else "target", meaning)
    return Interface(
        _numbered(summary.input_size, picture.input if picture else "input", meaning),
        outputs,
        Units(),
        lambda inputs: inputs,
        lambda outputs: outputs,
        f"The task {summary.task} makes or reads it, with the seed {seed}.",
    )


def _numbered(count: int, name: str, meaning: str) -> list[Column]:
    if count == 1:
        return [Column(name=name, meaning=meaning)]
    if count > MOST_COLUMNS:
        return [Column(name=f"{name} 0 to {count - 1}", meaning=meaning)]
    return [Column(name=f"{name} {number}", meaning=meaning) for number in range(count)]
