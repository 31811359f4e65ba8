"""Manages the checkpoints of a run: when the next one is due, how many are kept, which one a run is resumed from."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from seqrnn.checkpoints import file
from seqrnn.checkpoints.file import Damaged, Tree
from seqrnn.errors import DataError
from seqrnn.settings import CheckpointSettings

SHARE = 0.01  # of a run's time that checkpoints by the clock take at most
PATTERN = "[0-9]*.safetensors"


class CheckpointManager:
    """Manages the checkpoints in a directory, each in a file named for the number of updates that have been made.

    Args:
        clock: returns seconds that never go backward.
    """

    def __init__(
        self, directory: Path, settings: CheckpointSettings, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.directory, self.settings = directory, settings
        self._clock = clock
        self._written, self._cost = clock(), 0.0
        self.position: int | None = None  # updates of the schedule at the newest checkpoint

    def is_due(self, position: int) -> bool:
        """Returns whether the next checkpoint is due after so many updates of the schedule."""
        if not self.settings.keep or position == self.position:
            return False
        if self.settings.updates:
            return position > 0 and position % self.settings.updates == 0
        seconds = self.settings.seconds
        return seconds is not None and self._clock() - self._written >= max(seconds, self._cost / SHARE)

    def write(self, position: int, state: Callable[[], Tree]) -> None:
        """Writes what ``state`` returns, and then removes the oldest checkpoints, but for ``checkpoint.keep``.

        Raises:
            OSError: the checkpoint cannot be written; the earlier ones are still there.
        """
        if not self.settings.keep:
            return
        began = self._clock()
        file.write(self.directory / f"{position:012d}.safetensors", state())
        for path in self.paths()[self.settings.keep :]:
            path.unlink()
        self.position, self._written = position, self._clock()
        self._cost = self._written - began

    def paths(self) -> list[Path]:
        """Returns the paths of all checkpoints, the newest first."""
        return sorted(self.directory.glob(PATTERN), reverse=True)

    def newest(self, say: Callable[[str], None]) -> tuple[Path, Tree] | None:
        """Returns the newest checkpoint that is not damaged; None: there are no checkpoints. Newer ones, which are
        damaged, are renamed.

        Args:
            say: called with a message about each damaged checkpoint.

        Raises:
            DataError: all checkpoints are damaged, or one is in the format of another version.
        """
        paths = self.paths()
        for path in paths:
            try:
                tree = file.read(path)
            except Damaged as error:
                say(f"{error}; it is ignored")
                continue
            for damaged in paths[: paths.index(path)]:  # only now that there is one to resume from
                damaged.replace(damaged.with_suffix(".damaged"))
            self.position = int(path.stem)
            return path, tree
        if paths:
            raise DataError(
                f"{self.directory}: none of its {len(paths)} checkpoints can be read, so the run cannot be resumed; "
                "put one back from a copy, or start a new run"
            )
        return None


def check_version(directory: Path) -> None:
    """Checks that the run whose checkpoints are in a directory was written in the format of this version.

    Raises:
        OtherVersion: its newest checkpoint that is not damaged is in another format.
    """
    for path in sorted(directory.glob(PATTERN), reverse=True):
        try:
            file.check(path)
        except Damaged:
            continue
        return
