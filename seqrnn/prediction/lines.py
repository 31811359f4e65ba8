"""Turns lines of JSON or CSV into rows: values by the name of their column."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator, Sequence
from typing import IO, Any

from seqrnn.errors import DataError

MOST_LINE_BYTES = 2**20


def read_lines(stream: IO[bytes]) -> Iterator[tuple[int, bytes | None]]:
    """Yields the lines of a stream with their numbers, from 1, each as soon as it is there; None in place of a line
    of more than ``MOST_LINE_BYTES``, which is skipped."""
    number = 0
    while line := stream.readline(MOST_LINE_BYTES):
        number += 1
        if len(line) < MOST_LINE_BYTES or line.endswith(b"\n"):
            yield number, line
            continue
        while line and not line.endswith(b"\n"):
            line = stream.readline(MOST_LINE_BYTES)
        yield number, None


class LineParser:
    """Turns lines into rows.

    A line that begins with ``{`` or ``[`` is JSON: values by column, or a list of the inputs. The first other line is
    the header of lines of CSV. An empty cell of CSV is None, as null is in JSON; other cells are texts.

    Args:
        check_columns: raises DataError for names that are no columns.
        list_columns: the columns of a JSON list.
        delimiter: what separates the cells of a line of CSV.
    """

    def __init__(
        self, check_columns: Callable[[Sequence[str]], None], list_columns: Sequence[str], delimiter: str = ","
    ) -> None:
        self._check_columns, self._list_columns = check_columns, list(list_columns)
        self._delimiter = delimiter
        self._blank = " \t\r\n\v\f".replace(delimiter, "")  # a delimiter at an end belongs to an empty cell
        self._header: list[str] | None = None

    def parse(self, line: bytes | None) -> dict[str, Any] | None:
        """Returns the values of a line by column; None: the line is a header, or empty.

        Raises:
            DataError: it is neither, nor a row.
        """
        if line is None:
            raise DataError(f"the line has more than {MOST_LINE_BYTES:,} bytes")
        try:
            text = line.decode("utf-8-sig").strip(self._blank)
        except UnicodeDecodeError as error:
            raise DataError(f"byte {error.start} is not UTF-8") from None
        if not text:
            return None
        return self._json(text) if text[0] in "{[" else self._csv(text)

    def _json(self, text: str) -> dict[str, Any]:
        try:
            values = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise DataError(f"no JSON: {error}") from None
        if isinstance(values, list):
            if len(values) != len(self._list_columns):
                raise DataError(
                    f"a list of {len(values)} values; should be {len(self._list_columns)}: "
                    f"{_listed(self._list_columns)}"
                )
            return dict(zip(self._list_columns, values, strict=True))
        self._check_columns(list(values))
        row: dict[str, Any] = values
        return row

    def _csv(self, text: str) -> dict[str, Any] | None:
        try:
            cells = next(csv.reader([text], delimiter=self._delimiter, strict=True))
        except csv.Error as error:
            raise DataError(f"no CSV: {error}") from None
        if self._header is None:
            names = [cell.strip() for cell in cells]
            if len(set(names)) < len(names):
                raise DataError("a header that names a column twice")
            self._check_header(names)
            self._header = names
            return None
        if len(cells) != len(self._header):
            raise DataError(f"{len(cells)} cells; should be {len(self._header)}: {_listed(self._header)}")
        return {name: cell.strip() or None for name, cell in zip(self._header, cells, strict=True)}

    def _check_header(self, names: Sequence[str]) -> None:
        try:
            self._check_columns(names)
        except DataError as error:
            if len(names) > 1:
                raise
            raise DataError(
                *error.problems, f"the cells of a line should be separated by {self._delimiter!r}, as in training"
            ) from None


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names) if len(names) <= 8 else f"{', '.join(names[:3])}, …, {names[-1]}"
