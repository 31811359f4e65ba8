"""The run that is diagnosed, built again from its directory alone.

T timesteps, B streams, N segments, I inputs, O outputs, L layers, H hidden units.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from seqrnn.clock import working_seconds
from seqrnn.components import build_components, build_network, check_config
from seqrnn.device import DeviceContext
from seqrnn.diagnosis.budget import Budget
from seqrnn.diagnosis.excerpts import Excerpt, Segments
from seqrnn.diagnosis.memory_limit import limited_memory
from seqrnn.diagnosis.training_data import TrainingData
from seqrnn.errors import ConfigError, DataError, printable
from seqrnn.lr_decay import LRDecay
from seqrnn.models.network import Network
from seqrnn.models.protocol import State, restarted
from seqrnn.models.unroll import unroll
from seqrnn.plugins import load_components
from seqrnn.rundir.names import WEIGHTS
from seqrnn.rundir.reader import RunReader
from seqrnn.settings import Values
from seqrnn.tasks.protocol import Chunk

LONGEST = 1000  # timesteps of the longest excerpt or segment
MOST_STREAMS = 64  # streams, or segments, that are looked at
ENOUGH = 16  # sequences
SETTLE = 500  # timesteps in which the network reaches its state before an excerpt
FARTHEST = 20_000  # timesteps between two excerpts: generated data is generated from its start
READ_AHEAD = 2**18  # timesteps that a task may generate between two looks at the clock
SECONDS = 20.0  # for building the run, and for each instrument
QUICK = 0.01  # seconds of a timestep
SHARE = 0.5  # of the time left that a measurement may be expected to take
MOST_NUMBERS = 2**27  # of all states that are kept (1 GiB)
MOST_MEMORY = 2**33  # bytes that data and network may take together,
COPIES = 32  # and bytes for each byte of the weights


class TrainedRun:
    """A run to be diagnosed. ``network`` is a copy of its network in float64, computed by torch's own operations;
    ``components.network`` is the network as it was trained. Measuring does not change the run.

    Args:
        directory: a run directory.
        plugins: modules to import that register the run's own tasks, models or optimizers, or more instruments.
            Modules that only the run directory names are not imported: it may come from a stranger.

    Attributes:
        budget: the time that the current measurement may take.
        announce: is given a line for the user before and after a compilation.

    Raises:
        DataError: it is not a run directory, or what is needed from it is missing or damaged, or too large.
        ConfigError: its config is not one that can be run here.
        TooSlow: its network or data are too large to be looked at in ``SECONDS``.
    """

    def __init__(self, directory: Path, plugins: Sequence[str] = ()) -> None:
        reader = RunReader(directory)
        self.directory = directory
        reader.check_plugins(plugins)
        load_components(plugins)
        self.values, self.summary = usable_here(reader.config()), reader.summary()
        self.metrics, self.overrides = reader.metrics(), reader.overrides()
        self._check_overrides()
        check_config(self.values)
        if not reader.has(WEIGHTS):
            raise DataError(
                f"{directory}: has no {WEIGHTS} (status: {self.summary.get('status')}): while it is trained, wait "
                "until it ends, or stop it; if it was killed, resume it: resume=RUN_DIR"
            )
        weights = reader.weights()
        self._check_size(weights)
        size = sum(weight.numel() * weight.element_size() for weight in weights.values())
        self.most_memory = MOST_MEMORY + COPIES * size
        with limited_memory(directory, self.most_memory):
            self._build(weights)

    def _check_overrides(self) -> None:
        for text in self.overrides:
            if text.startswith("-") or printable(text) != text:
                raise DataError(
                    f"{self.directory / 'overrides.yaml'}: {text!r} is not an override, and the command that a "
                    "diagnosis prints holds only overrides; remove it"
                )

    def _check_size(self, weights: dict[str, Tensor]) -> None:
        """Compares the network that the config describes with the weights, before memory is taken for it.

        Raises:
            DataError: it has more parameters than there are weights.
        """
        try:
            with torch.device("meta"):  # without values, so that it takes no memory
                network = build_network(self.values["model"], 1, 1)
        except ConfigError:
            raise
        except Exception:
            return  # a plugin's cell whose constructor computes with its weights
        described = sum(parameter.numel() for parameter in network.parameters())
        found = sum(weight.numel() for weight in weights.values())
        if described > found:
            raise DataError(
                f"{self.directory / WEIGHTS}: does not fit the config: it holds {found:,} numbers, and the network "
                f"of config.yaml has at least {described:,}"
            )

    def _build(self, weights: dict[str, Tensor]) -> None:
        self.components = build_components(self.values)
        network, path = self.components.network, self.directory / WEIGHTS
        try:
            network.load_state_dict(weights)
        except RuntimeError as error:
            raise DataError(f"{path}: does not fit the config: {' '.join(str(error).split())}") from None
        if not all(torch.isfinite(parameter).all() for parameter in network.parameters()):
            raise DataError(f"{path}: holds NaN or infinity; such a network cannot be diagnosed")
        network.eval()
        self._prepare()
        self._check_outputs()
        _ = self.position, self.updates_made, self.decay  # a summary that lacks these is reported here

    def _prepare(self) -> None:
        self.context = replace(self.components.context, dtype=torch.float64, autocast=None)
        self.network = self.copy()
        self.data = TrainingData(self.components)
        self.budget = Budget(SECONDS)
        self.announce: Callable[[str], None] = lambda text: None

    def _check_outputs(self) -> None:
        """Checks the outputs of the network on the validation data.

        Raises:
            DataError: they are NaN or infinite, although the weights are not.
        """
        chunk, network = self.validation_sequences(ENOUGH), self.network
        if not chunk.valid.any():
            return
        timesteps, streams = self.affordable(*chunk.valid.shape, least=(1, 1))
        chunk = self.first_of(chunk, timesteps, streams)
        with torch.no_grad():
            state = network.initial_state(chunk.inputs.shape[1])
            outputs, _ = unroll(network, network.initial_state, chunk.inputs, chunk.starts, state)
        if not outputs.isfinite().all():
            raise DataError(
                f"{self.directory}: the outputs of its network are NaN or infinite, so it cannot be diagnosed "
                f"(status: {self.summary.get('status')}); train it with "
                f"{self.components.schedule.divergence_advice} first"
            )

    def copy(self) -> Network:
        """Returns the trained network in float64, computed by torch, in evaluation mode."""
        twin = copy.deepcopy(self.components.network).to(self.context.device, self.context.dtype)
        twin.kernel = "torch"
        return twin.eval()

    def begin(self, seconds: float = SECONDS) -> None:
        """Gives the next measurement its time."""
        self.budget = Budget(seconds, self.budget.clock)

    def step_seconds(self, streams: int, *, gradients: bool = False, network: Network | None = None) -> float:
        """Measures how long the network takes for a timestep of so many streams.

        Args:
            gradients: whether the time of a backward pass is included.
            network: None: the float64 copy.
        """
        network = network or self.network
        parameter = next(network.parameters())
        best, timesteps = float("inf"), 2
        for _ in range(4):  # the first one may be slow, for reasons of its own
            inputs = parameter.new_zeros(timesteps, streams, self.components.task.input_size)
            began = working_seconds()
            with torch.set_grad_enabled(gradients), torch.backends.cudnn.flags(enabled=not gradients):
                outputs, _ = network(inputs, network.initial_state(streams))
                if gradients:
                    torch.autograd.grad(outputs.sum(), list(network.parameters()), allow_unused=True)
            best = min(best, (working_seconds() - began) / timesteps)
            timesteps = 32 if best < QUICK else 2  # what takes microseconds is measured over more of them
            self.budget.check()
        return best

    def affordable(
        self,
        timesteps: int,
        streams: int,
        *,
        passes: float = 1,
        gradients: bool = False,
        network: Network | None = None,
        least: tuple[int, int],
    ) -> tuple[int, int]:
        """Returns how many timesteps and streams can be computed in time: as many as wanted, else fewer streams, else
        fewer timesteps as well.

        Args:
            passes: how often they are computed.
            least: the fewest timesteps and streams that are of use.

        Raises:
            TooSlow: even these would take too long.
        """
        allowed = SHARE * self.budget.remaining / passes
        few = min(streams, least[1])
        counts = [streams]
        while counts[-1] > few:
            counts.append(max(few, counts[-1] // 2))
        chosen, fitting = few, 0
        for count in reversed(counts):  # from the fewest, so that this itself does not take long
            steps = int(allowed / max(self.step_seconds(count, gradients=gradients, network=network), 1e-9))
            if count > few and steps < timesteps:
                break
            chosen, fitting = count, steps
            if steps < timesteps:
                break
        if fitting < min(timesteps, least[0]):
            raise self.budget.too_slow()
        return min(timesteps, fitting), chosen

    @cached_property
    def position(self) -> int:
        """Timesteps per stream that the run trained on."""
        return self.data.steps_per_stream(
            self._count("timesteps", self.components.schedule.epochs * self.data.all_timesteps)
        )

    @cached_property
    def updates_made(self) -> int:
        """Updates of the schedule that the run made."""
        return self._count("position", self._planned)

    @cached_property
    def decay(self) -> LRDecay:
        """The learning-rate decay of the run."""
        return self.components.schedule.decay(self._count("planned_updates", self._planned))

    @cached_property
    def _planned(self) -> int:
        schedule = self.components.schedule
        return schedule.count_updates(self.data.task.train(0, schedule.streams))

    def _count(self, name: str, most: int) -> int:
        """Returns a number from the summary, at least 1.

        Raises:
            DataError: it is missing, or more than the config allows.
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
        schedule, longest = self.components.schedule, self.data.first_batch_timesteps
        return min(schedule.update_every or schedule.stride or schedule.window or longest, longest)

    @cached_property
    def validation(self) -> Chunk:
        """Up to ``MOST_STREAMS`` validation sequences that have targets; whole, if there is time for that."""
        chunk = self.validation_sequences(MOST_STREAMS)
        if not chunk.valid.any():
            raise DataError(f"{self.directory}: the task's validation data has no valid target")
        timesteps, streams = self.affordable(*chunk.valid.shape, least=(1, min(4, chunk.valid.shape[1])))
        streams = max(1, min(streams, MOST_NUMBERS // (self.state_size * timesteps)))
        timesteps = min(timesteps, MOST_NUMBERS // self.state_size)
        chunk = self.first_of(chunk, timesteps, streams)
        if not chunk.valid.any():
            raise self.budget.too_slow()
        return chunk

    @cached_property
    def state_size(self) -> int:
        """How many numbers the state of a stream has, all parts and layers together."""
        return sum(part.shape[0] * part.shape[2] for part in self.network.initial_state(1))

    def first_of(self, chunk: Chunk, timesteps: int, streams: int) -> Chunk:
        """Returns the first timesteps of the first streams of a chunk."""
        return _streams(chunk.between(0, timesteps), slice(streams))

    def validation_sequences(self, most: int) -> Chunk:
        """Returns up to so many validation sequences that have targets."""
        batch = self.components.task.validation()[0]
        chunk = batch.read(0, batch.timesteps)
        return self.context(_streams(chunk, chunk.valid.any(dim=0).nonzero().flatten()[:most]))

    def excerpt(
        self,
        timestep: int,
        length: int,
        *,
        streams: int = MOST_STREAMS,
        network: Network | None = None,
        context: DeviceContext | None = None,
    ) -> Excerpt:
        """Returns ``length`` timesteps of the training data from number ``timestep`` on, or the last ones of that
        batch; of short sequences, all timesteps.

        Args:
            network: whose state is wanted before them; None: the trained one.
        """
        network, context = network or self.network, context or self.context
        batch, first = self.data.find(timestep)
        if batch.timesteps <= 2 * length:
            first, length = 0, batch.timesteps
        first = min(first, batch.timesteps - length)
        settle = max(0, first - SETTLE)
        for before in range(READ_AHEAD, settle, READ_AHEAD):  # a task that generates its data does so from the start
            batch.read(before, before + 1)
            self.budget.check()
        chunk = context(_streams(batch.read(settle, first + length), slice(streams)))
        state = network.initial_state(chunk.inputs.shape[1])
        if settle < first:
            before_it = chunk.between(0, first - settle)
            with torch.no_grad():
                _, state = unroll(network.recur, network.initial_state, before_it.inputs, before_it.starts, state)
        return Excerpt(chunk.between(first - settle, first - settle + length), state)

    def upcoming(
        self,
        count: int,
        length: int,
        *,
        streams: int = MOST_STREAMS,
        network: Network | None = None,
        context: DeviceContext | None = None,
    ) -> Iterator[Excerpt]:
        """Yields up to ``count`` excerpts of one length from the data that training would have read next: data that
        it has not read, or, where the data is finite, not for as long as possible."""
        apart = max(length, min(self.data.epoch_timesteps // count, FARTHEST))
        places = [self.position + number * apart for number in range(count)]
        lengths = [self.data.excerpt_length(place, length) for place in places]
        for place, own in zip(places, lengths, strict=True):
            if own == max(lengths):
                yield self.excerpt(place, length, streams=streams, network=network, context=context)

    def segments(self, longest: int = LONGEST, count: int = MOST_STREAMS) -> Segments:
        """Returns segments that are as long as there are enough of them: whole sequences if these are many, half ones
        if not.

        Raises:
            DataError: the validation data has no valid target.
        """
        chunk, states = self.validation, self.states
        timesteps, streams = chunk.valid.shape
        clock = torch.arange(timesteps, device=chunk.valid.device)[:, None]
        begins = (chunk.starts.to(clock.device) * clock).cummax(0).values  # (T, B): where the sequence began
        length = min(longest, timesteps if streams >= ENOUGH else max(2, timesteps // 2))
        ends = chunk.valid & (clock - begins >= length - 1)
        while not ends.any() and length > 1:
            length //= 2
            ends = chunk.valid & (clock - begins >= length - 1)
        found = ends.nonzero().tolist()
        chosen = [found[len(found) * number // count] for number in range(count)] if len(found) > count else found
        rows = [(end - length + 1, end, stream) for end, stream in chosen]
        return Segments(
            inputs=torch.stack([chunk.inputs[first : end + 1, stream] for first, end, stream in rows], dim=1),
            targets=torch.stack([chunk.targets[end, stream] for _, end, stream in rows]),
            state=tuple(torch.stack([part[first, :, stream] for first, _, stream in rows], dim=1) for part in states),
            sequences=len({stream for _, _, stream in rows}),
        )

    @cached_property
    def states(self) -> State:
        """The state before each timestep of the validation sequences: parts (T, L, B, H)."""
        chunk, network = self.validation, self.network
        state = network.initial_state(chunk.inputs.shape[1])
        before: list[State] = []
        with torch.no_grad():
            for inputs, starts in zip(chunk.inputs, chunk.starts, strict=True):
                self.budget.check()
                if starts.any():
                    state = restarted(state, starts, network.initial_state(len(starts)))
                before.append(state)
                _, state = network.cell(inputs[None], state)
        return tuple(torch.stack(parts) for parts in zip(*before, strict=True))


def usable_here(values: Values) -> Values:
    """Returns a config from a run directory as one that downloads nothing and logs nowhere, for any device."""
    values = copy.deepcopy(values)
    task: Any = values.get("task")
    if isinstance(task, dict) and "download" in task:
        task["download"] = False
    return {**values, "device": "auto", "logger": None}


def _streams(chunk: Chunk, which: slice | Tensor) -> Chunk:
    return Chunk(chunk.inputs[:, which], chunk.targets[:, which], chunk.valid[:, which], chunk.starts[:, which])
