"""Files, CSV or Parquet, as columns of arrow in one block of rows after another."""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator, Sequence
from typing import Any, Literal

from seqrnn.errors import DataError
from seqrnn.tables.cells import ReadOptions, first_line, short, typed
from seqrnn.tables.files import Source

ColumnKind = Literal["number", "category", "time"]
BLOCK_BYTES, BLOCK_ROWS = 4 * 2**20, 2**18  # that are parsed at a time, of CSV and of Parquet
SAMPLE_BYTES, SAMPLE_ROWS = 2**20, 2_000  # the same, where only the first rows are read
RAGGED = re.compile(r"(?s)CSV parse error: (?:Row #(\d+): )?Expected (\d+) columns, got (\d+): (.*)")  # of pyarrow


def column_names(source: Source, options: ReadOptions) -> list[str]:
    """Returns the names of a file's columns, in order.

    Raises:
        DataError: the file is empty or no text, or its first row cannot be read.
    """
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
            file, read_options=_read_options(options, SAMPLE_BYTES), parse_options=parsing.parse_options()
        )
        return [str(name) for name in reader.schema.names]


def declared_kinds(source: Source) -> dict[str, ColumnKind]:
    """Returns the kinds of columns that a Parquet file declares."""
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
        raise DataError(f"{source.name}: cannot be read as a Parquet file: {first_line(error)}") from None


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

        return pyarrow.csv.ParseOptions(
            delimiter=self.options.delimiter, ignore_empty_lines=False, newlines_in_values=True
        )

    def __enter__(self) -> _Parsing:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        import pyarrow as pa

        if isinstance(error, UnicodeError | LookupError):
            raise DataError(
                f"{self.source.name}: cannot be decoded: {first_line(error)}; set task.encoding to the encoding of "
                "the file, such as latin-1 or cp1252"
            ) from None
        if isinstance(error, pa.ArrowException | EOFError | OSError | zlib.error):
            raise DataError(f"{self.source.name}{_reason(error)}") from None


def _reason(error: BaseException) -> str:
    """Returns where a file cannot be read, why, and what to do."""
    ragged = RAGGED.match(str(error))
    if ragged:
        number, expected, cells, text = ragged.groups()
        beginning = f"{f', row {number}' * bool(number)}: {cells} cells, where the header has {expected}"
        if expected == "1" and ";" in text:  # as written where commas are decimal marks
            return (
                f"{beginning}: {short(text)!r}; the cells seem to be separated by ';': set "
                f"{typed('task.delimiter', ';')}, and perhaps {typed('task.decimal', ',')}"
            )
        return (
            f"{beginning}: {short(text)!r}; give every row as many cells as there are columns (a text with a "
            "delimiter in it needs quotes)"
        )
    if "Empty CSV file or block" in str(error):
        return ", row 1: is empty, or has more than a million letters; it should name the columns"
    if "straddl" in str(error):
        return (
            ": a row has more than a million letters; end every row with a line break, and a text with a quote in it "
            "with another quote"
        )
    return f": cannot be read: {first_line(error)}"


def read_blocks(
    source: Source, names: Sequence[str], options: ReadOptions, *, sample: bool = False
) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yields the number of the first row and the columns, as arrow arrays, of one block after another.

    Args:
        sample: whether only the first rows are wanted, so that blocks are small.

    Raises:
        DataError: the file cannot be decoded or read, or a row has not as many cells as the header.
    """
    import pyarrow as pa
    import pyarrow.csv

    first = source.first_row
    if source.is_parquet:
        with _Parsing(source, options):
            for batch in _parquet(source).iter_batches(
                batch_size=SAMPLE_ROWS if sample else BLOCK_ROWS, columns=list(names)
            ):
                yield first, {name: batch.column(name) for name in names}
                first += batch.num_rows
        return
    convert = pyarrow.csv.ConvertOptions(
        column_types={name: pa.binary() for name in names}, include_columns=list(names), strings_can_be_null=False
    )
    with source.opened() as file, _Parsing(source, options) as parsing:
        parse, read = parsing.parse_options(), _read_options(options, SAMPLE_BYTES if sample else BLOCK_BYTES)
        for batch in pyarrow.csv.open_csv(file, read_options=read, parse_options=parse, convert_options=convert):
            yield first, {name: batch.column(name) for name in names}
            first += batch.num_rows
