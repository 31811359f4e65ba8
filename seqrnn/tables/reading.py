"""Reads files in blocks into columns of numbers, categories and times; every cell that is wrong is named by its row.

A row is numbered as an editor shows the line: the header is row 1. A Parquet file has no header: its first row is
row 1. Columns that nobody asks for are not kept.
"""

from __future__ import annotations

import codecs
import re
import zlib
from array import array
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import AfterValidator, BaseModel

from seqrnn.errors import DataError, did_you_mean, printable, shell_quoted
from seqrnn.tables.files import Source
from seqrnn.tables.numbers import fitting_notations, in_plain_notation, is_number_somehow, number_of
from seqrnn.tables.times import TimeFormat, parse_times

ColumnKind = Literal["number", "category", "time"]
BLOCK = 4 * 2**20  # bytes that are parsed at a time
SAMPLED = 2_000  # rows from which the kinds of columns are guessed
MOST_COLUMNS = 10_000
MOST_LABELS = 1_000_000  # different texts of a column
LARGEST = 1e100  # number; the squares of larger ones need not be finite
MOST_SHOWN = 60  # letters of a cell in an error
# What stands for a missing value, as in pandas.
MISSING = (
    "", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN", "<NA>", "N/A", "NA",
    "NULL", "NaN", "None", "n/a", "nan", "null",
)  # fmt: skip
RAGGED = re.compile(r"(?s)CSV parse error: (?:Row #(\d+): )?Expected (\d+) columns, got (\d+): (.*)")  # of pyarrow
FIRST_ROOM = 2**20  # rows
BYTES_PER_NUMBER = 24  # at the peak of reading and preparing: three times a number in double precision


def _check_encoding(name: str) -> str:
    try:
        decoded: object = codecs.getincrementaldecoder(name)().decode(array("B", b"ab"))  # type: ignore[arg-type]
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


@dataclass(frozen=True)
class Sample:
    """The first rows of a file.

    Args:
        texts: by column, the cells as texts; None where one is missing.
        declared: by column, the kind that the file itself declares (Parquet).
        row_bytes: of the file, on average.
    """

    source: Source
    texts: dict[str, list[str | None]]
    declared: dict[str, ColumnKind]
    row_bytes: float

    @property
    def names(self) -> list[str]:
        return list(self.texts)

    @property
    def rows(self) -> int:
        return len(next(iter(self.texts.values()), ()))


@dataclass
class Table:
    """The columns of a file that somebody asked for.

    Args:
        rows: how many.
        first_row: the number of the first one in the file.
        numbers: (rows,) by column; NaN where one is missing.
        codes: (rows,) by column, indices of ``labels``; −1 where one is missing.
        labels: by column, in the order in which they appear.
        times: (rows,) nanoseconds since 1970 (UTC), of a column that was read as a time; −2⁶³ where one is missing.
    """

    source: Source
    rows: int
    first_row: int
    numbers: dict[str, NDArray[np.float64]] = field(default_factory=dict)
    codes: dict[str, NDArray[np.int32]] = field(default_factory=dict)
    labels: dict[str, list[str]] = field(default_factory=dict)
    times: dict[str, NDArray[np.int64]] = field(default_factory=dict)

    def row(self, index: int) -> int:
        """Returns the number of a row in the file."""
        return self.first_row + index


def cell_error(source: Source, row: int, column: str, value: str | None, problem: str) -> DataError:
    """Returns the error of a cell: where it is, what it holds, and what is wrong."""
    shown = "" if value is None else f" {_short(value)!r}"
    return DataError(f"{source.name}, row {row}, column {_short(column)}:{shown} {problem}")


def _short(text: str) -> str:
    text = printable(text)
    return text if len(text) <= MOST_SHOWN else f"{text[:MOST_SHOWN]}…"


def read_sample(source: Source, options: ReadOptions) -> Sample:
    """Reads the names of the columns and the first rows of a file.

    Raises:
        DataError: it is empty, has no row below its header, or two columns of one name.
    """
    names = _names(source, options)
    _check_names(source, names, options)
    declared = _declared(source) if source.is_parquet else {}
    for first, columns in _blocks(source, names, options, SAMPLED):
        texts = {name: _texts(columns[name], source, name, first, options).to_pylist() for name in names}
        texts = {name: cells[:SAMPLED] for name, cells in texts.items()}
        size = sum(len(cell or "") + 1 for cells in texts.values() for cell in cells)
        rows = len(texts[names[0]])
        if rows:
            return Sample(source, texts, declared, size / rows)
    raise DataError(
        f"{source.name}: has a header and no row below it; rows are timesteps, and at least two are needed"
    )


def _check_names(source: Source, names: Sequence[str], options: ReadOptions) -> None:
    if len(names) > MOST_COLUMNS:
        raise DataError(f"{source.name}, row 1: {len(names):,} columns; at most {MOST_COLUMNS:,} are read")
    twice = sorted(name for name, count in Counter(names).items() if count > 1)
    if twice:
        raise DataError(
            f"{source.name}, row 1: two columns have the name {_short(twice[0])!r}; give each column a name of "
            "its own"
        )
    if not source.is_parquet and all(number_of(name) is not None for name in names):
        raise DataError(
            f"{source.name}, row 1: {', '.join(map(_short, names[:5]))}: numbers, where the names of the columns "
            "should be; put a row of names before them"
        )
    if len(names) == 1:
        mark = _other_delimiter(names[0], options)
        if mark is not None:
            raise DataError(
                f"{source.name}, row 1: one column, {_short(names[0])!r}; the header contains {mark!r}: set "
                f"{typed('task.delimiter', mark)}"
            )


def _other_delimiter(header: str, options: ReadOptions) -> str | None:
    """Returns what seems to separate the cells of a header that is read as one cell."""
    return next((mark for mark in ";\t|," if mark in header and mark != options.delimiter), None)


def typed(key: str, value: str) -> str:
    """Returns a setting of a sign as it is typed in a shell, such as ``"task.delimiter=';'"``."""
    quote = '"' if "'" in value else "'"
    return shell_quoted(f"{key}={quote}{value}{quote}".replace("\t", "\\t"))


def _names(source: Source, options: ReadOptions) -> list[str]:
    if source.is_parquet:
        return [str(name) for name in _parquet(source).schema_arrow.names]
    with source.opened() as file:
        start = file.read(2**16)
    if not start.strip():
        raise DataError(f"{source.name}: is empty; its first row should name the columns")
    if start[:2] in (b"\xff\xfe", b"\xfe\xff") and options.encoding.lower().replace("-", "") in ("utf8", ""):
        raise DataError(f"{source.name}: is encoded in UTF-16; set task.encoding=utf-16")
    if b"\0" in start and "16" not in options.encoding and "32" not in options.encoding:
        raise DataError(f"{source.name}: holds bytes of value 0, so it is no text file; is it a CSV file at all?")
    import pyarrow.csv

    with source.opened() as file, _Parsing(source, options) as parsing:
        reader = pyarrow.csv.open_csv(
            file, read_options=_read_options(options, 2**20), parse_options=parsing.parse_options()
        )
        return [str(name) for name in reader.schema.names]


def _declared(source: Source) -> dict[str, ColumnKind]:
    import pyarrow as pa

    kinds: dict[str, ColumnKind] = {}
    for each in _parquet(source).schema_arrow:
        if pa.types.is_temporal(each.type):
            kinds[each.name] = "time"
        elif pa.types.is_integer(each.type) or pa.types.is_floating(each.type) or pa.types.is_decimal(each.type):
            kinds[each.name] = "number"
        else:
            kinds[each.name] = "category"
    return kinds


def _parquet(source: Source) -> Any:
    import pyarrow as pa
    import pyarrow.parquet

    try:
        if source.member is not None:
            with source.opened() as file:
                return pyarrow.parquet.ParquetFile(pa.BufferReader(file.read()))
        return pyarrow.parquet.ParquetFile(str(source.path))
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{source.name}: cannot be read as a Parquet file: {_first_line(error)}") from None


def _first_line(error: BaseException) -> str:
    return printable(str(error).partition("\n")[0])


def _read_options(options: ReadOptions, block: int) -> Any:
    import pyarrow.csv

    encoding = "utf8" if options.encoding.lower() in ("utf-8", "utf8", "utf-8-sig") else options.encoding
    return pyarrow.csv.ReadOptions(use_threads=False, block_size=block, encoding=encoding)


class _Parsing:
    """Parses a CSV file: within its block, pyarrow's errors become a DataError that names the file and the row."""

    def __init__(self, source: Source, options: ReadOptions) -> None:
        self.source, self.options = source, options

    def parse_options(self) -> Any:
        import pyarrow.csv

        return pyarrow.csv.ParseOptions(delimiter=self.options.delimiter, ignore_empty_lines=False)

    def __enter__(self) -> _Parsing:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        import pyarrow as pa

        if isinstance(error, UnicodeError | LookupError):
            raise DataError(
                f"{self.source.name}: cannot be decoded: {_first_line(error)}; set task.encoding to the encoding of "
                "the file, such as latin-1 or cp1252"
            ) from None
        if isinstance(error, pa.ArrowException | EOFError | OSError | zlib.error):
            raise DataError(f"{self.source.name}{self._reason(error)}") from None

    def _reason(self, error: BaseException) -> str:
        """Returns where a file cannot be read, why, and what to do."""
        ragged = RAGGED.match(str(error))
        if ragged:
            number, expected, cells, text = ragged.groups()
            beginning = f"{f', row {number}' * bool(number)}: {cells} cells, where the header has {expected}"
            if expected == "1" and ";" in text:  # as written where commas are decimal marks
                return (
                    f"{beginning}: {_short(text)!r}; the cells seem to be separated by ';': set "
                    f"{typed('task.delimiter', ';')}, and perhaps {typed('task.decimal', ',')}"
                )
            return (
                f"{beginning}: {_short(text)!r}; give every row as many cells as there are columns (a text with a "
                "delimiter in it needs quotes)"
            )
        if "Empty CSV file or block" in str(error):
            return ", row 1: is empty, or has more than a million letters; it should name the columns"
        if "straddl" in str(error):
            return (
                ": a row has more than a million letters; end every row with a line break, and a text with a quote "
                "in it with another quote"
            )
        return f": cannot be read: {_first_line(error)}"


def _blocks(
    source: Source, names: Sequence[str], options: ReadOptions, rows: int = 2**18
) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yields the number of the first row and the columns, as arrow arrays, of one block after another."""
    import pyarrow as pa
    import pyarrow.csv

    if source.is_parquet:
        first = 1
        with _Parsing(source, options):
            for batch in _parquet(source).iter_batches(batch_size=rows, columns=list(names)):
                yield first, {name: batch.column(name) for name in names}
                first += batch.num_rows
        return
    convert = pyarrow.csv.ConvertOptions(
        column_types={name: pa.binary() for name in names}, include_columns=list(names), strings_can_be_null=False
    )
    first, block = 2, BLOCK if rows > SAMPLED else 2**20
    with source.opened() as file, _Parsing(source, options) as parsing:
        parse, read = parsing.parse_options(), _read_options(options, block)
        for batch in pyarrow.csv.open_csv(file, read_options=read, parse_options=parse, convert_options=convert):
            yield first, {name: batch.column(name) for name in names}
            first += batch.num_rows


def _texts(column: Any, source: Source, name: str, first: int, options: ReadOptions) -> Any:
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
        raise DataError(f"{source.name}, column {_short(name)}: cannot be read: {_first_line(error)}") from None
    texts = pc.utf8_trim_whitespace(texts)
    missing = pc.is_in(texts, value_set=pa.array([*MISSING, *options.missing_values]))
    return pc.if_else(missing, pa.scalar(None, pa.string()), texts)


def as_numbers(column: Any, source: Source, name: str, first: int, options: ReadOptions) -> NDArray[np.float64]:
    """Returns a column of arrow as numbers, NaN where one is missing.

    Raises:
        DataError: a cell is no number, infinite, or too large to compute with.
    """
    import pyarrow as pa

    kind = column.type
    if (
        pa.types.is_integer(kind)
        or pa.types.is_floating(kind)
        or pa.types.is_boolean(kind)
        or pa.types.is_decimal(kind)
    ):
        values = column.cast(pa.float64(), safe=False)
    else:
        texts = _texts(column, source, name, first, options)
        try:
            values = in_plain_notation(texts, options.decimal, options.thousands).cast(pa.float64())
        except pa.ArrowInvalid:
            raise _no_number(texts, source, name, first, options) from None
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
        return DataError(f"{source.name}, column {_short(name)}: holds a text that is no number")
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


def read_table(
    source: Source,
    wanted: Mapping[str, ColumnKind],
    options: ReadOptions,
    time_format: TimeFormat,
    available: int | None,
) -> Table:
    """Reads columns of a file.

    Args:
        wanted: the columns by name, and what each is read as.
        time_format: how the texts of columns that are times are read.
        available: bytes of memory that the numbers may take; None: as many as they need.

    Raises:
        DataError: a column is missing, a cell is wrong, or there are more numbers than memory for them.
    """
    types = {"number": np.float64, "category": np.int32, "time": np.int64}
    columns = {name: _Column(types[kind]) for name, kind in wanted.items()}
    labels: dict[str, dict[str, int]] = {name: {} for name, kind in wanted.items() if kind == "category"}
    rows, first_row = 0, 1 if source.is_parquet else 2
    names = list(wanted)
    for first, block in _blocks(source, names, options):
        rows += len(block[names[0]])
        check_memory(source, rows, len(wanted), available)
        for name, kind in wanted.items():
            if kind == "number":
                columns[name].append(as_numbers(block[name], source, name, first, options))
            elif kind == "category":
                texts = _texts(block[name], source, name, first, options)
                columns[name].append(_codes(texts, labels[name], source, name))
            else:
                columns[name].append(_as_times(block[name], source, name, first, options, time_format))
    table = Table(source, rows, first_row)
    for name, kind in wanted.items():
        if kind == "number":
            table.numbers[name] = columns[name].values
        elif kind == "category":
            table.codes[name], table.labels[name] = columns[name].values, list(labels[name])
        else:
            table.times[name] = columns[name].values
    return table


class _Column:
    """An array that grows. Room for rows that do not come yet takes no memory: it is not written to."""

    def __init__(self, dtype: type) -> None:
        self._array: NDArray[Any] = np.empty(FIRST_ROOM, dtype)
        self._count = 0

    def append(self, values: NDArray[Any]) -> None:
        """Adds values at the end."""
        count = self._count + len(values)
        if count > len(self._array):
            larger = np.empty(max(count, 4 * len(self._array)), self._array.dtype)
            larger[: self._count] = self.values
            self._array = larger
        self._array[self._count : count] = values
        self._count = count

    @property
    def values(self) -> NDArray[Any]:
        """What was added."""
        return self._array[: self._count]


def _as_times(
    column: Any, source: Source, name: str, first: int, options: ReadOptions, time_format: TimeFormat
) -> NDArray[np.int64]:
    import pyarrow as pa

    if pa.types.is_temporal(column.type):
        values = column.to_pandas()
        return parse_times(values, time_format, source.name, name, first)
    return parse_times(
        _texts(column, source, name, first, options).to_pandas(), time_format, source.name, name, first
    )


def _codes(texts: Any, labels: dict[str, int], source: Source, name: str) -> NDArray[np.int32]:
    encoded = texts.dictionary_encode()
    known = np.array([labels.setdefault(label, len(labels)) for label in encoded.dictionary.to_pylist()] + [-1])
    if len(labels) > MOST_LABELS:
        raise DataError(f"{source.name}, column {_short(name)}: more than {MOST_LABELS:,} different texts")
    indices = encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False)
    codes: NDArray[np.int32] = known[indices].astype(np.int32)
    return codes


def check_memory(source: Source, rows: float, columns: int, available: int | None) -> None:
    """Checks that a file's numbers fit into memory.

    Raises:
        DataError: they do not.
    """
    needed = rows * columns * BYTES_PER_NUMBER
    if available is not None and needed > available:
        raise DataError(
            f"{source.name}: about {rows:,.0f} rows × {columns} columns take {needed / 1e9:,.1f} GB at the peak, and "
            f"{available / 1e9:,.1f} GB of memory are available; name fewer columns with task.inputs, or cut the "
            "file into parts"
        )


def missing_column(source: Source, name: str, names: Sequence[str], key: str) -> DataError:
    """Returns the error of a column that a file does not have."""
    shown = ", ".join(_short(each) for each in names[:20])
    return DataError(
        f"{key}={_short(name)}: {source.name} has no such column{did_you_mean(name, names)} (there are: {shown})"
    )
