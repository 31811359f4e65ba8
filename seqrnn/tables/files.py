"""Finds the files that a path names: one file, several that match a pattern, or the members of a zip file."""

from __future__ import annotations

import glob
import gzip
import hashlib
import io
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import IO

from seqrnn.errors import DataError, printable

MOST_FILES = 10_000
PARQUET = (".parquet", ".pq")


@dataclass(frozen=True)
class Source:
    """A file of rows: on disk, gzipped or not, or a member of a zip file.

    Args:
        path: on disk.
        member: the name in the zip file; None: the file itself.
        content: what it holds, where it is no file on disk but was generated; None: it is on disk.
    """

    path: Path
    member: str | None = None
    content: bytes | None = None

    @property
    def name(self) -> str:
        """The name that errors show."""
        return printable(f"{self.path}{f':{self.member}' if self.member else ''}")

    @property
    def key(self) -> str:
        """The name without folders and endings, which identifies a sequence."""
        return Path(self.member or self.path).name.partition(".")[0]

    @property
    def is_parquet(self) -> bool:
        return Path(self.member or self.path).suffix.lower() in PARQUET

    @property
    def first_row(self) -> int:
        """The number of the first row of data: 2 in CSV, whose header is row 1."""
        return 1 if self.is_parquet else 2

    @cached_property
    def size(self) -> int:
        """Bytes as they are when nothing is compressed; of a gzipped file, what its end declares (modulo 2³²)."""
        if self.content is not None:
            return len(self.content)
        if self.member is not None:
            with zipfile.ZipFile(self.path) as archive:
                return archive.getinfo(self.member).file_size
        size = self.path.stat().st_size
        if self.path.suffix.lower() == ".gz" and size > 8:
            with self.path.open("rb") as file:
                file.seek(-4, 2)
                return max(size, int.from_bytes(file.read(4), "little"))
        return size

    @contextmanager
    def opened(self) -> Iterator[IO[bytes]]:
        """Opens the file for reading; what is compressed is decompressed as it is read.

        Raises:
            DataError: it cannot be read.
        """
        try:
            if self.content is not None:
                yield io.BytesIO(self.content)
            elif self.member is not None:
                with zipfile.ZipFile(self.path) as archive, archive.open(self.member) as member:
                    yield member
            elif self.path.suffix.lower() == ".gz":
                with gzip.open(self.path, "rb") as unpacked:
                    yield unpacked  # type: ignore[misc]
            else:
                with self.path.open("rb") as file:
                    yield file
        except (OSError, EOFError, RuntimeError, zipfile.BadZipFile) as error:  # RuntimeError: an encrypted member
            raise DataError(f"{self.name}: cannot be read: {_reason(error)}") from None


def _reason(error: Exception) -> str:
    if isinstance(error, gzip.BadGzipFile):
        return "it is no gzip file, or is damaged; a file that is not packed should not be named .gz"
    if isinstance(error, EOFError):
        return "the packed file ends too early; copy or download it once more"
    return printable(str(getattr(error, "strerror", None) or error))


def find_sources(path: str, key: str = "task.path") -> list[Source]:
    """Returns the files that ``path`` names, in the order of their names.

    Args:
        path: a file, a zip file, or a pattern with ``*``, ``?`` or ``[…]``.
        key: how the user gave it, for errors.

    Raises:
        DataError: there is none, or it is a directory.
    """
    where = Path(path).expanduser()
    if where.is_dir():
        raise DataError(
            f"{key}={printable(path)}: is a directory; name a file in it, or several with a pattern: "
            f"{key}='{printable(path.rstrip('/'))}/*.csv'"
        )
    if where.exists():
        return _members(where) if where.suffix.lower() == ".zip" else [Source(where)]
    found = sorted(each for each in glob.glob(str(where)) if Path(each).is_file())  # noqa: PTH207 (absolute patterns)
    if not found:
        raise DataError(f"{key}={printable(path)}: there is no such file, and none that matches")
    if len(found) > MOST_FILES:
        raise DataError(f"{key}={printable(path)}: {len(found):,} files match; at most {MOST_FILES:,} are read")
    return [
        source
        for each in found
        for source in (_members(Path(each)) if each.lower().endswith(".zip") else [Source(Path(each))])
    ]


def _members(path: Path) -> list[Source]:
    try:
        with zipfile.ZipFile(path) as archive:
            names = sorted(entry.filename for entry in archive.infolist() if not entry.is_dir())
    except (OSError, zipfile.BadZipFile) as error:
        raise DataError(f"{printable(str(path))}: cannot be read as a zip file: {_reason(error)}") from None
    kept = [name for name in names if not name.startswith("__MACOSX/") and not Path(name).name.startswith(".")]
    if not kept:
        raise DataError(f"{printable(str(path))}: the zip file holds no file")
    if len(kept) > MOST_FILES:
        raise DataError(f"{printable(str(path))}: holds {len(kept):,} files; at most {MOST_FILES:,} are read")
    return [Source(path, name) for name in kept]


def checksum(sources: list[Source]) -> str:
    """Returns the SHA-256 of the files on disk, in order; of one file, as ``sha256sum`` prints it."""
    digests = [hashlib.sha256(source.content).hexdigest() for source in sources if source.content is not None]
    for path in dict.fromkeys(source.path for source in sources if source.content is None):
        try:
            with path.open("rb") as file:
                digests.append(hashlib.file_digest(file, "sha256").hexdigest())
        except OSError as error:
            raise DataError(f"{printable(str(path))}: cannot be read: {_reason(error)}") from None
    return digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()
