"""What an exported network is, how it is to be fed, and what it is worth: its metadata, and the facts of its card."""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import BaseModel

from seqrnn import __version__
from seqrnn.errors import ConfigError
from seqrnn.exporting.formats import Names
from seqrnn.exporting.interface import Column, Interface
from seqrnn.exporting.programs import Timesteps
from seqrnn.forecasting.intervals import Intervals
from seqrnn.metrics import headline
from seqrnn.models.network import Network
from seqrnn.models.protocol import specification_of
from seqrnn.results import Run, Which
from seqrnn.rundir.bounded import ByName, Name, check, read_model, resolve_inside
from seqrnn.rundir.formats import Scores, SummaryValues
from seqrnn.rundir.names import INTERVALS, SUMMARY
from seqrnn.rundir.request import safe_line


class StatePart(BaseModel):
    """A part of the state, of shape (layers, streams, units).

    Args:
        argument: the name under which it is given, before the first timestep.
        result: the name under which it is returned, after the last timestep.
        initial: with which a sequence begins: 0, or one list of units for each layer.
    """

    argument: str
    result: str
    layers: int
    units: int
    initial: float | list[list[float]]


class Description(BaseModel):
    """The facts about an exported network; also its metadata, as JSON.

    Args:
        purpose: what it is for, such as ``forecasts``.
        timesteps: that a call computes.
        dtype: of inputs and outputs.
        warm_up: timesteps at the beginning of each test sequence whose outputs were not judged.
        weights: ``tested`` for the weights that the run was tested with, ``best`` for those of its best evaluation.
        input_size, output_size: numbers per timestep, of which ``inputs`` and ``outputs`` describe each.
        scores: on the test data; None where they were measured with other weights than these.
        headline: the score that stands for the run in one number.
        intervals: to be added to outputs, for intervals that hold an actual value with a given confidence.
        command: that trained the network, without overrides that can run code.
        left_out: these overrides.
        data: where the data is from, with its hash.
        trained_with: versions of packages.
        exported_with: versions of packages.
    """

    model_config = {"protected_namespaces": ()}

    task: Name
    kind: Literal["regression", "classification"]
    purpose: str
    loss: Name
    model: Name
    parameters: int
    data: str
    data_note: str | None = None
    input_size: int
    output_size: int
    inputs: list[Column]
    outputs: list[Column]
    state: list[StatePart]
    timesteps: Timesteps
    one_timestep_reason: str | None = None
    dtype: str
    state_dtype: str
    warm_up: int
    weights: Which
    status: Name
    updates: int
    smoke: bool
    scores: Scores | None
    baselines: ByName[Scores]
    headline: Name
    intervals: Intervals | None
    command: str
    left_out: list[str]
    seed: int
    git_revision: Name | None = None
    trained_with: ByName[Name]
    exported_with: ByName[Name]


class _Origin(BaseModel):
    """What is read from summary.json, beside what every reader relies on (``seqrnn.rundir.formats``)."""

    seed: int
    scored: Literal["last", "best"]
    git_revision: Name | None
    versions: ByName[Name]


def describe(
    run: Run,
    network: Network,
    names: Names,
    interface: Interface,
    *,
    which: Which,
    timesteps: Timesteps,
    reason: str | None = None,
    warm_up: int = 0,
) -> Description:
    """Describes the exported network of a run.

    Args:
        reason: why a call computes one timestep, if it does.

    Raises:
        DataError: a value in the run's files is missing, or not what it should be.
    """
    summary, path = SummaryValues(**run.summary), run.directory / SUMMARY
    check(run.summary, _Origin, path)
    origin = _Origin(**run.summary)
    dtype = next(network.parameters()).dtype
    are_measured = which == "tested" or origin.scored == "best"
    line = safe_line(run.overrides)
    return Description(
        task=summary.task,
        kind=summary.kind,
        purpose=interface.purpose or summary.kind,
        loss=summary.loss,
        model=summary.model,
        parameters=sum(parameter.numel() for parameter in network.parameters()),
        data=interface.data,
        data_note=summary.data_note,
        input_size=summary.input_size,
        output_size=summary.output_size,
        inputs=list(interface.inputs),
        outputs=list(interface.outputs),
        state=_state(network, names),
        timesteps=timesteps,
        one_timestep_reason=reason,
        dtype=str(interface.dtype(dtype)).removeprefix("torch."),
        state_dtype=str(dtype).removeprefix("torch."),
        warm_up=warm_up,
        weights=which,
        status=summary.status,
        updates=summary.updates,
        smoke=summary.smoke,
        scores=summary.test if are_measured else None,
        baselines=summary.baselines,
        headline=summary.headline or headline(summary.kind, summary.loss),
        intervals=_intervals(run) if are_measured else None,
        command=line.text,
        left_out=line.left_out,
        seed=origin.seed,
        git_revision=origin.git_revision,
        trained_with=origin.versions,
        exported_with={"seqrnn": __version__, "torch": torch.__version__},
    )


def _intervals(run: Run) -> Intervals | None:
    if not (run.directory / INTERVALS).exists():
        return None
    return read_model(resolve_inside(run.directory, INTERVALS), Intervals)


def _state(network: Network, names: Names) -> list[StatePart]:
    parts = []
    for initial, argument, result in zip(
        network.initial_state(1), names.arguments[1:], names.results[1:], strict=True
    ):
        layers, _, units = initial.shape
        values = initial[:, 0].tolist() if initial.any() else 0.0
        parts.append(StatePart(argument=argument, result=result, layers=layers, units=units, initial=values))
    return parts


def names_of(network: Network) -> Names:
    """Returns the names of the inputs and outputs of the program of a network.

    Raises:
        ConfigError: its initial state is not the same for every stream, so that it cannot be described.
    """
    one, two = network.initial_state(1), network.initial_state(2)
    for part, parts in zip(one, two, strict=True):
        if part.dim() != 3 or not torch.equal(part.expand(parts.shape), parts):
            raise ConfigError(
                "the initial state of this cell is not one of parts (layers, streams, units) that are the same for "
                "every stream; such a state cannot be described to other programs"
            )
    specification = specification_of(network.cell)
    return Names(specification.state if specification else [str(number) for number in range(len(one))])
