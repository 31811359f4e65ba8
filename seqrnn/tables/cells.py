"""Cells of a column as texts, numbers, categories and times; every one that is wrong is named by its row.

A row is numbered as an editor shows the line: the header is row 1. A Parquet file has no header: its first row is
row 1.
"""

from __future__ import annotations

import codecs
from array import array
from collections.abc import Iterator
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import AfterValidator, BaseModel

from seqrnn.errors import DataError, printable, shell_quoted
from seqrnn.tables.files import Source
from seqrnn.tables.numbers import fitting_notations, in_plain_notation, is_number_somehow, number_of
from seqrnn.tables.times import TimeFormat, parse_times

LARGEST = 1e100  # number; the squares of larger ones need not be finite
MOST_LABELS = 1_000_000  # different texts of a column
MOST_SHOWN = 60  # letters of a cell in an error
# What stands for a missing value, as in pandas.
MISSING = (
    "", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN", "<NA>", "N/A", "NA",
    "NULL", "NaN", "None", "n/a", "nan", "null",
)  # fmt: skip


def _check_encoding(name: str) -> str:
    try:
        decoded: object = codecs.getincrementaldecoder(name)().decode(array("B", b"ab"))
    except UnicodeError:  # "ab" does not begin as its texts do
        return name
    except Exception:  # there is none, or it cannot decode what pyarrow gives it: hex, punycode
        decoded = None
    if not isinstance(decoded, str):
        raise ValueError("should be an encoding of text, such as utf-8, latin-1, cp1252 or utf-16")
    return name


def _check_delimiter(mark: str) -> str:
    mark = "\t" if mark == r"\t" else mark
    if len(mark) != 1 or not mark.isascii() or mark in '\0\r\n"':
        raise ValueError(r"should be one ASCII sign, such as ',' ';' '|', or \t for a tab")
    return mark


Encoding = Annotated[str, AfterValidator(_check_encoding)]
Delimiter = Annotated[str, AfterValidator(_check_delimiter)]


class ReadOptions(BaseModel, frozen=True, extra="forbid"):
    """How the texts of a file are read.

    Args:
        delimiter: what separates the cells of a row.
        decimal: the decimal mark.
        thousands: what separates thousands; None: nothing does.
        encoding: of the text.
        missing_values: what stands for a missing value, besides ``MISSING``.
    """

    delimiter: Delimiter = ","
    decimal: Literal[".", ","] = "."
    thousands: Literal[".", ",", " ", "'"] | None = None
    encoding: Encoding = "utf-8"
    missing_values: tuple[str, ...] = ()

    def number_of(self, text: str) -> float | None:
        """Returns the number that a text is; None: it is none."""
        return number_of(text, self.decimal, self.thousands)


def cell_error(source: Source, row: int, column: str, value: str | None, problem: str) -> DataError:
    """Returns the error of a cell: where it is, what it holds, and what is wrong."""
    shown = "" if value is None else f" {short(value)!r}"
    return DataError(f"{source.name}, row {row}, column {short(column)}:{shown} {problem}")


def short(text: str) -> str:
    """Returns a text for an error: printable, and without its end where it is long."""
    text = printable(text)
    return text if len(text) <= MOST_SHOWN else f"{text[:MOST_SHOWN]}…"


def typed(key: str, value: str) -> str:
    """Returns a setting of a sign as it is typed in a shell, such as ``"task.delimiter=';'"``."""
    quote = '"' if "'" in value else "'"
    return shell_quoted(f"{key}={quote}{value}{quote}".replace("\t", "\\t"))


def first_line(error: BaseException) -> str:
    """Returns the first line of an error's message, printable."""
    return printable(str(error).partition("\n")[0])


def as_texts(column: Any, source: Source, name: str, first: int, options: ReadOptions) -> Any:
    """Returns a column as arrow texts without surrounding blanks, null where a value is missing.

    Raises:
        DataError: a cell is not encoded as it should be.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    try:
        texts = column.cast(pa.string())
    except pa.ArrowInvalid:
        for number, cell in enumerate(column.to_pylist()):
            try:
                (cell or b"").decode("utf-8")
            except UnicodeDecodeError:
                raise cell_error(
                    source, first + number, name, cell.decode("latin-1"),
                    "is not encoded in UTF-8; set task.encoding to the encoding of the file, such as latin-1",
                ) from None  # fmt: skip
        raise
    except pa.ArrowException as error:
        raise DataError(f"{source.name}, column {short(name)}: cannot be read: {first_line(error)}") from None
    texts = pc.utf8_trim_whitespace(texts)
    missing = pc.is_in(texts, value_set=pa.array([*MISSING, *options.missing_values]))
    return pc.if_else(missing, pa.scalar(None, pa.string()), texts)


def as_numbers(column: Any, source: Source, name: str, first: int, options: ReadOptions) -> NDArray[np.float64]:
    """Returns a column of arrow as numbers, NaN where one is missing.

    Raises:
        DataError: a cell is no number, infinite, or too large to compute with.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    kind = column.type
    if (
        pa.types.is_integer(kind)
        or pa.types.is_floating(kind)
        or pa.types.is_boolean(kind)
        or pa.types.is_decimal(kind)
    ):
        values = column.cast(pa.float64(), safe=False)
    else:
        texts = as_texts(column, source, name, first, options)
        try:
            values = in_plain_notation(texts, options.decimal, options.thousands).cast(pa.float64())
        except pa.ArrowInvalid:
            raise _no_number(texts, source, name, first, options) from None
        if pc.any(pc.is_nan(values)).as_py():
            unlike = texts.filter(pc.and_(pc.is_valid(texts), pc.is_nan(values))).unique().to_pylist()
            if any(options.number_of(text) is None for text in unlike):  # arrow takes nan(1) for NaN
                raise _no_number(texts, source, name, first, options)
    numbers = np.array(values.to_numpy(zero_copy_only=False), np.float64)
    beyond = np.flatnonzero(np.abs(numbers) > LARGEST)
    if len(beyond):
        value = str(numbers[beyond[0]])
        problem = "is not finite" if np.isinf(numbers[beyond[0]]) else f"is beyond {LARGEST:g}"
        raise cell_error(
            source, first + int(beyond[0]), name, value,
            f"{problem}{_and_more(len(beyond))}; leave the cell empty where there is no value",
        )  # fmt: skip
    return numbers


def _and_more(count: int) -> str:
    return f" (and {count - 1:,} more cells nearby)" if count > 1 else ""


def _no_number(texts: Any, source: Source, name: str, first: int, options: ReadOptions) -> DataError:
    cells = [(number, cell) for number, cell in enumerate(texts.to_pylist()) if cell is not None]
    wrong = [number for number, cell in cells if options.number_of(cell) is None]
    if not wrong:  # such as 0x10, which only Python refuses, or only arrow
        return DataError(f"{source.name}, column {short(name)}: holds a text that is no number")
    numbers = [cell for _, cell in cells if is_number_somehow(cell)]
    fitting = fitting_notations(numbers, options.decimal, options.thousands) if len(numbers) else []
    remedies = [" and ".join(_notation(options, *notation)) for notation in fitting]
    index, value = next((number, cell) for number, cell in cells if number == wrong[0])
    if not is_number_somehow(value) or not any(remedies):
        remedies = [
            "correct the cell, leave it empty where there is no value, or add what stands for a missing value to "
            "task.missing_values"
        ]
    return cell_error(
        source, first + index, name, value,
        f"is not a number{_and_more(len(wrong))}; {' or '.join(filter(None, remedies))}",
    )  # fmt: skip


def _notation(options: ReadOptions, decimal: str, thousands: str | None) -> Iterator[str]:
    """Yields the settings that choose a notation, as they are typed."""
    if decimal != options.decimal:
        yield f"set {typed('task.decimal', decimal)}"
    if thousands != options.thousands:
        yield "set task.thousands=null" if thousands is None else f"set {typed('task.thousands', thousands)}"


def as_times(
    column: Any, source: Source, name: str, first: int, options: ReadOptions, time_format: TimeFormat
) -> NDArray[np.int64]:
    """Returns a column of arrow as nanoseconds since 1970 (UTC), −2⁶³ where one is missing.

    Raises:
        DataError: a cell is no time of this format.
    """
    import pyarrow as pa

    is_text = not pa.types.is_temporal(column.type)
    times = as_texts(column, source, name, first, options) if is_text else column
    return parse_times(times.to_pandas(), time_format, source.name, name, first)


def as_codes(texts: Any, labels: dict[str, int], source: Source, name: str) -> NDArray[np.int32]:
    """Returns texts of arrow as numbers of labels, −1 where one is missing.

    Args:
        labels: the number of each label so far; those of new texts are added.

    Raises:
        DataError: there are more than ``MOST_LABELS`` of them.
    """
    encoded = texts.dictionary_encode()
    known = np.array([labels.setdefault(label, len(labels)) for label in encoded.dictionary.to_pylist()] + [-1])
    if len(labels) > MOST_LABELS:
        raise DataError(f"{source.name}, column {short(name)}: more than {MOST_LABELS:,} different texts")
    indices = encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False)
    codes: NDArray[np.int32] = known[indices].astype(np.int32)
    return codes
