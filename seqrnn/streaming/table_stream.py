"""Answers rows of tables as they come, in the units of the table. I inputs, H steps of the horizon, K targets."""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Sequence as Many
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seqrnn.checkpoints import file
from seqrnn.checkpoints.file import Tree
from seqrnn.checkpoints.identity import differences
from seqrnn.errors import DataError, printable
from seqrnn.metrics import probabilities
from seqrnn.models.protocol import State
from seqrnn.streaming import state_file
from seqrnn.streaming.predictor import StreamPredictor
from seqrnn.streaming.run_documents import Ends, read_ends
from seqrnn.streaming.table_rows import INPUT, History, RowReader
from seqrnn.streaming.values import shortest, shown
from seqrnn.tables.encoding import encode
from seqrnn.tables.output_names import OutputNames
from seqrnn.tables.preprocessing import Preprocessing
from seqrnn.tables.sequences import Sequence
from seqrnn.tables.times import show, with_offsets

CONTENT = "states of the sequences of a table"
MOST_SEQUENCES = 100_000
# The keys of an answer that are not those of the table.
FIXED = (
    "timestep", "predicted", "probabilities", "skipped", "line", "error", "updates", "judged", "loss",
    "loss_as_trained",
)  # fmt: skip
Array = NDArray[Any]


@dataclass(frozen=True)
class EncodedRow:
    """A row as the network reads it.

    Args:
        inputs: (I,); None: the row has a missing value, and the run leaves such rows out.
        origins: (K,), the last known values of the targets in their units.
        usable: whether it may be learned from: nothing was interpolated.
        row: as a sequence of one timestep.
        latest: the latest row of the history after it.
        start: whether a new sequence begins.
    """

    key: str
    inputs: Array | None
    origins: NDArray[np.float64]
    usable: bool
    row: Sequence
    latest: Sequence
    start: bool


@dataclass
class SequenceState:
    """Where a sequence is.

    Args:
        restarts: whether the next row begins anew, behind one that was left out.
        state: of the network, while another sequence is being answered.
    """

    history: History
    timesteps: int = 0
    restarts: bool = False
    state: State | None = None


class TableRows:
    """Encodes rows of one or several sequences, and says what the outputs mean in their units."""

    def __init__(self, preprocessing: Preprocessing, ends: Ends | None) -> None:
        self.preprocessing, self.ends = preprocessing, ends
        self.reader = RowReader(preprocessing)
        self.sequences: dict[str, SequenceState] = {}

    @classmethod
    def of_run(cls, directory: Path, preprocessing: Preprocessing) -> TableRows:
        """Returns the rows of a run, with its prediction intervals.

        Raises:
            DataError: the intervals are damaged, or do not fit.
        """
        return cls(preprocessing, read_ends(directory, preprocessing.steps_ahead, len(preprocessing.targets)))

    def encode(self, values: dict[str, Any]) -> EncodedRow:
        """Returns a row, given as values by column, as the network reads it. Changes nothing.

        Raises:
            DataError: a value is not what it should be.
        """
        try:
            return self._encoded(values)
        except DataError as error:  # the line's number stands beside it
            raise DataError(*(one.removeprefix(f"{INPUT.name}, row 1, ") for one in error.problems)) from None

    def _encoded(self, values: dict[str, Any]) -> EncodedRow:
        key, row, start = self.reader.read(values)
        sequence = self.sequences.get(key)
        if sequence is None and len(self.sequences) >= MOST_SEQUENCES:
            raise DataError(f"more than {MOST_SEQUENCES:,} sequences")
        history = History(self.preprocessing) if sequence is None or start else sequence.history
        encoded, latest = history.encode(row)
        number = 0 if history.latest is None else 1
        is_kept = encoded.kept is None or number in encoded.kept
        starts = start or sequence is None or sequence.restarts
        if not is_kept:
            unknown = np.full(len(self.preprocessing.targets), np.nan)
            return EncodedRow(key, None, unknown, False, row, latest, starts)
        usable = bool(encoded.usable[-1])
        return EncodedRow(key, encoded.inputs()[-1], encoded.origins[-1], usable, row, latest, starts)

    def enter(self, encoded: EncodedRow) -> SequenceState:
        """Notes a row, and returns where its sequence is after it."""
        sequence = self.sequences.setdefault(encoded.key, SequenceState(History(self.preprocessing)))
        sequence.history.latest = encoded.latest
        sequence.restarts = encoded.inputs is None
        if encoded.start:
            sequence.timesteps = 0
        sequence.timesteps += encoded.inputs is not None
        return sequence

    def answer(self, encoded: EncodedRow, outputs: Array, timestep: int) -> dict[str, Any]:
        """Returns the answer to a row, for JSON."""
        preprocessing, names = self.preprocessing, OutputNames(FIXED)
        found: dict[str, Any] = {"timestep": timestep}
        if preprocessing.group is not None:
            found[names.add(preprocessing.group)] = encoded.key
        if preprocessing.kind == "classification":
            shares = probabilities(outputs)
            named = zip(preprocessing.classes, map(shortest, shares), strict=True)
            return found | {"predicted": preprocessing.classes[int(outputs.argmax())], "probabilities": dict(named)}
        predicted = preprocessing.to_units(outputs[None, None], encoded.origins[None, None])[0, 0]  # (H, K)
        if encoded.row.times is not None:
            columns = preprocessing.time.columns
            found[names.add(columns[0] if len(columns) == 1 else "time")] = self._times(encoded.row)
        ends = None if self.ends is None else self.ends.of(encoded.key)
        for number, target in enumerate(preprocessing.targets):
            found[names.add(f"{target}_predicted")] = _listed(predicted[:, number])
            if self.ends is not None and ends is not None:
                for side, reach in zip(("lower", "upper"), ends, strict=True):
                    name = names.add(f"{target}_{side}_{self.ends.percent}")
                    found[name] = _listed(predicted[:, number] + reach[:, number])
        return found

    def skipped(self, encoded: EncodedRow) -> dict[str, Any]:
        """Returns the answer to a row that the run leaves out."""
        found = {"skipped": "a value is missing, and the run leaves such rows out (task.missing=drop)"}
        group = self.preprocessing.group
        return found if group is None else {OutputNames(FIXED).add(group): encoded.key} | found

    def _times(self, row: Sequence) -> Any:
        """Returns which times are predicted, as texts: a list of them where there are several."""
        preprocessing = self.preprocessing
        assert row.times is not None
        lead = 1 if preprocessing.is_forecast else 0
        times = preprocessing.step.times_at(row.times[0], lead + np.arange(preprocessing.steps_ahead))
        if row.has_dates and preprocessing.time.is_utc:
            shown = [str(time) for time in with_offsets(times, preprocessing.time.timezone)]
        else:
            shown = [show(time, not row.has_dates) for time in times]
        return shown if len(shown) > 1 else shown[0]


class TableStream:
    """Predicts from one row of a table after another; each sequence of the table has a state of its own.

        predictor = seqrnn.load(RUN_DIR).stream()
        answer = predictor({"day": "2024-03-01", "sales": 51.2})  # answer["sales_predicted"]

    A predictor serves one thread.
    """

    def __init__(self, predictor: StreamPredictor, rows: TableRows) -> None:
        self.predictor, self.rows = predictor, rows
        self._current: SequenceState | None = None  # whose state the predictor holds

    @property
    def list_columns(self) -> Many[str]:
        return self.rows.preprocessing.columns

    def check_columns(self, names: Many[str]) -> None:
        self.rows.reader.check_columns(names)

    def __call__(self, values: Any) -> dict[str, Any]:
        """Returns what is predicted from a row: with the timestep of its sequence, in the units of the table.

        Args:
            values: a mapping by column; None for what is not known. ``start``: whether a new sequence begins.

        Raises:
            DataError: it is no mapping, or cannot be used; the state is as it was.
        """
        if not isinstance(values, Mapping):
            first = self.list_columns[0]
            raise DataError(
                f"a row of a table is a mapping of columns to values, such as {{{first!r}: …}}, not {shown(values)}; "
                f"its columns: {', '.join(map(printable, self.list_columns))}"
            )
        self.check_columns(list(values))
        return self.answer(dict(values))

    def reset(self) -> None:
        """Forgets all sequences."""
        self.rows.sequences.clear()
        self._current = None
        self.predictor.reset()

    def answer(self, values: dict[str, Any]) -> dict[str, Any]:
        """Returns what ``__call__`` returns, for columns that have been checked."""
        encoded = self.rows.encode(values)
        if encoded.inputs is not None:
            self.predictor.check(encoded.inputs)
        sequence = self.rows.enter(encoded)
        if encoded.inputs is None:
            return self.rows.skipped(encoded)
        self._hold(sequence, encoded.start)
        outputs = self.predictor(encoded.inputs)
        return self.rows.answer(encoded, outputs, sequence.timesteps - 1)

    def _hold(self, sequence: SequenceState, start: bool) -> None:
        """Gives the predictor the state of a sequence."""
        if self._current is not sequence:
            if self._current is not None:
                self._current.state = self.predictor.state
            if sequence.state is not None:
                self.predictor.state = sequence.state
            self._current = sequence
        if start:
            self.predictor.reset()

    def save(self, path: Path) -> None:
        """Writes the states of all sequences to a file.

        Raises:
            OSError: it cannot be written.
        """
        if self._current is not None:
            self._current.state = self.predictor.state
        sequences = [
            {**sequence_tree(key, sequence), "state": list(sequence.state or ())}
            for key, sequence in self.rows.sequences.items()
        ]
        file.write(path, {"content": CONTENT, "network": self.predictor.identity, "sequences": sequences})

    def restore(self, path: Path) -> None:
        """Continues from the states in a file, and forgets all sequences that are not in it.

        Raises:
            DataError: it cannot be read or is damaged, or is that of another network; the states are as they were.
        """
        tree = file.read(path)
        if tree.get("content") != CONTENT:
            raise DataError(f"{path}: holds no states of a table: was it written by --state for this run?")
        different = differences(self.predictor.identity, tree.get("network", {}))
        if different:
            raise DataError(f"{path}: the states of another network: {'; '.join(different)}")
        sequences = {}
        try:
            for one in tree["sequences"]:
                sequence = sequence_of(one, self.rows.preprocessing)
                if one["state"]:
                    state_file.check_parts(one["state"], self.predictor.state)
                    sequence.state = tuple(one["state"])
                sequences[str(one["key"])] = sequence
        except (KeyError, TypeError, ValueError, AttributeError, DataError) as error:
            raise DataError(f"{path}: does not fit this run: {error!r}") from error
        self.rows.sequences, self._current = sequences, None


def sequence_tree(key: str, sequence: SequenceState) -> Tree:
    """Returns where a sequence is, for a file, but for the state of the network."""
    latest = sequence.history.latest
    assert latest is not None
    numbers = {name: float(values[0]) for name, values in latest.numbers.items()}
    labels = {name: latest.labels[name][codes[0]] if codes[0] >= 0 else None for name, codes in latest.codes.items()}
    return {
        "key": key,
        "timesteps": sequence.timesteps,
        "restarts": sequence.restarts,
        "numbers": {name: None if np.isnan(number) else number for name, number in numbers.items()},
        "labels": labels,
        "time": None if latest.times is None else latest.times[0].item(),
    }  # fmt: skip


def sequence_of(tree: Tree, preprocessing: Preprocessing) -> SequenceState:
    """Returns where a sequence is from what ``sequence_tree`` has returned.

    Raises:
        Exception: a KeyError, TypeError, ValueError, AttributeError or DataError, where it is of another run.
    """
    history = History(preprocessing)
    numbers = {
        str(name): np.array([np.nan if value is None else float(value)]) for name, value in tree["numbers"].items()
    }
    labels = {str(name): [] if label is None else [str(label)] for name, label in tree["labels"].items()}
    codes = {name: np.array([len(own) - 1], np.int32) for name, own in labels.items()}
    times = None if tree["time"] is None else np.array([tree["time"]])
    if times is not None and times.dtype not in (np.int64, np.float64):
        raise TypeError(f"{times[0]!r} is no time")
    history.latest = Sequence("", INPUT, numbers, codes, labels, times, 1)
    encode(preprocessing, history.latest)  # every column that is read is there
    return SequenceState(history, int(tree["timesteps"]), bool(tree["restarts"]))


def _listed(values: NDArray[np.float64]) -> Any:
    """Returns the number, or the numbers of all steps, for JSON; NaN becomes null there."""
    numbers = [float(f"{value:.9g}") for value in values]
    return numbers[0] if len(numbers) == 1 else numbers
