"""The directory in which the training of a run continues while rows arrive; the run itself is not changed."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from safetensors.torch import save

from seqrnn.checkpoints.file import Tree
from seqrnn.checkpoints.identity import differences
from seqrnn.checkpoints.manager import CheckpointManager
from seqrnn.errors import ConfigError, DataError
from seqrnn.prediction.learning import Learner
from seqrnn.rundir.atomic import PREFIX, remove_unfinished, replacing
from seqrnn.rundir.bounded import MOST_JSON_BYTES, opened, read_json, resolve_inside
from seqrnn.rundir.lock import Lock, refuse_links
from seqrnn.rundir.names import (
    CHECKPOINTS,
    CONFIG,
    DATA,
    INTERVALS,
    LOCK,
    OVERRIDES,
    OWNER,
    PREPROCESSING,
    SUMMARY,
    WEIGHTS,
)
from seqrnn.rundir.reader import was_not_closed
from seqrnn.rundir.strict_json import to_json
from seqrnn.settings import CheckpointSettings

LEARNING = "learning.json"  # names the run whose training continues
COPIED = (CONFIG, OVERRIDES, PREPROCESSING, DATA, INTERVALS)  # from the run
CHECKPOINTS_EVERY, CHECKPOINTS_KEPT = "10s", 2


class LearningStream(Protocol):
    """What answers rows and learns from them."""

    learner: Learner

    def state(self) -> Tree:
        """Returns everything that what follows depends on."""

    def restore(self, tree: Tree) -> None:
        """Continues from the state of another one of the same run.

        Raises:
            DataError: it is that of another run, or not whole.
        """


class LearningDirectory:
    """The directory in which a run's training continues: checkpoints, the name of the run, and the files of a run
    directory with the new weights.

    Raises:
        ConfigError: another process writes it, it belongs to another run, or it holds other files.
    """

    def __init__(self, path: Path, stream: LearningStream, announce: Callable[[str], None]) -> None:
        self.path, self.stream, self.learner = path, stream, stream.learner
        self.lock = Lock(path / LOCK, path / OWNER)
        settings = CheckpointSettings(every=CHECKPOINTS_EVERY, keep=CHECKPOINTS_KEPT, best=None)
        self.manager = CheckpointManager(path / CHECKPOINTS, settings)
        try:
            if not _may_be_used(path):
                raise ConfigError(f"--learn {path}: holds other files; choose a new directory")
            refuse_links(path / name for name in (CHECKPOINTS, LEARNING))
            (path / CHECKPOINTS).mkdir(parents=True, exist_ok=True)
            self.lock.acquire()
            self._open(announce)
        except OSError as error:
            self.lock.release()
            raise ConfigError(f"--learn {path}: cannot be written: {error.strerror or error}") from None
        except BaseException:
            self.lock.release()
            raise

    def _open(self, announce: Callable[[str], None]) -> None:
        """Begins the learning, or continues it from its newest checkpoint. The directory is locked."""
        remove_unfinished(self.path, (*COPIED, SUMMARY, LEARNING, WEIGHTS))
        remove_unfinished(self.path / CHECKPOINTS)
        if not (self.path / LEARNING).exists():
            self._begin()
            return
        self._check_run()
        found = self.manager.newest(announce)
        if found is not None:
            try:
                self.stream.restore(found[1])
            except DataError as error:
                raise DataError(f"{found[0]}: {error}") from None

    def _check_run(self) -> None:
        values = read_json(self.path / LEARNING)
        was = values.get("network")
        different = differences(self.learner.identity, was if isinstance(was, dict) else {})
        if different:
            raise ConfigError(
                f"--learn {self.path}: another network learns there: {'; '.join(different)}; choose a new directory"
            )

    def write_if_due(self) -> None:
        """Writes a checkpoint, if the last one is old enough."""
        if self.manager.is_due(self.learner.rows):
            self.write()

    def write(self) -> None:
        """Writes a checkpoint and the weights, unless nothing has come since the last one."""
        if self.learner.rows == self.manager.position:
            return
        self.manager.write(self.learner.rows, self.stream.state)
        weights = {name: value.contiguous() for name, value in self.learner.network.state_dict().items()}
        with replacing(self.path / WEIGHTS) as temporary:
            temporary.write_bytes(save(weights))

    def _begin(self) -> None:
        """Writes what makes it a run directory, but for the weights, and the name of the run."""
        run = self.learner.trained.run
        for name in COPIED:
            if (run.directory / name).exists():
                with opened(resolve_inside(run.directory, name), MOST_JSON_BYTES) as file:
                    content = file.read()
                with replacing(self.path / name) as temporary:
                    temporary.write_bytes(content)
        summary = {**run.summary, "status": "learning", "test": {}, "baselines": {}, "validation": {}}
        values = {"run": str(run.directory.absolute()), "network": self.learner.identity}
        for name, content_of in (
            (SUMMARY, summary),
            (LEARNING, values),
        ):  # the latter last: it says that all is there
            with replacing(self.path / name, durable=True) as temporary:
                temporary.write_text(to_json(content_of, indent=2) + "\n", encoding="utf-8")

    def close(self) -> None:
        """Lets other processes write the directory."""
        self.lock.release()


def _may_be_used(path: Path) -> bool:
    """Returns whether a directory is new or empty, holds a learning, or holds only what a process has left there that
    was killed before it had written ``learning.json``."""
    if not os.path.lexists(path) or (path / LEARNING).exists():
        return True
    if not path.is_dir():
        return False
    present = {entry.name for entry in path.iterdir() if not entry.name.startswith(PREFIX)}
    if present == {CHECKPOINTS} or was_not_closed(path):
        return present <= {CHECKPOINTS, SUMMARY, *COPIED} and not any((path / CHECKPOINTS).glob("[!.]*"))
    return not present
