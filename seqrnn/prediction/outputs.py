"""Writes predictions to a file: CSV, Parquet, or NumPy's arrays."""

from __future__ import annotations

import csv
import zipfile
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from seqrnn.errors import ConfigError, UserError
from seqrnn.rundir.atomic import replacing

Columns = Mapping[str, NDArray[Any]]  # a value for each row
SUFFIXES = (".csv", ".parquet", ".npz")
FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")  # a spreadsheet computes a text that begins with one of them


def check_path(path: Path, read: Sequence[Path] = ()) -> None:
    """Checks, before anything is computed, that a file of predictions can be written.

    Args:
        read: files that are read, and must not be replaced.

    Raises:
        ConfigError: it cannot.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise ConfigError(f"--out {path}: its name should end in {', '.join(SUFFIXES[:-1])} or {SUFFIXES[-1]}")
    if path.is_dir():
        raise ConfigError(f"--out {path}: is a directory; name a file")
    if not path.parent.is_dir():
        raise ConfigError(f"--out {path}: there is no directory {path.parent}; make it first")
    if any(path.exists() and other.exists() and path.samefile(other) for other in read):
        raise ConfigError(f"--out {path}: is one of the files that are read; choose another name")


def write(path: Path, columns: Columns, exact: Collection[str] = ()) -> None:
    """Writes columns to a file, whole or not at all; the end of its name chooses the format.

    In CSV, numbers of double precision have at most 9 significant digits, but for those of the columns ``exact``.

    In CSV, a text that a spreadsheet would take for a formula, because it begins with = + - or @, gets a leading
    ``'`` and so stays text; texts that are numbers are left as they are. The other formats hold texts as they are.

    Raises:
        UserError: the file cannot be written.
    """
    try:
        with replacing(path) as temporary:
            _write(temporary, columns, exact)
    except OSError as error:
        raise UserError(f"--out {path}: cannot be written: {error.strerror or error}") from None


def _write(path: Path, columns: Columns, exact: Collection[str]) -> None:
    if path.suffix.lower() == ".npz":
        with path.open("wb") as file:
            _write_arrays(file, {name: _plain(values) for name, values in columns.items()})
        return
    import pandas  # late: it takes half a second

    if path.suffix.lower() == ".parquet":
        with path.open("wb") as file:  # its errors are Python's, which say what is wrong
            pandas.DataFrame(dict(columns)).to_parquet(file, index=False)
        return
    table = {as_text(name): _cells(values, name in exact) for name, values in columns.items()}
    texts = [*table, *(cell for cells in table.values() if cells.dtype.kind in "OUS" for cell in cells)]
    # csv quotes no text for a carriage return alone, at which readers end the line.
    quoting = csv.QUOTE_NONNUMERIC if any("\r" in str(text) for text in texts) else csv.QUOTE_MINIMAL
    pandas.DataFrame(table).to_csv(path, index=False, quoting=quoting)


def _write_arrays(file: IO[bytes], arrays: Columns) -> None:
    """Writes what ``numpy.savez_compressed`` does, to which no array can be given that is named as an argument."""
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, values in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, values, allow_pickle=False)


def _plain(values: NDArray[Any]) -> NDArray[Any]:
    """Returns values without Python objects, which NumPy would have to pickle: times of a zone become texts."""
    array = np.asanyarray(values)
    return array.astype(str) if array.dtype == object else array


def _cells(values: NDArray[Any], is_exact: bool) -> NDArray[Any]:
    if values.dtype == np.float64 and not is_exact:
        return np.array([float(f"{value:.9g}") for value in values])
    if values.dtype.kind not in "OUS":
        return values
    return np.array([as_text(value) if isinstance(value, str) else value for value in values], object)


def as_text(text: str) -> str:
    """Returns a text as a cell that no spreadsheet takes for a formula."""
    if not text.startswith(FORMULA):
        return text
    try:
        float(text)
    except ValueError:
        return f"'{text}"
    return text
