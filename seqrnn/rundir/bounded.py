"""Files that may come from anyone, read as plain data.

Nothing that is read here is run, imported, unpickled or resolved, and what a file claims of its size is held against
bounds before memory is taken for it. Every function raises DataError with the file's path, what was found, and what
was expected instead.
"""

from __future__ import annotations

import json
import math
import os
import re
import stat
import struct
import zipfile
from array import array
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import IO, Any

import numpy as np
import yaml
from numpy.typing import NDArray

from seqrnn.errors import DataError

MOST_YAML = 2**18  # bytes
MOST_JSON = 2**22
MOST_ROWS_BYTES, MOST_LINE, MOST_ROWS, MOST_COLUMNS = 2**30, 2**16, 5_000_000, 256
MOST_ARRAYS = 2**30  # bytes of all the arrays of a file, unpacked
MOST_MEMBERS, MOST_DIRECTORY = 64, 2**16
PORTION = 2**20  # bytes that are unpacked at a time
MOST_WEIGHTS, MOST_WEIGHTS_HEADER = 2**34, 2**24
DEEPEST = 32  # mappings and lists within one another
LONGEST_WORD = 10_000  # characters of a key or a value
LONGEST_NAME = 200  # characters of what is shown in titles and tables
LARGEST_INTEGER = 2**64
MOST_PROBLEMS = 20  # that are named
ZIP_END = struct.Struct("<4s4H2LH")  # signature, disks, members, size and place of their directory, comment


def resolve_inside(directory: Path, name: str) -> Path:
    """The path of a file of a directory; a link there may not lead out of it.

    Raises:
        DataError: it does, so that a directory that was received would show files of whoever reads it.
    """
    path = directory / name
    if path.is_symlink() and not path.resolve().is_relative_to(directory.resolve()):
        raise DataError(
            f"{path}: is a link to {path.resolve()}, outside of the directory, and is not followed; if it should be "
            "read, put a copy of the file there"
        )
    return path


@contextmanager
def opened(path: Path, most: int) -> Iterator[IO[bytes]]:
    """A regular file of at most ``most`` bytes. Whatever goes wrong with it within the block is a DataError."""
    try:
        found = path.stat()
        if not stat.S_ISREG(found.st_mode):
            raise ValueError("it is no regular file")  # opening a pipe would wait for whoever writes to it
        if found.st_size > most:
            raise ValueError(f"it has {found.st_size:,} bytes; {most:,} are the most that are read")
        with path.open("rb") as file:
            yield file
    except DataError:
        raise
    except RecursionError:
        raise DataError(f"{path}: cannot be read: it is nested too deeply") from None
    except Exception as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error) or repr(error)
        raise DataError(f"{path}: cannot be read: {' '.join(reason.split())}") from None


class _Values(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """YAML's plain values, as OmegaConf reads them: 1e-8 is a number, and a key may be given once."""

    def construct_mapping(self, node: Any, deep: bool = False) -> Any:
        keys = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        if len(set(keys)) < len(keys):
            raise ValueError(f"line {node.start_mark.line + 1}: a key is given twice")
        return super().construct_mapping(node, deep)


_Values.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?[0-9][0-9_]*[eE][-+]?[0-9]+$"), list("-+0123456789")
)


def read_yaml(path: Path) -> dict[str, Any]:
    """A mapping of plain values (mappings, lists, words, numbers, true, false, null).

    Refused are tags, aliases, and interpolations, which a recorded config has no more: they could stand for objects,
    for more than there is memory for, and for what is in the environment of whoever reads them.
    """
    with opened(path, MOST_YAML) as file:
        return _mapping(_yaml(file), path)


def read_words(path: Path) -> list[str]:
    """A YAML list of words, under the same rules."""
    with opened(path, MOST_YAML) as file:
        values = _yaml(file)
        if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
            raise ValueError("it should hold a list of words")
        return values


def _yaml(file: IO[bytes]) -> Any:
    text = file.read(MOST_YAML).decode()
    _check_events(text)
    loader = _Values(text)
    try:
        return loader.get_single_data()
    finally:
        loader.dispose()


def _check_events(text: str) -> None:
    depth = 0
    for event in yaml.parse(text, Loader=_Values):
        where = f"line {event.start_mark.line + 1}"
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            raise ValueError(f"{where}: aliases are not read; write the value out")
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > DEEPEST:
                raise ValueError(f"{where}: more than {DEEPEST} mappings and lists within one another")
        if isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if isinstance(event, yaml.NodeEvent) and getattr(event, "tag", None):
            raise ValueError(f"{where}: the tag {event.tag} is not read; plain values have none")
        if isinstance(event, yaml.ScalarEvent):
            if len(event.value) > LONGEST_WORD:
                raise ValueError(f"{where}: a value of {len(event.value):,} characters")
            if "${" in event.value:
                raise ValueError(
                    f"{where}: {event.value[:80]}: interpolations are not resolved here; a run records its config "
                    "with every value resolved"
                )


def read_json(path: Path) -> dict[str, Any]:
    """A mapping of plain values."""
    with opened(path, MOST_JSON) as file:
        return _mapping(_parsed(file.read(MOST_JSON)), path)


def read_rows(path: Path) -> dict[str, NDArray[np.float64]]:
    """The columns of a file that has a JSON mapping of numbers in each line: those of the first line; NaN where a
    line has no value. A last line without an end is left out: whoever wrote it was stopped."""
    columns: dict[str, array[float]] = {}
    with opened(path, MOST_ROWS_BYTES) as file:
        for number, line in enumerate(iter(lambda: file.readline(MOST_LINE), b""), 1):
            if not line.endswith(b"\n"):
                if len(line) == MOST_LINE:
                    raise ValueError(f"line {number} has more than {MOST_LINE:,} bytes")
                break
            row = _parsed(line)
            if not isinstance(row, dict) or number > MOST_ROWS or len(row) > MOST_COLUMNS:
                raise ValueError(f"line {number}: should be a mapping of at most {MOST_COLUMNS} names to numbers")
            columns = columns or {key: array("d") for key in row}
            for key, column in columns.items():
                value = row.get(key)
                if value is not None and not _is_number(value):
                    raise ValueError(f"line {number}: {key} should be a number, not {_said(value)}")
                column.append(math.nan if value is None else value)
        return {key: np.frombuffer(column, np.float64) for key, column in columns.items()}


def read_arrays(path: Path) -> dict[str, NDArray[Any]]:
    """The arrays of an .npz file, which hold numbers and truth values alone."""
    with opened(path, MOST_ARRAYS) as file:
        _check_end_of_zip(file)
        with zipfile.ZipFile(file) as archive:
            members = archive.infolist()
            declared = sum(member.file_size for member in members)
            if declared > MOST_ARRAYS:
                raise ValueError(f"its arrays take {declared:,} bytes; {MOST_ARRAYS:,} are the most that are read")
            if len({member.filename for member in members}) < len(members):
                raise ValueError("an array is in it twice")
            return {member.filename.removesuffix(".npy"): _array(archive, member) for member in members}


def _check_end_of_zip(file: IO[bytes]) -> None:
    """Before zipfile makes an object of each member: how many there are. NumPy writes no comment, and no archive
    whose directory is of the 64-bit kind."""
    size = os.fstat(file.fileno()).st_size
    file.seek(max(0, size - ZIP_END.size - 20))
    end = file.read(ZIP_END.size + 20)
    if len(end) < ZIP_END.size or not end[-ZIP_END.size :].startswith(b"PK\x05\x06"):
        raise ValueError("it is no archive of arrays, or its end is missing")
    *_, members, directory, _, comment = ZIP_END.unpack(end[-ZIP_END.size :])
    is_large = end[: -ZIP_END.size].startswith(b"PK\x06\x07")
    if is_large or comment or members > MOST_MEMBERS or directory > MOST_DIRECTORY:
        raise ValueError(f"it is no archive of at most {MOST_MEMBERS} arrays as NumPy writes it")


def _array(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> NDArray[Any]:
    name = member.filename
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ValueError(f"{name}: is packed in a way that NumPy does not use")
    with archive.open(member) as stream:
        if np.lib.format.read_magic(stream) != (1, 0):
            raise ValueError(f"{name}: is not of version 1.0 of NumPy's format")
        shape, by_columns, dtype = np.lib.format.read_array_header_1_0(stream)
        if dtype.kind not in "biuf" or dtype.itemsize > 8:
            raise ValueError(f"{name}: holds {dtype}; only numbers and truth values are read")
        count, room = math.prod(shape), member.file_size - stream.tell()
        if len(shape) > 8 or min(shape, default=0) < 0 or count * dtype.itemsize != room:
            raise ValueError(f"{name}: declares {shape} of {dtype}, which does not fit its {room:,} bytes")
        values = np.empty(count, dtype)
        data, got = values.view(np.uint8), 0
        while got < room:
            part = stream.read(min(PORTION, room - got))
            if not part:
                raise ValueError(f"{name}: ends after {got:,} of {room:,} bytes")
            data[got : got + len(part)] = np.frombuffer(part, np.uint8)
            got += len(part)
        stream.read(1)  # the end, where the checksum is compared
    if dtype.kind == "b":
        values = values.view(np.uint8) != 0  # other bytes than 0 and 1 would be neither true nor false
    return values.reshape(shape, order="F" if by_columns else "C")


def read_tensors(path: Path) -> dict[str, Any]:
    """The tensors of a .safetensors file, by name, on the CPU; a format that holds no code."""
    with opened(path, MOST_WEIGHTS) as file:
        size = os.fstat(file.fileno()).st_size
        declared = int.from_bytes(file.read(8), "little")
        if size < 8 or declared > min(size - 8, MOST_WEIGHTS_HEADER):
            raise ValueError(f"its header declares {declared:,} bytes; the file has {size:,}")
        from safetensors.torch import load_file

        tensors: dict[str, Any] = load_file(str(path))
        return tensors


@dataclass(frozen=True)
class Many:
    """A list of values of a kind."""

    kind: Kind


@dataclass(frozen=True)
class Maybe:
    """A value of a kind, or null."""

    kind: Kind


@dataclass(frozen=True)
class Text:
    """Words of any length, as far as a file may have them."""


Kind = type | tuple[type, ...] | frozenset[str] | Mapping[str, Any] | Many | Maybe | Text


def check(values: Mapping[str, Any], kinds: Mapping[str, Kind], path: Path, whole: bool = False) -> None:
    """Those of the ``values`` that are there are of the kinds that their readers rely on: a type, several, one of
    some words, a mapping of such kinds by key (``"*"``: any other key), or ``Many``, ``Maybe`` or ``Text``.

    Args:
        whole: every key that has a kind must be there, in every mapping.

    Raises:
        DataError: some are not: a line each.
    """
    found = islice(_mistaken(values, kinds, "", whole), MOST_PROBLEMS)
    problems = [f"{path}: {problem}" for problem in found]
    if problems:
        raise DataError(*problems)


def _mistaken(values: Mapping[str, Any], kinds: Mapping[str, Kind], before: str, whole: bool) -> Iterator[str]:
    for key in kinds if whole else ():
        if key not in values and key != "*":
            yield f"has no {before}{key}; was it written by another version of seqrnn?"
    for key, value in values.items():
        kind, name = kinds.get(key, kinds.get("*")), before + key
        if kind is None:
            continue
        if len(key) > LONGEST_NAME:
            yield f"{_said(name)}: a name of {len(key):,} characters; {LONGEST_NAME} are the most"
        else:
            yield from _wrong(value, kind, name, whole)


def _wrong(value: Any, kind: Kind, name: str, whole: bool) -> Iterator[str]:
    if isinstance(kind, Maybe):
        if value is not None:
            yield from _wrong(value, kind.kind, name, whole)
    elif isinstance(kind, Many):
        if isinstance(value, list):
            for number, part in enumerate(value):
                yield from _wrong(part, kind.kind, f"{name}[{number}]", whole)
        else:
            yield f"{name} should be a list, not {_said(value)}"
    elif isinstance(kind, Mapping):
        if isinstance(value, Mapping):
            yield from _mistaken(value, kind, f"{name}.", whole)
        else:
            yield f"{name} should be a mapping, not {_said(value)}"
    elif isinstance(kind, frozenset):
        if not isinstance(value, str) or value not in kind:
            yield f"{name} should be {' or '.join(sorted(kind))}, not {_said(value)}"
    elif isinstance(kind, Text):
        if not isinstance(value, str):
            yield f"{name} should be words, not {_said(value)}"
    elif not _is(value, kind):
        kind = kind if isinstance(kind, tuple) else (kind,)
        yield f"{name} should be {' or '.join(_NAMES[one] for one in kind)}, not {_said(value)}"


_NAMES = {
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    str: f"a name of at most {LONGEST_NAME} characters",
    list: "a list",
    type(None): "null",
}


def _is(value: Any, kind: type | tuple[type, ...]) -> bool:
    kinds = kind if isinstance(kind, tuple) else (kind,)
    if isinstance(value, bool):
        return bool in kinds
    if isinstance(value, str):
        return str in kinds and len(value) <= LONGEST_NAME
    return (float in kinds and isinstance(value, int)) or isinstance(value, kinds)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _said(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _parsed(data: bytes) -> Any:
    return json.loads(data.decode(), parse_int=_integer)


def _integer(digits: str) -> int | float:
    """An integer; too large to count anything, as a floating-point number, which takes no time to say."""
    return int(digits) if len(digits) <= 19 else float(digits)


def _mapping(values: Any, path: Path) -> dict[str, Any]:
    """
    Raises:
        DataError: they are no mapping, or of other kinds than plain values.
    """
    if not isinstance(values, dict):
        raise DataError(f"{path}: should hold a mapping, not {type(values).__name__}")
    waiting: list[tuple[Any, int]] = [(values, 1)]
    while waiting:
        value, depth = waiting.pop()
        if isinstance(value, dict | list):
            if depth > DEEPEST:
                raise DataError(f"{path}: more than {DEEPEST} mappings and lists within one another")
            waiting += [(part, depth + 1) for part in (value.values() if isinstance(value, dict) else value)]
            waiting += [(key, depth + 1) for key in value] if isinstance(value, dict) else []
        elif not isinstance(value, str | int | float | None):
            raise DataError(f"{path}: holds {type(value).__name__}; only plain values are read")
        elif isinstance(value, int) and abs(value) > LARGEST_INTEGER:
            raise DataError(f"{path}: holds an integer of {value.bit_length():,} bits")
    return {str(key): value for key, value in values.items()}
