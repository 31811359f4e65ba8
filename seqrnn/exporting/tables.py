"""What stands around the network of a task=csv run, so that the export reads and returns the units of the table."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from seqrnn.errors import DataError
from seqrnn.exporting.interface import Column, Interface
from seqrnn.exporting.programs import Units
from seqrnn.results import Run
from seqrnn.rundir.bounded import read_model, resolve_inside
from seqrnn.rundir.names import DATA, PREPROCESSING
from seqrnn.tables.dataset import DataSummary
from seqrnn.tables.preprocessing import CYCLES, LARGEST_LOG, Feature, Preprocessing

MOST_FILES = 5  # that are named
SECOND = 1e9  # nanoseconds


@dataclass(frozen=True)
class Input:
    """One input of the network.

    Args:
        column: its name, and how it is given.
        mean, scale: subtracted, and divided by.
        is_log: whether the logarithm is taken before.
    """

    column: Column
    mean: float = 0.0
    scale: float = 1.0
    is_log: bool = False


def table_interface(run: Run, dtype: torch.dtype) -> Interface | None:
    """Returns the interface of a run of task=csv; None: it has another task.

    Args:
        dtype: of its network.

    Raises:
        DataError: its preprocessing.json or data.json is damaged, or that of another network.
    """
    if not (run.directory / PREPROCESSING).exists():
        return None
    path = resolve_inside(run.directory, PREPROCESSING)
    own, summary = read_model(path, Preprocessing), run.summary
    if (own.input_size, own.output_size) != (summary["input_size"], summary["output_size"]):
        raise DataError(
            f"{path}: describes {own.input_size:,} inputs and {own.output_size:,} outputs, and the network has "
            f"{summary['input_size']:,} and {summary['output_size']:,}"
        )
    return interface_of(own, dtype, _origin(run))


def interface_of(own: Preprocessing, dtype: torch.dtype, data: str) -> Interface:
    """Returns the interface of a network that was trained on a table.

    Args:
        dtype: of the network.
        data: where the data is from, in a sentence.
    """
    inputs = list(_inputs(own))
    is_classification = own.kind == "classification"

    def given(values: Tensor) -> Tensor:
        means, scales, is_log = _parameters(inputs)
        unscaled = values.double() * scales + means
        return torch.where(is_log, unscaled.exp(), unscaled)

    def expected(outputs: Tensor) -> Tensor:
        if is_classification:
            return outputs.double()
        shape = (*outputs.shape[:2], len(own.targets))
        origins = np.ones(shape) if own.log else np.zeros(shape)  # from which a change is that change
        return torch.from_numpy(own.to_units(outputs.numpy(), origins)).reshape(outputs.shape)

    after: nn.Module = _Double() if is_classification else _OutputUnits(own)
    purpose = "forecasts" if own.is_forecast else own.kind
    units = Units(_InputUnits(inputs, dtype), after, torch.float64)
    return Interface(
        [each.column for each in inputs],
        _outputs(own),
        units,
        given,
        expected,
        data,
        purpose,
    )


def _origin(run: Run) -> str:
    """Returns what was read, in a sentence."""
    found = read_model(resolve_inside(run.directory, DATA), DataSummary)
    files = [file.name for file in found.files]
    names = ", ".join(files[:MOST_FILES]) + (f" and {len(files) - MOST_FILES:,} more" if files[MOST_FILES:] else "")
    parts = ", ".join(f"{count:,} for {part}" for part, count in found.targets.items())
    return (
        f"{found.rows:,} rows in {found.sequences:,} sequence{'s' * (found.sequences != 1)}, from {names} (SHA-256 "
        f"{found.sha256}). Targets that count: {parts}. The distance between timesteps: {found.step}."
    )


def _outputs(own: Preprocessing) -> list[Column]:
    if own.kind == "classification":
        meaning = "unnormalised log-probability of this class, to be read at the last timestep of a sequence"
        return [Column(name=label, meaning=meaning) for label in own.classes]
    meaning = "its value, in the unit of the table"
    if own.difference:
        meaning = f"its value, {'divided by' if own.log else 'minus'} the last one that is known at timestep t"
    return [
        Column(name=f"{name} (t+{step})" if own.is_forecast else name, meaning=meaning)
        for step in range(1, own.steps_ahead + 1)
        for name in own.targets
    ]


def _inputs(own: Preprocessing) -> Iterator[Input]:
    """Yields the inputs in the order of ``Preprocessing.input_names``."""
    for feature in own.here:
        yield from _inputs_of(own, feature, 0)
    for distance in range(1, own.steps_ahead + 1):
        for feature in own.ahead:
            yield from _inputs_of(own, feature, distance)
    later = f" plus one step ({_exact(own.step.nominal / SECOND)} s)" if own.is_forecast else ""
    clock = "the clock" + (f" in {own.time.timezone}" if own.time.timezone else "")
    for cycle in own.calendar:
        for wave in ("sine", "cosine"):
            meaning = (
                f"{wave} of 2π · time / {_exact(CYCLES[cycle] / SECOND)}; time: seconds since 1970-01-01 00:00 by "
                f"{clock}, of timestep t{later}"
            )
            yield Input(Column(name=f"{wave} of the {cycle}", meaning=meaning))


def _inputs_of(own: Preprocessing, feature: Feature, distance: int) -> Iterator[Input]:
    name, suffix = feature.column, f" (t+{distance})" if distance else ""
    where = f" {distance} timestep{'s' * (distance > 1)} later" if distance else ""
    if feature.kind == "category":
        for label in feature.categories:
            meaning = f"1 where {name}{where} is {label}, else 0"
            meaning += "; beyond the last row, as there" if distance else ""
            yield Input(Column(name=f"{name}={label}{suffix}", meaning=meaning))
    else:
        is_log = own.log and feature.role == "target"
        meaning = f"its value{where}, in the unit of the table"
        if own.difference and feature.role == "target":
            kind, start = ("divided by", 1) if own.log else ("minus", 0)
            meaning = f"its value {kind} the one at the timestep before; {start} at the first timestep"
        neutral = np.exp(feature.mean) if is_log else feature.mean
        meaning += f"; where it is missing, as if the last known value were there, and before any, {_exact(neutral)}"
        if distance:
            meaning += "; beyond the last row, as there"
        yield Input(Column(name=name + suffix, meaning=meaning), feature.mean, feature.scale, is_log)
    if feature.masked:
        meaning = f"1 where {name}{where} is missing, else 0"
        yield Input(Column(name=f"{name} is missing{suffix}", meaning=meaning))


def _exact(number: float) -> str:
    """Returns a number with all its digits."""
    return repr(float(number)).removesuffix(".0")


def _parameters(inputs: list[Input]) -> tuple[Tensor, Tensor, Tensor]:
    """Returns mean, scale and whether a logarithm is taken, (I,) each."""
    return (
        torch.tensor([each.mean for each in inputs], dtype=torch.float64),
        torch.tensor([each.scale for each in inputs], dtype=torch.float64),
        torch.tensor([each.is_log for each in inputs]),
    )


class _InputUnits(nn.Module):
    """Takes logarithms and scales, in float64, and rounds to float32, as the run has done it."""

    mean: Tensor
    scale: Tensor
    is_log: Tensor

    def __init__(self, inputs: list[Input], dtype: torch.dtype) -> None:
        super().__init__()
        self.dtype = dtype
        for name, values in zip(("mean", "scale", "is_log"), _parameters(inputs), strict=True):
            self.register_buffer(name, values)
        self.has_logarithms = any(each.is_log for each in inputs)

    def forward(self, values: Tensor) -> Tensor:
        if self.has_logarithms:
            values = torch.where(self.is_log, values.log(), values)
        return ((values - self.mean) / self.scale).float().to(self.dtype)


class _OutputUnits(nn.Module):
    """Undoes the scaling and the logarithm of outputs, in float64."""

    mean: Tensor
    scale: Tensor

    def __init__(self, own: Preprocessing) -> None:
        super().__init__()
        self.is_log = own.log
        self.register_buffer("mean", torch.tensor(own.output_mean, dtype=torch.float64).reshape(-1))
        self.register_buffer("scale", torch.tensor(own.output_scale, dtype=torch.float64).reshape(-1))

    def forward(self, outputs: Tensor) -> Tensor:
        values = outputs.double() * self.scale + self.mean
        return values.clamp(max=LARGEST_LOG).exp() if self.is_log else values


class _Double(nn.Module):
    """Returns numbers in the type of the other inputs and outputs."""

    def forward(self, outputs: Tensor) -> Tensor:
        return outputs.double()
