"""Answers rows from standard input, one after another, until the input ends or a signal comes."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, Protocol

from seqrnn.checkpoints.signals import Signals
from seqrnn.errors import DataError, Interrupted, UserError, printable
from seqrnn.prediction import learning_directory
from seqrnn.prediction.learning import Learner
from seqrnn.prediction.learning_directory import LearningDirectory
from seqrnn.prediction.lines import LineParser, read_lines
from seqrnn.prediction.table_learning import LearningTableStream
from seqrnn.prediction.trained import TrainedRun
from seqrnn.prediction.vector_rows import LearningVectorStream, RowFormat, VectorStream
from seqrnn.rundir.lock import Lock
from seqrnn.rundir.strict_json import to_json
from seqrnn.streaming.table_stream import TableRows, TableStream
from seqrnn.tables.preprocessing import Preprocessing


class RowStream(Protocol):
    """Answers rows."""

    @property
    def list_columns(self) -> Sequence[str]:
        """The columns of a row that is given as a list."""

    def check_columns(self, names: Sequence[str]) -> None:
        """Checks names of columns.

        Raises:
            DataError: there is no such column.
        """

    def answer(self, values: dict[str, Any]) -> dict[str, Any]:
        """Returns the answer to a row, for JSON.

        Raises:
            DataError: the row cannot be used, and has changed nothing.
        """


class SavedStream(RowStream, Protocol):
    """Answers rows, and can be stopped and continued."""

    def save(self, path: Path) -> None:
        """Writes the state to a file.

        Raises:
            OSError: it cannot be written.
        """

    def restore(self, path: Path) -> None:
        """Continues from the state in a file.

        Raises:
            DataError: it cannot be read or is damaged, or is that of another network.
        """


class LearningStream(RowStream, learning_directory.LearningStream, Protocol):
    """Answers rows, and learns from them."""


def learn(trained: TrainedRun, directory: Path, rate: float | None) -> None:
    """Answers rows as ``serve`` does, and trains a copy of the network further as true values arrive.

    Args:
        directory: where the training continues; if it has begun there before, it is resumed.
        rate: the learning rate; None: one far below that of the run, see ``Learner``.

    Raises:
        ConfigError: the directory cannot be used.
        DataError: its checkpoints cannot.
        Diverged: the loss became NaN or infinite; the last checkpoint is from before.
        Interrupted: a signal has ended the stream, after a checkpoint.
    """
    stream = open_learning(trained, rate)
    learner = stream.learner
    kept = LearningDirectory(directory, stream, announce)
    try:
        if learner.rows:
            announce(f"continues after row {learner.rows:,} ({learner.updates:,} updates) from {directory}")
        elif learner.checkpoint is None:
            announce(f"note: {trained.run.directory} has no checkpoint: its optimizer begins anew, with a warm-up")
        with Signals() as signals:
            try:
                answer_lines(stream, signals, _delimiter(trained), kept.write_if_due)
            except Interrupted:
                with signals.deferred():
                    _end_learning(kept)
                raise
            with signals.deferred():
                _end_learning(kept)
    finally:
        kept.close()


def _end_learning(kept: LearningDirectory) -> None:
    kept.write()
    learner = kept.learner
    announce(
        f"learned in {learner.updates:,} updates; {learner.errors.describe(learner.trained.run.summary['loss'])}"
    )
    announce(str(kept.path))


def serve(trained: TrainedRun, state: Path | None) -> None:
    """Answers rows from standard input with a line of JSON each, at once.

    Args:
        state: a file to continue from, if it exists, and to write at the end; None: the network begins in its
            initial state.

    Raises:
        ConfigError: another process continues the same state.
        DataError: the file of the state cannot be read, or is that of another network.
        UserError: it cannot be written.
        Interrupted: a signal has ended the stream, after the state was written.
    """
    stream = open_stream(trained)
    with _locked(state) if state is not None else nullcontext():
        if state is not None and state.exists():
            stream.restore(state)
            announce(f"continues from {state}")
        with Signals() as signals:
            try:
                answer_lines(stream, signals, _delimiter(trained))
            finally:
                if state is not None:
                    with signals.deferred():
                        save_state(stream, state)


@contextmanager
def _locked(state: Path) -> Iterator[None]:
    """Locks the file of a state within its block: of two processes that continue one state, the second to end would
    overwrite what the first has written.

    Raises:
        ConfigError: another process holds the lock.
        UserError: the directory of the file cannot be written.
    """
    path, owner = (state.parent / f".{state.name}.{end}" for end in ("lock", "owner"))
    lock = Lock(path, owner, what=f"--state {state}", saves="the state")
    try:
        if not state.parent.is_dir():  # which the lock would create
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
        lock.acquire()
    except OSError as error:
        lock.release()
        raise _unwritable(state, error) from None
    try:
        yield
    finally:
        lock.release()


def _delimiter(trained: TrainedRun) -> str:
    """Returns what separates cells in the tables of the run."""
    return trained.preprocessing().read.delimiter if trained.reads_tables else ","


def open_stream(trained: TrainedRun) -> SavedStream:
    """Returns what answers the rows of a run."""
    predictor = trained.run.stream(trained.which, announce)
    if isinstance(predictor, TableStream):
        announce_limits(predictor.rows.preprocessing)
        return predictor
    return VectorStream(predictor, RowFormat(trained.data_format))


def open_learning(trained: TrainedRun, rate: float | None) -> LearningStream:
    """Returns what answers the rows of a run and learns from them."""
    if not trained.reads_tables:
        return LearningVectorStream(Learner(trained, rate), RowFormat(trained.data_format))
    rows = TableRows.of_run(trained.run.directory, trained.preprocessing())
    announce_limits(rows.preprocessing)
    return LearningTableStream(Learner(trained, rate, rows.preprocessing.steps_ahead), rows)


def announce_limits(preprocessing: Preprocessing) -> None:
    """Says in what rows that come one by one differ from those of a file."""
    if preprocessing.resample:
        announce(f"note: the run averages rows over {preprocessing.step.length}: send averages, one row for each")
    if preprocessing.ahead:
        names = ", ".join(feature.column for feature in preprocessing.ahead)
        announce(f"note: what {names} will be is not known in a stream, and is taken to stay as it is")


def save_state(stream: SavedStream, path: Path) -> None:
    """Writes the state to a file.

    Raises:
        UserError: it cannot be written.
    """
    try:
        stream.save(path)
    except OSError as error:
        raise _unwritable(path, error) from None


def _unwritable(state: Path, error: OSError) -> UserError:
    return UserError(f"--state {state}: cannot be written: {error.strerror or error}")


def answer_lines(
    stream: RowStream, signals: Signals, delimiter: str, pause: Callable[[], None] = lambda: None
) -> None:
    """Answers the lines of standard input until it ends, or until nobody reads the answers any more. A line that
    cannot be used is answered by its number and the reason.

    Args:
        delimiter: what separates the cells of a line of CSV.
        pause: called after each answer.

    Raises:
        Interrupted: a signal asked for an end; the line that was being answered has been.
    """
    parser = LineParser(stream.check_columns, stream.list_columns, delimiter)
    if sys.stdin.isatty():
        announce(f"type rows, such as [{', '.join(stream.list_columns[:3])}], and Ctrl-D to end")
    with _ending_with_the_reader():
        for number, line in read_lines(sys.stdin.buffer):
            with signals.deferred():
                answer = _answer(stream, parser, number, line)
                if answer is not None:
                    sys.stdout.write(to_json(answer) + "\n")
                    sys.stdout.flush()
                    pause()
            signals.answer()


def _answer(stream: RowStream, parser: LineParser, number: int, line: bytes | None) -> dict[str, Any] | None:
    try:
        values = parser.parse(line)
        return None if values is None else stream.answer(values)
    except DataError as error:
        return {"line": number, "error": "; ".join(error.problems)}


@contextmanager
def _ending_with_the_reader() -> Iterator[None]:
    """Ends its block without an error when the process that reads our output has ended."""
    try:
        yield
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python writes what is left at its exit


def announce(text: str) -> None:
    """Prints a line for the user beside the answers: to standard error."""
    print(printable(text), file=sys.stderr, flush=True)
