"""Which checkpoints of a run there are, when the next one is due, and which is the newest that can be read."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from seqrnn.checkpoints import file
from seqrnn.checkpoints.file import Damaged, Tree
from seqrnn.errors import DataError
from seqrnn.settings import CheckpointSettings

SHARE = 0.01  # of a run's time, at most, that checkpoints by the clock take


class CheckpointManager:
    """The checkpoints in a directory, each in a file that is named for how many updates lie behind it.

    Args:
        clock: seconds that only ever go forward.
    """

    def __init__(
        self, directory: Path, settings: CheckpointSettings, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.directory, self.settings = directory, settings
        self._clock = clock
        self._written, self._cost = clock(), 0.0
        self.position: int | None = None  # of the newest

    def is_due(self, position: int) -> bool:
        """Whether it is time for the next checkpoint, so many updates of the schedule into the run."""
        if not self.settings.keep or position == self.position:
            return False
        if self.settings.updates:
            return position > 0 and position % self.settings.updates == 0
        seconds = self.settings.seconds
        return seconds is not None and self._clock() - self._written >= max(seconds, self._cost / SHARE)

    def write(self, position: int, state: Callable[[], Tree]) -> None:
        """Writes what ``state`` gives, and then removes those that are too many.

        Raises:
            OSError: it cannot be written; those from before are there.
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
        """Of all checkpoints, the newest first."""
        return sorted(self.directory.glob("[0-9]*.safetensors"), reverse=True)

    def newest(self, say: Callable[[str], None]) -> tuple[Path, Tree] | None:
        """The newest checkpoint that can be read; those before it are named and put aside. None: there is none, and
        never was.

        Raises:
            DataError: there are some, and none can be read; or one is in a newer format.
        """
        paths = self.paths()
        for path in paths:
            try:
                tree = file.read(path)
            except Damaged as error:
                say(f"{error}; it is left out")
                continue
            for damaged in paths[: paths.index(path)]:  # now that one is there to go on from
                damaged.replace(damaged.with_suffix(".damaged"))
            self.position = int(path.stem)
            return path, tree
        if paths:
            raise DataError(
                f"{self.directory}: none of its {len(paths)} checkpoints can be read, so there is nothing to go on "
                "from; put one back from a copy, or start the run anew"
            )
        return None
