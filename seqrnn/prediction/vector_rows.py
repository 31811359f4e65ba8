"""Rows of a task whose inputs and targets are plain numbers, without names of their own. I inputs, O outputs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from seqrnn.checkpoints.file import Tree
from seqrnn.errors import DataError, did_you_mean
from seqrnn.metrics import probabilities
from seqrnn.prediction.batch import column_names
from seqrnn.prediction.learning import Learner
from seqrnn.streaming.predictor import StreamPredictor
from seqrnn.streaming.values import START, shortest, shown, starts
from seqrnn.tables.numbers import number_of
from seqrnn.tasks.checks import DataFormat

TIMESTEP = "timestep"


@dataclass(frozen=True)
class Row:
    """A timestep, or the true values of an earlier one, as a user gives it.

    Args:
        inputs: I numbers; None: the row has only true values.
        targets: O numbers, or the class; None: the true values are not known.
        start: whether a new sequence begins.
        timestep: of its sequence, that the true values belong to; None: the latest.
    """

    inputs: list[float] | None
    targets: list[float] | int | None
    start: bool
    timestep: int | None


class RowFormat:
    """The columns of rows, and what may stand in them."""

    def __init__(self, data_format: DataFormat) -> None:
        self.data_format = data_format
        self.inputs = column_names("input", data_format.input_size)
        self.targets = ["target"] if data_format.classes else column_names("target", data_format.output_size)
        self.columns = [*self.inputs, *self.targets, START, TIMESTEP]

    def check_columns(self, names: Sequence[str]) -> None:
        """Checks names of columns.

        Raises:
            DataError: there is no such column.
        """
        for name in names:
            if name not in self.columns:
                raise DataError(f"{name!r} is no column{did_you_mean(name, self.columns)}")

    def row(self, values: dict[str, Any]) -> Row:
        """Returns a row from values by column: numbers, texts that are numbers, or None.

        Raises:
            DataError: a value is missing, or is not what it should be.
        """
        inputs = self._numbers(values, self.inputs)
        targets: list[float] | int | None = self._numbers(values, self.targets)
        if targets is not None and self.data_format.classes:
            targets = _class(values["target"], self.data_format.output_size)
        timestep = values.get(TIMESTEP)
        if timestep is not None:
            number = _number(timestep, TIMESTEP)
            if number != int(number) or number < 0:
                raise DataError(f"{TIMESTEP}: {timestep!r} should be a whole number of at least 0")
            timestep = int(number)
        if inputs is None and targets is None:
            raise DataError(f"has neither inputs nor true values; should have {', '.join(self.inputs[:3])}")
        if inputs is not None and timestep is not None:
            raise DataError(f"{TIMESTEP}: only with true values of an earlier timestep, without inputs")
        start = starts(values.get(START))
        if start and inputs is None:
            raise DataError(f"{START}: a sequence begins with inputs, and there are none")
        return Row(inputs, targets, start, timestep)

    def _numbers(self, values: dict[str, Any], names: Sequence[str]) -> list[float] | None:
        """Returns all numbers of some columns; None: there are none of them."""
        missing = [name for name in names if values.get(name) is None]
        if len(missing) == len(names):
            return None
        if missing:
            raise DataError(f"{missing[0]} is missing")
        return [_number(values[name], name) for name in names]


def _number(value: Any, name: str) -> float:
    number: float | None = None
    if isinstance(value, str):
        number = number_of(value.strip())
    elif isinstance(value, int | float) and not isinstance(value, bool):
        with suppress(OverflowError):
            number = float(value)
    if number is None or not math.isfinite(number):
        raise DataError(f"{name}: {shown(value)} should be a finite number")
    return number


def _class(value: Any, classes: int) -> int:
    number = _number(value, "target")
    if number != int(number) or not 0 <= number < classes:
        raise DataError(f"target: {shown(value)} should be a class from 0 to {classes - 1}")
    return int(number)


class VectorStream:
    """Answers rows of a task without names of its own, one after another."""

    def __init__(self, predictor: StreamPredictor, row_format: RowFormat) -> None:
        self.predictor, self.row_format = predictor, row_format

    @property
    def list_columns(self) -> Sequence[str]:
        return self.row_format.inputs

    def check_columns(self, names: Sequence[str]) -> None:
        self.row_format.check_columns(names)

    def answer(self, values: dict[str, Any]) -> dict[str, Any]:
        """Returns the answer to a row: its timestep, and the outputs or the probabilities of the classes.

        Raises:
            DataError: it cannot be used; the state is as it was.
        """
        row = self.row_format.row(values)
        if row.inputs is None:
            raise DataError(f"{self.row_format.inputs[0]} is missing")
        outputs = predict(self.predictor, row)
        return answer(outputs, self.predictor.timesteps - 1, self.row_format.data_format.classes)

    def restore(self, path: Path) -> None:
        self.predictor.restore(path)

    def save(self, path: Path) -> None:
        self.predictor.save(path)


def predict(predictor: StreamPredictor, row: Row) -> NDArray[Any]:
    """Returns the outputs (O,) for the inputs of a row. Where they cannot be used, the state is as it was.

    Raises:
        DataError: they are not finite in the precision of the network.
    """
    assert row.inputs is not None
    predictor.check(row.inputs)
    if row.start:
        predictor.reset()
    return predictor(row.inputs)


def answer(outputs: NDArray[Any], timestep: int, classes: bool) -> dict[str, Any]:
    """Returns the answer to a row, for JSON.

    Args:
        classes: whether the outputs are those of classes.
    """
    if classes:
        shares = [shortest(share) for share in probabilities(outputs)]
        return {TIMESTEP: timestep, "predicted": int(outputs.argmax()), "probabilities": shares}
    names = column_names("output", len(outputs))
    return {TIMESTEP: timestep} | {name: shortest(value) for name, value in zip(names, outputs, strict=True)}


class LearningVectorStream:
    """Answers rows of a task without names of its own, and learns from the true values among them.

    Rows without inputs bring true values of earlier timesteps, as long as those have not been learned from.
    """

    def __init__(self, learner: Learner, row_format: RowFormat) -> None:
        self.learner, self.row_format = learner, row_format

    @property
    def list_columns(self) -> Sequence[str]:
        return self.row_format.inputs

    def check_columns(self, names: Sequence[str]) -> None:
        self.row_format.check_columns(names)

    def answer(self, values: dict[str, Any]) -> dict[str, Any]:
        """Returns the answer to a row: the outputs and, with true values, the losses of the network as it learns and
        as it was trained.

        Raises:
            DataError: it cannot be used, and has changed nothing.
            Diverged: the loss or the gradient became NaN or infinite.
        """
        row, learner = self.row_format.row(values), self.learner
        if row.inputs is not None:
            outputs = learner.feed(row.inputs, row.start)
            timestep = learner.timesteps - 1
            found = answer(outputs, timestep, self.row_format.data_format.classes) | {"updates": learner.updates}
        else:
            timestep = self._timestep_of(row)
            found = {TIMESTEP: timestep}
        if row.targets is not None:
            found |= learner.judge(timestep, row.targets)
        learner.rows += 1
        return found

    def _timestep_of(self, row: Row) -> int:
        """Returns the timestep of its sequence that true values belong to."""
        latest = self.learner.timesteps - 1
        timestep = latest if row.timestep is None else row.timestep
        if not 0 <= timestep <= latest:
            raise DataError(f"{TIMESTEP}: {timestep} has not been yet")
        step = self.learner.step(timestep)
        if step is None:
            raise DataError(
                f"{TIMESTEP}: {timestep} has been learned from without its true values; they came too late"
            )
        if step.targets is not None:
            raise DataError(f"{TIMESTEP}: the true values of {timestep} are known already")
        return timestep

    def state(self) -> Tree:
        return self.learner.state()

    def restore(self, tree: Tree) -> None:
        self.learner.restore(tree)
