"""Reads files that may come from anyone, within bounds: how they are opened, and JSON.

Nothing that is read in these modules (bounded, bounded_yaml, bounded_rows, bounded_arrays) is run, imported,
unpickled or resolved, and what a file claims of its size is compared with bounds before memory is taken for it. Every
function raises DataError with the file's path, what was found, and what was expected.
"""

from __future__ import annotations

import json
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Annotated, Any, TypeVar

from pydantic import BaseModel, FailFast, Field, ValidationError

from seqrnn.errors import DataError

MOST_JSON_BYTES = 2**22
MOST_DEPTH = 32  # of mappings and lists within one another
MOST_NAME_CHARACTERS = 200  # of what is shown in titles and tables
MOST_PROBLEMS = 20  # that are reported of one file
MOST_ERRORS = 10_000  # that are distinguished; pydantic makes a dictionary of each
MOST_INTEGER = 2**64


# Types for the models of files. ``Items`` stops at the first wrong item: a file may hold a million of them.
T = TypeVar("T")
Name = Annotated[str, Field(max_length=MOST_NAME_CHARACTERS)]
Items = Annotated[list[T], FailFast()]
ByName = dict[Name, T]
Model = TypeVar("Model", bound=BaseModel)

EXPECTED = {  # by pydantic's name of the error; others have a message that needs no translation
    "int_type": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
    "string_type": "text",
    "string_unicode": "text of valid characters",
    "list_type": "a list",
    "tuple_type": "a list",
    "dict_type": "a mapping",
    "model_type": "a mapping",
    "model_attributes_type": "a mapping",
    "dataclass_type": "a mapping",
}


def resolve_inside(directory: Path, name: str) -> Path:
    """Returns the path of a file of a directory.

    Raises:
        DataError: it is a link that leads out of the directory. Such a link in a received directory would show files
            of whoever reads it.
    """
    path = directory / name
    if path.is_symlink() and not path.resolve().is_relative_to(directory.resolve()):
        raise DataError(
            f"{path}: is a link to {path.resolve()}, outside of the directory, and is not followed; if it should be "
            "read, put a copy of the file there"
        )
    return path


@contextmanager
def opened(path: Path, most_bytes: int | None = None) -> Iterator[IO[bytes]]:
    """Opens a regular file; every error within the block becomes a DataError.

    Args:
        most_bytes: that the file may have; None: any number, if it is read in bounded pieces.
    """
    try:
        found = path.stat()
        if not stat.S_ISREG(found.st_mode):
            raise ValueError("it is no regular file")  # opening a pipe would wait for whoever writes to it
        if most_bytes is not None and found.st_size > most_bytes:
            raise ValueError(f"it has {found.st_size:,} bytes; {most_bytes:,} are the most that are read")
        with path.open("rb") as file:
            yield file
    except DataError:
        raise
    except RecursionError:
        raise DataError(f"{path}: cannot be read: it is nested too deeply") from None
    except Exception as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error) or repr(error)
        raise DataError(f"{path}: cannot be read: {' '.join(reason.split())}") from None


def read_json(path: Path) -> dict[str, Any]:
    """Reads a JSON file that holds a mapping of plain values."""
    with opened(path, MOST_JSON_BYTES) as file:
        return checked_mapping(parse_json(file.read(MOST_JSON_BYTES)), path)


def read_model(path: Path, model: type[Model]) -> Model:
    """Reads a JSON file into a pydantic model.

    Types are strict: no text is taken for a number. Lists in the model should be ``Items``, mappings with arbitrary
    keys ``ByName``, and texts that are shown in titles and tables ``Name``. The message of a ValueError that a
    validator of the model raises is shown as it is.

    Raises:
        DataError: the file cannot be read, or a value is missing or is not what the model says; a line for each.
    """
    with opened(path, MOST_JSON_BYTES) as file:
        content = file.read(MOST_JSON_BYTES)
    try:
        return model.model_validate_json(content, strict=True)
    except ValidationError as error:
        raise _data_error(error, path) from None


def check(values: Mapping[str, Any], model: type[BaseModel], path: Path) -> None:
    """Checks plain values that were read from ``path`` against a pydantic model, with strict types.

    Raises:
        DataError: a value is missing or is not what the model says; a line for each.
    """
    try:
        model.model_validate(values, strict=True)
    except ValidationError as error:
        raise _data_error(error, path) from None


def _data_error(error: ValidationError, path: Path) -> DataError:
    if error.error_count() > MOST_ERRORS:
        return DataError(f"{path}: {error.error_count():,} of its values are missing or of the wrong type")
    problems = error.errors(include_url=False)[:MOST_PROBLEMS]
    return DataError(*(f"{path}: {_problem(one)}" for one in problems))


def _problem(found: Any) -> str:
    """Returns what is wrong: the key, what is expected, and the value."""
    location, kind, message, value = list(found["loc"]), found["type"], found["msg"], found["input"]
    is_key = bool(location) and location[-1] == "[key]"  # behind the key itself, which may be of any length
    name = f"a name in {_dotted(location[:-2])}" if is_key else _dotted(location)
    if kind == "missing":
        return f"has no {name}; was it written by another version of seqrnn?"
    if kind == "json_invalid":
        return f"cannot be read: {message}"
    if kind == "string_too_long":
        most = found["ctx"]["max_length"]
        return f"{name} should be text of at most {most} characters, not of {len(value):,}: {shown(value)}"
    if kind == "too_long":
        return f"{name} should be a list of at most {found['ctx']['max_length']} items, not {shown(value)}"
    if kind == "value_error":  # raised by a validator of the model
        return f"{name}: {message}".replace(": Value error, ", ": ").removeprefix(": ")
    expected = f"should {'be' if name else 'hold'} {EXPECTED.get(kind) or message.removeprefix('Input should be ')}"
    return f"{name} {expected}, not {shown(value)}".lstrip()


def _dotted(location: list[str | int]) -> str:
    """Returns a place in a tree of values, such as ``instruments.reach.curve[3]``."""
    parts = (f"[{part}]" if isinstance(part, int) else f".{part[:MOST_NAME_CHARACTERS]}" for part in location)
    return "".join(parts).removeprefix(".")


def shown(value: Any) -> str:
    """Returns a value as an error message shows it: its beginning, if it is long."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def parse_json(data: bytes) -> Any:
    """Parses JSON; an integer with more digits than any count has becomes a floating-point number."""
    return json.loads(data.decode(), parse_int=lambda digits: int(digits) if len(digits) <= 19 else float(digits))


def checked_mapping(values: Any, path: Path) -> dict[str, Any]:
    """Returns ``values`` if they are a mapping of plain values that is not nested too deeply.

    Raises:
        DataError: they are not.
    """
    if not isinstance(values, dict):
        raise DataError(f"{path}: should hold a mapping, not {type(values).__name__}")
    waiting: list[tuple[Any, int]] = [(values, 1)]
    while waiting:
        value, depth = waiting.pop()
        if isinstance(value, dict | list):
            if depth > MOST_DEPTH:
                raise DataError(f"{path}: more than {MOST_DEPTH} mappings and lists within one another")
            waiting += [(part, depth + 1) for part in (value.values() if isinstance(value, dict) else value)]
            waiting += [(key, depth + 1) for key in value] if isinstance(value, dict) else []
        elif not isinstance(value, str | int | float | None):
            raise DataError(f"{path}: holds {type(value).__name__}; only plain values are read")
        elif isinstance(value, int) and abs(value) > MOST_INTEGER:
            raise DataError(f"{path}: holds an integer of {value.bit_length():,} bits")
    return {str(key): value for key, value in values.items()}
