"""What is diagnosed: a run, made again from its directory alone."""

from __future__ import annotations

import copy
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import accumulate
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from seqrnn.components import Components, build_components, check_config
from seqrnn.device import DeviceContext
from seqrnn.errors import DataError, printable
from seqrnn.lr_decay import LRDecay
from seqrnn.models.network import Network
from seqrnn.models.protocol import State, restarted
from seqrnn.models.unroll import unroll
from seqrnn.plugins import load_components
from seqrnn.rundir.names import WEIGHTS
from seqrnn.rundir.reader import RunReader
from seqrnn.settings import Values
from seqrnn.tasks.protocol import Batch, Chunk

LONGEST = 1000  # timesteps that anything is followed back
AT_ONCE = 64  # streams, or cases, that are looked at
ENOUGH = 16  # sequences
SETTLE = 500  # timesteps before a stretch, from which on the network's state is made


class Timeline:
    """All timesteps that a training reads, per stream, in order, without an end: one batch after another."""

    def __init__(self, components: Components) -> None:
        self.task, self.streams = components.task, components.schedule.streams
        self.ends = list(accumulate(batch.timesteps for batch in self._epoch(0)))
        self._cached: tuple[int, Sequence[Batch]] = 0, self._epoch(0)
        self._batch: tuple[tuple[int, int], Batch] | None = None

    def _epoch(self, epoch: int) -> Sequence[Batch]:
        return self.task.train(epoch, self.streams)

    @property
    def epoch_timesteps(self) -> int:
        """Of an epoch, per stream."""
        return self.ends[-1]

    def find(self, timestep: int) -> tuple[Batch, int]:
        """The batch that holds a timestep, and where in it."""
        epoch, rest = divmod(timestep, self.ends[-1])
        number = bisect_right(self.ends, rest)
        if self._cached[0] != epoch:
            self._cached = epoch, self._epoch(epoch)
        if self._batch is None or self._batch[0] != (epoch, number):
            self._batch = (epoch, number), self._cached[1][number]  # a task may make it anew for each asking
        return self._batch[1], rest - (self.ends[number - 1] if number else 0)


@dataclass(frozen=True)
class Stretch:
    """Timesteps of a training batch, and the state in which the network comes to them.

    Args:
        chunk: T timesteps of B streams.
        state: before the first of them.
    """

    chunk: Chunk
    state: State


@dataclass(frozen=True)
class Segments:
    """N stretches of T timesteps from evaluation sequences, side by side, each ending where there is a target.

    Args:
        inputs: (T, N, I).
        targets: (N, O) or (N,), at the last timestep.
        state: of the trained network, before the first.
        sequences: from how many different sequences they are.
    """

    inputs: Tensor
    targets: Tensor
    state: State
    sequences: int


class Subject:
    """A run to be diagnosed. ``network`` is a copy of its network in float64, computed by torch's own operations;
    ``experiment.network`` is the network as it was trained. Nothing that is measured changes the run.

    Args:
        directory: a run directory.
        plugins: modules to import that register the run's own tasks, models or optimizers. What a run directory
            itself says to import is not imported: it may come from a stranger.

    Raises:
        DataError: it is not a run directory, or what is needed from it is missing or damaged.
        ConfigError: its config is not one that can be run here.
    """

    def __init__(self, directory: Path, plugins: Sequence[str] = ()) -> None:
        run = RunReader(directory)
        self.directory = directory
        load_components(run.plugins(allowed=plugins))
        self.values, self.summary = readable(run.config()), run.summary()
        check_config(self.values)
        self.components = build_components(self.values)
        self.metrics = run.metrics()
        self.overrides = run.overrides()
        for text in self.overrides:
            if text.startswith("-") or printable(text) != text:
                raise DataError(
                    f"{directory / 'overrides.yaml'}: {text!r}: is no override, and a line that is printed to be "
                    "pasted holds nothing else; take it out"
                )
        network = self.components.network
        if not run.has(WEIGHTS):
            raise DataError(
                f"{directory}: has no {WEIGHTS} (status: {self.summary.get('status')}): while it is trained, wait "
                "until it ends, or stop it; if it was killed, go on with it: resume=RUN_DIR"
            )
        try:
            network.load_state_dict(run.weights())
        except RuntimeError as error:
            reason = " ".join(str(error).split())
            raise DataError(f"{run.directory / 'weights.safetensors'}: does not fit the config: {reason}") from None
        if not all(torch.isfinite(parameter).all() for parameter in network.parameters()):
            raise DataError(f"{run.directory / 'weights.safetensors'}: holds NaN or infinity; there is no network")
        network.eval()
        self.context = replace(self.components.context, dtype=torch.float64, autocast=None)
        self.network = self.copy()
        self._check_outputs()
        self.timeline = Timeline(self.components)
        _ = self.position, self.made, self.decay  # a summary that does not say is found here

    def _check_outputs(self) -> None:
        """
        Raises:
            DataError: they are NaN or infinite, though the weights are not.
        """
        chunk, network = self.unseen(ENOUGH), self.network
        with torch.no_grad():
            state = network.initial_state(chunk.inputs.shape[1])
            outputs, _ = unroll(network, network.initial_state, chunk.inputs, chunk.starts, state)
        if not outputs.isfinite().all():
            raise DataError(
                f"{self.directory}: its network puts out NaN or infinity, so nothing can be seen in it (status: "
                f"{self.summary.get('status')}); train it with a smaller optimizer.lr or schedule.clip_norm=1 first"
            )

    def copy(self) -> Network:
        """The trained network in float64, computed by torch, in evaluation mode."""
        twin = copy.deepcopy(self.components.network).to(self.context.device, self.context.dtype)
        twin.kernel = "torch"
        return twin.eval()

    @cached_property
    def position(self) -> int:
        """Timesteps per stream that the run trained on."""
        schedule = self.components.schedule
        batches = self.timeline.task.train(0, schedule.streams)
        whole = sum(batch.streams * batch.timesteps for batch in batches)
        epochs, rest = divmod(self._count("timesteps", schedule.epochs * whole), whole)
        steps = epochs * self.timeline.epoch_timesteps
        for batch in batches if rest else ():
            steps += min(rest, batch.streams * batch.timesteps) // batch.streams
            rest -= min(rest, batch.streams * batch.timesteps)
            if not rest:
                break
        return steps

    @cached_property
    def made(self) -> int:
        """Updates of the schedule that are behind."""
        return self._count("position", self._planned)

    @cached_property
    def decay(self) -> LRDecay:
        """What sets the learning rate over the run."""
        return self.components.schedule.decay(self._count("planned_updates", self._planned))

    @cached_property
    def _planned(self) -> int:
        schedule = self.components.schedule
        return schedule.count_updates(self.timeline.task.train(0, schedule.streams))

    def _count(self, name: str, most: int) -> int:
        """A number from the summary, at least 1.

        Raises:
            DataError: it is none, or more than the config allows.
        """
        value = self.summary.get(name)
        if type(value) is not int or not 1 <= value <= most:
            raise DataError(
                f"{self.directory / 'summary.json'}: {name}={value!r}: a run that was trained with its config has "
                f"between 1 and {most:,}"
            )
        return value

    @property
    def update_timesteps(self) -> int:
        """Timesteps per stream of an update."""
        schedule, longest = self.components.schedule, self.timeline.ends[0]
        return min(schedule.update_every or schedule.stride or schedule.window or longest, longest)

    @cached_property
    def evaluation(self) -> Chunk:
        """Up to ``AT_ONCE`` whole sequences, of those that are evaluated during training, that have targets."""
        return self.unseen(AT_ONCE)

    def unseen(self, streams: int) -> Chunk:
        """Up to so many of them."""
        batch = self.components.task.validation()[0]
        chunk = batch.read(0, batch.timesteps)
        return self.context(_streams(chunk, chunk.valid.any(dim=0).nonzero().flatten()[:streams]))

    def stretch(
        self,
        timestep: int,
        length: int,
        *,
        streams: int = AT_ONCE,
        network: Network | None = None,
        context: DeviceContext | None = None,
    ) -> Stretch:
        """``length`` timesteps of the training data around number ``timestep``: from there on, or the last ones of
        that batch; of short sequences, all.

        Args:
            network: whose state is wanted before them; None: the trained one.
        """
        network, context = network or self.network, context or self.context
        batch, first = self.timeline.find(timestep)
        if batch.timesteps <= 2 * length:
            first, length = 0, batch.timesteps
        first = min(first, batch.timesteps - length)
        settle = max(0, first - SETTLE)
        chunk = context(_streams(batch.read(settle, first + length), slice(streams)))
        state = network.initial_state(chunk.inputs.shape[1])
        if settle < first:
            before = chunk.between(0, first - settle)
            with torch.no_grad():
                _, state = unroll(network.recur, network.initial_state, before.inputs, before.starts, state)
        return Stretch(chunk.between(first - settle, first - settle + length), state)

    def ahead(
        self,
        count: int,
        length: int,
        *,
        streams: int = AT_ONCE,
        network: Network | None = None,
        context: DeviceContext | None = None,
    ) -> list[Stretch]:
        """Stretches of one length that lie ahead of what the run trained on: data that it has not seen, or, where the
        data is finite, has not seen for as long as possible."""
        apart = max(length, self.timeline.epoch_timesteps // count)
        found = [
            self.stretch(self.position + number * apart, length, streams=streams, network=network, context=context)
            for number in range(count)
        ]
        longest = max(len(stretch.chunk.inputs) for stretch in found)
        return [stretch for stretch in found if len(stretch.chunk.inputs) == longest]

    def segments(self, longest: int = LONGEST, count: int = AT_ONCE) -> Segments:
        """Segments as long as there are enough of them: of whole sequences if these are many, of half ones if not.

        Raises:
            DataError: the evaluation data has no valid target.
        """
        chunk, states = self.evaluation, self.states
        timesteps, streams = chunk.valid.shape
        clock = torch.arange(timesteps, device=chunk.valid.device)[:, None]
        begins = (chunk.starts.to(clock.device) * clock).cummax(0).values  # (T, B): where the sequence began
        length = min(longest, timesteps if streams >= ENOUGH else max(2, timesteps // 2))
        ends = chunk.valid & (clock - begins >= length - 1)
        while not ends.any() and length > 1:
            length //= 2
            ends = chunk.valid & (clock - begins >= length - 1)
        found = ends.nonzero().tolist()
        if not found:
            raise DataError(f"{self.directory}: the task's evaluation data has no valid target")
        chosen = [found[len(found) * case // count] for case in range(count)] if len(found) > count else found
        rows = [(end - length + 1, end, stream) for end, stream in chosen]
        return Segments(
            inputs=torch.stack([chunk.inputs[first : end + 1, stream] for first, end, stream in rows], dim=1),
            targets=torch.stack([chunk.targets[end, stream] for _, end, stream in rows]),
            state=tuple(torch.stack([part[first, :, stream] for first, _, stream in rows], dim=1) for part in states),
            sequences=len({stream for _, _, stream in rows}),
        )

    @cached_property
    def states(self) -> State:
        """The state before each timestep of the evaluation sequences: parts (T, L, B, H)."""
        chunk, network = self.evaluation, self.network
        state = network.initial_state(chunk.inputs.shape[1])
        before: list[State] = []
        with torch.no_grad():
            for inputs, starts in zip(chunk.inputs, chunk.starts, strict=True):
                if starts.any():
                    state = restarted(state, starts, network.initial_state(len(starts)))
                before.append(state)
                _, state = network.cell(inputs[None], state)
        return tuple(torch.stack(parts) for parts in zip(*before, strict=True))


def readable(values: Values) -> Values:
    """A config from a run directory as one that is used here: it fetches nothing."""
    values = copy.deepcopy(values)
    task: Any = values.get("task")
    if isinstance(task, dict) and "download" in task:
        task["download"] = False
    return {**values, "device": "auto", "logger": None}


def _streams(chunk: Chunk, which: slice | Tensor) -> Chunk:
    return Chunk(chunk.inputs[:, which], chunk.targets[:, which], chunk.valid[:, which], chunk.starts[:, which])
