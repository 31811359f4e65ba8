"""What a task provides: sequences that are read in parallel, and how results are judged.

T timesteps, B streams, I inputs, O outputs; time comes first.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


@dataclass(frozen=True)
class Chunk:
    """T consecutive timesteps of B sequences.

    Args:
        inputs: (T, B, I), floating point.
        targets: (T, B, O) floating point, or (T, B) int64 class indices.
        valid: (T, B) bool: whether the target counts, in the loss and in the metrics. Where it does not, it may be
            anything. Where it does, and the task has ``missing_targets``, some of the O numbers may be NaN.
        starts: (T, B) bool, always on the CPU: whether a new sequence begins here, and the state is reset.
    """

    inputs: Tensor
    targets: Tensor
    valid: Tensor
    starts: Tensor

    def to(self, device: torch.device, dtype: torch.dtype) -> Chunk:
        """Returns the chunk on a device, with floating-point values in ``dtype``. A GPU copies it from pinned memory
        while the processor does something else."""
        targets_dtype = dtype if self.targets.is_floating_point() else self.targets.dtype
        inputs, targets, valid = (
            part.pin_memory() if device.type == "cuda" and part.device.type == "cpu" else part
            for part in (self.inputs, self.targets, self.valid)
        )
        return Chunk(
            inputs.to(device, dtype, non_blocking=True),
            targets.to(device, targets_dtype, non_blocking=True),
            valid.to(device, non_blocking=True),
            self.starts,
        )

    def between(self, start: int, stop: int) -> Chunk:
        """Returns timesteps ``start`` to ``stop`` − 1, as views."""
        return Chunk(
            self.inputs[start:stop], self.targets[start:stop], self.valid[start:stop], self.starts[start:stop]
        )


def joined(chunks: Sequence[Chunk]) -> Chunk:
    """Returns consecutive chunks of the same streams as one."""
    return Chunk(
        torch.cat([chunk.inputs for chunk in chunks]),
        torch.cat([chunk.targets for chunk in chunks]),
        torch.cat([chunk.valid for chunk in chunks]),
        torch.cat([chunk.starts for chunk in chunks]),
    )


class Batch(Protocol):
    """B sequences of one length that are read in parallel, each from the network's initial state.

    Reading is pure: it returns the same values however often, and in whatever order, timesteps are read. A batch of
    evaluations may have the attribute ``recursive``, a ``RecursiveBatch`` or None, as which it is then judged.
    """

    @property
    def streams(self) -> int: ...

    @property
    def timesteps(self) -> int: ...

    def read(self, start: int, stop: int) -> Chunk:
        """Returns timesteps ``start`` to ``stop`` − 1."""


class Origins(Protocol):
    """B timesteps from which recursive forecasts are made, all by as many steps so far."""

    def take(self, outputs: NDArray[Any]) -> None:
        """Takes the network's outputs (B, O) for the next step, and feeds them back."""

    def inputs(self) -> NDArray[Any]:
        """Returns the inputs (B, I) of the timesteps that were predicted last."""

    @property
    def outputs(self) -> NDArray[Any]:
        """The forecasts of all steps, as the targets of the ``RecursiveBatch`` are: (B, O')."""


class RecursiveBatch(Batch, Protocol):
    """What the predictions of another batch are judged by, if the network predicts one step, and is fed with what it
    has predicted to predict more: the same sequences, with targets (T, B, O') of all ``steps``."""

    @property
    def source(self) -> Batch:
        """The other batch: what the network reads."""

    @property
    def steps(self) -> int: ...

    def begin(self, timesteps: NDArray[np.int64], streams: NDArray[np.int64]) -> Origins:
        """Returns the beginning of forecasts from timesteps (B,) of streams (B,)."""


class Predicted(Protocol):
    """The outputs of a predictor for N whole sequences, and their data (``seqrnn.evaluation.Predictions``)."""

    @property
    def targets(self) -> NDArray[Any]:
        """(T, N, O), or (T, N) class indices."""

    @property
    def outputs(self) -> NDArray[Any]:
        """(T, N, O)."""

    @property
    def valid(self) -> NDArray[np.bool_]:
        """(T, N): whether the target counts."""

    @property
    def batches(self) -> Sequence[Any]:
        """The batches that the sequences are from, in order."""


Feed = Callable[[NDArray[np.float32]], NDArray[Any]]  # (I,) -> (O,): feeds a trained network one timestep


class Suggestions(NamedTuple):
    """Lengths that suit a task's data: what ``suggested.*`` of the config is where it says ``auto``."""

    epochs: int
    streams: int
    window: int


class Task(Protocol):
    """A task. Its constructor is cheap, and reads no data.

    What is drawn at random depends on the seed, the epoch and the position alone, so that training data can
    be read again from any point. ``seqrnn.tasks.checks`` checks the data before and during training.

    A task may also have these attributes; without one, the runner does as it says here:

    - ``smoke``: its settings by name, and what smoke=true lowers them to (numbers) or sets them to (flags); without
      it, smoke=true leaves the task's settings alone.
    - ``data_note``: one line about the data that readers of the results must know, such as what the test data has in
      common with the training data, or None. It stands in the terminal's header, the summary and the pictures.
    - ``data_note_warns``: False where ``data_note`` only says what the data is, so that pictures do not show it as a
      warning. Without it: True.
    - ``validation_is_test``: whether the validation data is test data, so that what is chosen by validation scores is
      chosen on test data; the runner then names what is. Without it: False.
    - ``picture``: how its predictions are drawn, a ``seqrnn.rundir.formats.Picture``, which the summary records.
      Without it: ``sequences`` for a regression, ``classes`` for a classification.
    - ``higher_is_better``: the names of its own metrics that are better when they are higher, as a collection; its
      others are better when they are lower. Without it, checkpoint.best can name only metrics that ``seqrnn.metrics``
      declares.
    - ``classes``: of a classification, the names of its classes, in the order of the outputs. Without it, they are
      numbered.
    - ``headline``: the metric that stands for a run in one number. Without it: that of ``seqrnn.metrics.headline``.
    - ``notes``: lines about the data that are printed when a run begins, such as what was guessed.
    - ``suggest()``: ``Suggestions`` that come from the data, for a config whose ``suggested.*`` are ``auto``.
    - ``documents()``: pydantic models by the names of JSON files, which are written into the run directory when the
      run begins (``seqrnn.rundir.names.DOCUMENTS`` are the names that there are).
    - ``judged(predictions)``: what ``metrics`` takes of ``Predicted`` sequences, such as values in the units of the
      data: outputs (N', …) and targets (N', …) of the N' valid timesteps, in the order of ``valid``. Without it: the
      outputs and targets of the network.
    - ``units``: of what ``judged`` returns, the number of each target by which ``metrics`` divides its errors, (K,).
      Without it: 1.
    - ``report(validation, test)``: for the end of a run, a ``seqrnn.forecasting.report.Report`` of predictions by
      predictor, the network first and then the baselines, on the validation data and on the test data; None where
      there is nothing to report. Without it, the run has scores and no report.
    - ``generate_with(feed)``: for the end of a run, arrays by name that a task makes with the trained network, such
      as a text that it writes; they are added to predictions.npz, for the task's picture. ``feed`` is a ``Feed``,
      which begins with the initial state. Without it, there are none.
    - ``fingerprint()``: a checksum of the files that it reads, by which a resumed run recognises its data. The first
      timesteps of each split are compared in any case.
    - ``missing_targets``: whether numbers among the targets of a valid timestep may be NaN, though not all of them.
      They do not count: the loss of the timestep is the mean over the others. Without it: False, and NaN is an error.
    - ``reach``: for the diagnosis, how many of the latest timesteps, the present one included, have inputs that a
      target depends on, or None where there is no such number; a window must be that long to hold them all. Without
      it, the diagnosis does without.
    - ``continued``: for the diagnosis, the settings of the task, by name, with which its sequences continue one
      another, so that a state can be carried from one to the next. Without it, there are none.
    - ``conditional_floors``: for the diagnosis, the names of those of its floors that only hold as long as
      ``continued`` is not set. Without it, there are none.
    - ``all_inputs``: for the diagnosis, the settings of the task, by name, with which it reads all inputs that there
      are, where its present ones leave some out. Without it, there are no others.
    - ``is_forecast``: for the diagnosis, whether its targets are, by design, what its inputs will be later. Without
      it, the diagnosis compares targets with later inputs.
    - ``rollout(timesteps, streams)``: for the diagnosis, a batch of new sequences (at most ``streams``) of that
      length, or None where sequences cannot be longer than they are. Without it, the test sequences are used.
      Predictions use it as well, for new data.
    - ``read_files(paths)``: for predictions, the sequences that files or folders hold, as ``FileSequences``. Without
      it, predictions are made on drawn data only.
    """

    input_size: int  # I
    output_size: int  # O; with cross_entropy, the number of classes
    loss: str  # a name in seqrnn.losses
    kind: Literal["regression", "classification"]

    def train(self, epoch: int, streams: int) -> Sequence[Batch]:
        """Returns the training data of an epoch, in batches of at most ``streams`` sequences. All epochs have as many
        batches, of the same lengths."""

    def validation(self) -> Sequence[Batch]:
        """Returns what is evaluated during training; all batches have the same length. It should be neither trained
        on nor tested on; a task where that cannot be sets ``data_note`` and ``validation_is_test``."""

    def test(self) -> Sequence[Batch]:
        """Returns what is evaluated at the end; all batches have the same length. Like ``validation``, it returns the
        same data in each call; the objects may be new ones."""

    def metrics(self, outputs: NDArray[Any], targets: NDArray[Any]) -> dict[str, float]:
        """Returns scores by name of outputs (N, O) against valid targets (N, O) or (N,), in the order of the data."""

    def baselines(self) -> Mapping[str, Callable[[Chunk], Tensor]]:
        """Returns trivial predictors by name: each maps a chunk to outputs (T, B, O). One whose name begins with
        ``floor`` is the best that any predictor can do, not one to beat. None has the name of the network, of a group
        of the config, or ``train``, ``validation`` or ``test``."""


def missing_targets(task: Task) -> bool:
    """Returns whether numbers among the targets of a task may be NaN, which do not count."""
    return bool(getattr(task, "missing_targets", False))


@dataclass(frozen=True)
class FileSequences:
    """Sequences that were read from files. ``valid`` says for which timesteps a prediction is wanted.

    Args:
        names: of the sequences of all batches, in order.
        has_targets: whether the files hold the true values; otherwise targets may be anything.
        note: what the user should know about the files, if anything.
    """

    names: Sequence[str]
    batches: Sequence[Batch]
    has_targets: bool
    note: str | None = None


@dataclass(frozen=True)
class Stored:
    """A batch that is whole in memory."""

    chunk: Chunk

    @property
    def streams(self) -> int:
        return self.chunk.inputs.shape[1]

    @property
    def timesteps(self) -> int:
        return self.chunk.inputs.shape[0]

    def read(self, start: int, stop: int) -> Chunk:
        return self.chunk if stop - start == self.timesteps else self.chunk.between(start, stop)


def stored(inputs: Tensor, targets: Tensor, valid: Tensor | None = None) -> Stored:
    """Returns a batch of whole sequences: inputs (T, B, I), and targets (T, B, O) or (T, B). Every sequence starts at
    the first timestep, and all targets are valid unless ``valid`` (T, B) is given."""
    shape = inputs.shape[:2]
    starts = torch.zeros(shape, dtype=torch.bool)
    starts[0] = True
    return Stored(Chunk(inputs, targets, torch.ones(shape, dtype=torch.bool) if valid is None else valid, starts))
