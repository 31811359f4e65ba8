"""Tables as nobody should send them: any bytes in any packing, with any settings."""

from __future__ import annotations

import datetime
import gzip
import io
import random
import zipfile
import zoneinfo
from pathlib import Path
from typing import Any

import numpy as np

NUMBERS = (
    "0", "-0.0", "1e308", "-1e308", "1e-320", "1e400", "-inf", "NaN", "1,5", "1.234,56", "1'077.5", "12 %", "$5",
    "0x1F", "0x10", "1_000", "inf", "Infinity", "nan(1)", "1e-400", "0.1e+308", "1.", ".5",
    "1,234", "1.234", "007", "+7", "5-", "(5)", ".", "-", "1e", "1e5e5", "−5", "１２", "١٢", "9" * 400,
    "18446744073709551616", "9007199254740993", "True", "=1+1", "1\u00a0000", "1/2", "--5", "0-1", "1 2",
)  # fmt: skip
TIMES = (
    "", "NaT", "0", "1e18", "1577836800", "1577836800000", "2020-01-01", "20200101", "2020-1-1", "1.1.2020", "1/2/20",
    "2020-02-30", "2020-01-01T24:00", "2016-12-31T23:59:60", "2020-W01-1", "2020-001", "1677-09-21", "2262-04-12",
    "0001-01-01", "9999-12-31", "10000-01-01", "-0044-03-15", "2020-01-01T00:00:00Z", "2020-01-01T00:00+14:00",
    "2020-01-01T00:00:00+99:99", "2020-01-01 00:00:00 Europe/Berlin", "2020-10-25 02:30", "2020-03-29 02:30",
    "2020-01-01T00:00:00.123456789123", "Jan 1 2020", "1. Januar 2020", "12:30", "12:30 PM", "now", "today",
    "31.12.2020", "12/31/2020", "31/12/2020", "2020-12-31T12", "2020-01-01T00:00:00-05:00", "2020-01-01 UTC",
    "Q1 2020", "2020-01-01T00:00:00\u2212\u003005:00", "43831.5", "2020-01-01\u202e", "%Y-%m-%d",
)  # fmt: skip
TEXTS = (
    "", " ", "a", "A", "b b", "NA", "null", "é", "日本", "🙂", "\u202egpj.exe", "\x1b[31mred", "\x07", "\x85",
    "\u2028", "\ufeff", "\x00", "<script>alert(1)</script>", "<img src=x onerror=alert(1)>", "`id`", "$(id)",
    "${oc.env:HOME}", "%s%n",
    "$\\frac{$", "\\input{/etc/passwd}", "|x|", "[x](javascript:0)", "'; DROP TABLE x", "../../etc/passwd",
    "=cmd|' /C'!A0", "@SUM(1)", "-1+1", '"', '""', "'", "a,b", '"a,b"', '"a\nb"', "a\rb", "a\tb", ";", "x" * 70_000,
)  # fmt: skip
NAMES = (
    "y", "Y", "x", "wind", "id", "label", "date", "time", "year", "month", "day", "hour", "row", "step", "origin",
    "index", "start", "value", "target", "sequence", "skipped", "error", "y_predicted", "auto", "null", "true", "1",
    "1.5", "nan", "", " ", "__proto__", "task.path", "${oc.env:HOME}", "a=b", "[a]", "{a: b}", "a.b", "a'b", 'a""b',
    "task.target", "model.hidden_size=3", "seed", "hydra.run.dir", "+x", "~y", "a,b", "a\nb",
    "y_lower_90", "y is missing", "sine of the day", "inputs",
    "<b>", "\x1b[2J", "\u202ey", "日本", "é", "e\u0301", "ﬁ", "n" * 3_000, "=y", "-y", "--out", "y\ty",
    "$y$",
)  # fmt: skip
ENCODINGS = (
    "utf-8", "utf-8", "utf-8", "utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "latin-1",
    "cp1252", "shift_jis", "gb18030", "utf-7", "cp037",
)  # fmt: skip
MARKS = (",", ",", ",", ",", ";", "\t", "|", " ", ":", "\x1f", "'", "é")
ENDS = ("\n", "\n", "\n", "\r\n", "\r", "\n\n", "\x0b", "\x85", "\u2028", "\n\r")
ATTACKS = (
    "few", "many columns", "header", "columns", "times", "clock", "groups", "empty", "notation", "notation", "cells",
    "ragged", "order", "ends", "quotes", "bytes", "beginning", "delimiter", "encoding", "packing", "file", "settings",
    "settings", "settings", "late", "late", "lines", "lines", "twins", "sizes", "gaps", "offsets", "spreadsheet",
    "spreadsheet", "constant",
)  # fmt: skip
FILES = ("a b", "é", "a'b", "a=b", "[a]", "a*", "$x$", "<a>", "\x1b[31ma", "{a}", "-a", "~")
SUFFIXES = (".csv.gz", ".csv.gz", ".zip", ".zip", ".tsv", ".txt", ".parquet", ".gz", ".CSV", "")


def _times(rng: random.Random, rows: int, is_hostile: bool) -> list[str]:
    """Returns times: regular, or mixed up, far apart, or no times at all."""
    if not is_hostile:
        return [str(np.datetime64("2020-01-01") + n) for n in range(rows)]
    first = np.datetime64(rng.choice(["2020-01-01", "1969-12-30", "2019-10-20", "1700-01-01", "2262-04-01"]), "s")
    each = rng.choice([1, 60, 900, 3600, 86400, 86400, 86400, 7 * 86400, 30 * 86400, 10**9])
    times = [first + np.timedelta64(each * n, "s") for n in range(rows)]
    match rng.randrange(9):
        case 0:
            rng.shuffle(times)
        case 1:
            times = times[::-1]
        case 2 if rows > 2:  # a gap that no memory could fill
            times[-1] = np.datetime64("2200-01-01", "s")
        case 3:
            times = [rng.choice(times) for _ in times]
        case 4:
            return [rng.choice(["", "1e5", str(n), f"{n / 7}", f"-{n}", str(10**n)[:300]]) for n in range(rows)]
        case _:
            pass
    form = rng.choice(
        ["%Y-%m-%d %H:%M:%S", "%Y-%m-%dT%H:%M:%SZ", "%d.%m.%Y", "%m/%d/%Y %I:%M %p", "%Y%m%d", "%d/%m/%y"]
    )
    try:
        return [time.item().strftime(form) for time in times]
    except (AttributeError, ValueError, OverflowError):
        return [str(time) for time in times]


def _clock(rng: random.Random, rows: int) -> list[str]:
    """Returns what a clock shows while summer time begins or ends, with offsets, without, or some of both."""
    zone = zoneinfo.ZoneInfo(
        rng.choice(["Europe/Berlin", "America/St_Johns", "Australia/Lord_Howe", "Asia/Kathmandu"])
    )
    first = datetime.datetime(rng.choice([2019, 2020, 2021]), rng.choice([3, 4, 10]), 20, tzinfo=datetime.UTC)
    each = datetime.timedelta(minutes=rng.choice([15, 30, 60, 60, 60, 24 * 60]))
    times = [(first + n * each).astimezone(zone) for n in range(rows)]
    form = rng.choice(["%Y-%m-%dT%H:%M:%S", "%d.%m.%Y %H:%M", "%m/%d/%Y %H:%M"])
    offsets = rng.choice([0.0, 0.0, 1.0, 1.0, 0.99])
    return [time.strftime(form + ("%z" if rng.random() < offsets else "")) for time in times]


def _column(rng: random.Random, rows: int, kind: int) -> list[str]:
    """Returns numbers of a wave, or what is none, by a number below 14."""
    wave = [f"{np.sin(n) * 10 ** rng.choice([0, 0, 0, 1]):.4g}" for n in range(rows)]
    shift = rng.choice([0, 1e-300, 1e300, 2**53])
    return {
        6: ["" for _ in range(rows)],
        7: ["3" for _ in range(rows)],
        8: ["abc"[n % 3] for n in range(rows)],
        9: [rng.choice(TEXTS[:12]) for _ in range(rows)],
        10: [rng.choice(NUMBERS) for _ in range(rows)],
        11: [f"{float(cell) + shift!r}" for cell in wave],
        12: [str(n) for n in range(rows)],
        13: [cell.replace(".", ",") for cell in wave],
    }.get(kind, wave)


LATE = (
    "x",
    "-",
    "1,5",
    "1e400",
    "",
    "31.12.2020",
    "2020-01-01T00:00Z",
    "12/31/2020 5:00 PM",
    "1.234,5",
    "9" * 70_000,
)
SPREADSHEET = (
    "#DIV/0!",
    "#REF!",
    "#N/A",
    "#WERT!",
    '="007"',
    "44197",
    "1,5 €",
    "1E+03",
    "1,00E-05",
    "WAHR",
    "TRUE",
    "'12",
)


def _changed_late(rng: random.Random, table: list[list[str]]) -> list[list[str]]:
    """Returns more than 2,000 rows, of which the later ones hold something that the first ones do not."""
    rows = [list(table[1 + n % (len(table) - 1)]) for n in range(2_000 + rng.choice([1, 50, 300]))]
    days = np.datetime64("1990-01-01") + np.arange(len(rows))
    for row, day in zip(rows, days, strict=True):
        row[0] = str(day)
    place, value = rng.randrange(len(table[0])), rng.choice([*LATE, *NUMBERS, *TIMES, *TEXTS[:12]])
    for row in rows[2_000 + rng.choice([0, -1, 30]) :: rng.choice([1, 7, 10**4])]:
        row[place] = value
    return [table[0], *rows]


def _with_lines(rng: random.Random, table: list[list[str]], mark: str) -> list[list[str]]:
    """Returns a table with one more column, whose texts hold line breaks, delimiters and quotes, as long as the
    blocks that are read at a time now and then."""
    size = rng.choice([1, 1, 3, 400, 9_000])
    text = rng.choice(["a\nb", f"1{mark}2\n2020-01-01{mark}5\n", 'say ""a""\r\n', "\n\n", f"{mark}{mark}"]) * size
    return [[*table[0], "note"], *([*row, rng.choice([f'"{text}"', f'"{text}"', "a"])] for row in table[1:])]


def _in_sizes(rng: random.Random, row: list[str]) -> list[str]:
    """Returns a row with numbers of any size."""
    power = rng.choice([10, 99, 101, 330])
    return [row[0], *(f"{rng.uniform(-10, 10)!r}e{rng.randint(-power, power)}" for _ in row[1:])]


def _from_spreadsheet(rng: random.Random, table: list[list[str]]) -> list[list[str]]:
    """Returns what a spreadsheet writes: notes above and below, empty columns and rows, its errors and its dates."""
    for _ in range(rng.choice([0, 1, 5])):
        row = rng.choice(table)
        row[rng.randrange(len(row))] = rng.choice(SPREADSHEET)
    if rng.random() < 0.3:
        table = [[*row, *[""] * 3] for row in table]
    if rng.random() < 0.2:
        table[1:] = [[str(43_831 + n), *row[1:]] for n, row in enumerate(table[1:])]
    width = len(table[0])
    above = [["Report of 2020", *[""] * (width - 1)]] * rng.choice([0, 0, 0, 1, 3])
    below = [[rng.choice(["", "Total", "Sum"]), *["0"] * (width - 1)]] * rng.choice([0, 0, 1])
    return [*above, *table, *below, *[[""] * width] * rng.choice([0, 0, 2])]


def _in_notation(rng: random.Random, cell: str) -> str:
    """Returns a number a thousand times as large, with points between thousands and a decimal comma; signs, blanks
    and zeros as they come."""
    try:
        number = float(cell) * 1000
    except ValueError:
        return cell
    if not abs(number) < 1e15:
        return cell
    digits = f"{abs(number):,.{rng.choice([0, 1, 7])}f}".translate(str.maketrans(",.", ".,"))
    if rng.random() < 0.2:
        digits = f"{abs(number):.17e}".replace(".", ",")
    sign = "-" if number < 0 else rng.choice(["", "", "+"])
    return rng.choice(["", "", " "]) + sign + digits + rng.choice(["", "", " "])


def _cells(rng: random.Random, attacks: set[str]) -> list[list[str]]:
    """Returns the rows of a table, the header first."""
    rows = rng.choice([0, 1, 2, 3, 10]) if "few" in attacks else rng.choice([40, 60, 120, 400])
    count = rng.choice([300, 300, 5_000, 12_000]) if "many columns" in attacks else rng.choice([1, 1, 2, 3, 5])
    rows = min(rows, 3) if count > 100 else rows
    names = NAMES if "header" in attacks else NAMES[:6]
    header = [rng.choice(["date", "date", "time", "a"])]
    header += [rng.choice(names) + ("" if "header" in attacks else str(n)) for n in range(count)]
    kinds = range(14) if "columns" in attacks else range(6)
    times = _clock(rng, rows) if "clock" in attacks else _times(rng, rows, "times" in attacks)
    columns = [times, *(_column(rng, rows, rng.choice(kinds)) for _ in range(count))]
    table = [header, *(list(row) for row in zip(*columns, strict=True))]
    if "notation" in attacks:
        table[1:] = [[row[0], *(_in_notation(rng, cell) for cell in row[1:])] for row in table[1:]]
    for _ in range(rng.choice([1, 1, 2, 30]) if "cells" in attacks else 0):
        row = rng.choice(table[1:] or table)
        row[rng.randrange(len(row))] = rng.choice([*NUMBERS, *TIMES, *TEXTS])
    if "sizes" in attacks:
        table[1:] = [_in_sizes(rng, row) for row in table[1:]]
    if "constant" in attacks:
        value = rng.choice([*NUMBERS[:20], "0", "5", ""])
        table[1:] = [[row[0], *[value] * (len(row) - 1)] for row in table[1:]]
    if "offsets" in attacks:
        ends = rng.choice(
            [["Z", "+02:00"], ["+01:00", "+02:00"], ["Z", ""], ["-0800", "-07:00"], [" UTC", " +01:00"]]
        )
        table[1:] = [[f"{row[0]}T00:00:00{ends[n > len(table) // 2]}", *row[1:]] for n, row in enumerate(table[1:])]
    if "gaps" in attacks:
        share = rng.choice([0.01, 0.04, 0.3, 0.9])
        table[1:] = [row for row in table[1:] if rng.random() > share]
    if "late" in attacks and len(table) > 1 and len(table[0]) < 100:
        table = _changed_late(rng, table)
    if "twins" in attacks:
        table = [[*row, cell] for row in table for cell in [rng.choice([*row[-2:], ""])]]
        name = rng.choice(table[0][:-1])
        table[0][-1] = rng.choice([name, name.upper(), f" {name}", f"{name}.1", ""])
    if "spreadsheet" in attacks:
        table = _from_spreadsheet(rng, table)
    if "ragged" in attacks:
        row = rng.choice(table)
        row[:] = rng.choice([row[:-1], [*row, ""], row * 2, []])
    if "groups" in attacks:  # the same times in each; of one row, of several, of different lengths
        size = rng.choice([1, 1, 7, 50])
        table = [["shop", *header], *([f"s{n // size}", *row] for n, row in enumerate(table[1:]))]
        if 1 < size <= len(times) and rng.random() < 0.7:
            table[1:] = [[row[0], str(times[n % size]), *row[2:]] for n, row in enumerate(table[1:])]
    for _ in range(rng.choice([1, 2, 30]) if "empty" in attacks else 0):
        empty = rng.choice([[""] * len(table[0]), [], [" "]])  # of one column: a missing value
        table.insert(rng.choice([1, len(table), rng.randrange(len(table) + 1)]), empty)
    if "order" in attacks:
        rows_of_data = table[1:]
        rng.shuffle(rows_of_data)
        table[1:] = rows_of_data
        if rng.random() < 0.2:
            table.reverse()
    return table


def _bytes(rng: random.Random, table: list[list[str]], mark: str, encoding: str, attacks: set[str]) -> bytes:
    end = rng.choice(ENDS) if "ends" in attacks else "\n"
    is_quoted = "quotes" in attacks
    lines = [mark.join(f'"{cell}"' if is_quoted else cell for cell in row) for row in table]
    data = (end.join(lines) + rng.choice(["", end, end, end])).encode(encoding, "replace")
    for _ in range(rng.choice([1, 1, 2, 10]) if "bytes" in attacks else 0):
        place = rng.randrange(len(data) + 1)
        piece = rng.choice([b"\0", b'"', b"\xff", b"\xef\xbb\xbf", b"\r", b"\n", b",", b"\x1b", b"\xed\xa0\x80", b""])
        data = data[:place] + piece + data[place + rng.choice([0, 1, 5]) :]
    beginnings = [
        b"\xef\xbb\xbf",
        b"\xff\xfe",
        b"\xfe\xff",
        b"\n",
        b"PAR1",
        b"\x1f\x8b\x08",
        b" ",
        b"sep=;\n",
        b"# note\n",
    ]
    return rng.choice(beginnings) + data if "beginning" in attacks else data


def _packed(rng: random.Random, data: bytes, suffix: str) -> bytes:
    if rng.random() < 0.1 or suffix in (".csv", ".tsv", ".txt", ".CSV", ""):
        return data  # now and then under a false name
    if suffix in (".csv.gz", ".gz"):
        packed = gzip.compress(gzip.compress(data) if rng.random() < 0.05 else data)
        return packed if rng.random() < 0.8 else packed[: rng.randrange(len(packed))]
    if suffix == ".zip":
        content = io.BytesIO()
        with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
            for number in range(rng.choice([0, 1, 1, 1, 2, 3])):
                name = rng.choice(["a.csv", "../a.csv", "/a.csv", "a/b.csv", "é.csv", "a\x1bb.csv"])
                archive.writestr(f"{name}{number}", data)
        return content.getvalue()
    return b"PAR1" + data + b"PAR1"


def hostile_file(rng: random.Random, folder: Path) -> tuple[Path, dict[str, Any]]:
    """Writes a file into a folder; returns its path and settings of task=csv for it, of which most are usual."""
    attacks = set(rng.choices(ATTACKS, k=rng.choice([1, 1, 1, 2, 2, 3, 6])))
    mark = rng.choice(MARKS) if "delimiter" in attacks else ";" if attacks & {"notation", "spreadsheet"} else ","
    encoding = rng.choice(ENCODINGS) if "encoding" in attacks else "utf-8"
    table = _cells(rng, attacks)
    if "lines" in attacks and "quotes" not in attacks and len(table) < 1_000:
        table = _with_lines(rng, table, mark)
    suffix = rng.choice(SUFFIXES) if "packing" in attacks else ".csv"
    path = folder / f"{rng.choice(FILES) if 'file' in attacks else 'a'}{suffix}"
    path.write_bytes(_packed(rng, _bytes(rng, table, mark, encoding, attacks), suffix))
    settings = _settings(rng, table[0], 0.15 if "settings" in attacks else 0.02)
    if "notation" in attacks and rng.random() < 0.9:
        settings |= {"decimal": ",", "thousands": "."}
    if "groups" in attacks and rng.random() < 0.8:
        settings["group"] = "shop"
    if "clock" in attacks and rng.random() < 0.3:
        settings["timezone"] = "Europe/Berlin"
    if mark != "," and rng.random() < 0.8:
        settings["delimiter"] = mark.replace("\t", "\\t")
    if encoding != "utf-8" and rng.random() < 0.8:
        settings["encoding"] = encoding
    return path, settings


def _settings(rng: random.Random, header: list[str], share: float) -> dict[str, Any]:
    """Returns settings: so large a share of all, at random."""
    any_name = [*header, "y", "nosuch", "", "\x1b[31m"]
    choices: dict[str, list[Any]] = {
        "kind": ["regression", "classification"],
        "missing": ["interpolate", "drop"],
        "horizon": [2, 7, 50, 10_000],
        "mode": ["recursive"],
        "group": any_name,
        "log": [True],
        "difference": [True, False],
        "resample": ["7D", "1h", "MS", "1ns", "1s", "100YS", "bogus", "", "0D", "-1D", "W-MON", "QS-FEB", "\x1b"],
        "gaps": ["fill", "ignore", "error", "fill"],
        "sort": [True],
        "timezone": ["Europe/Berlin", "Nowhere", "UTC", "America/St_Johns"],
        "target": [*any_name, [rng.choice(any_name), rng.choice(any_name)], []],
        "inputs": [[], [rng.choice(any_name)], any_name[:3]],
        "known": [[rng.choice(any_name)], header[1:]],
        "categories": [[rng.choice(any_name)], header[1:]],
        "time": [None, *any_name, [rng.choice(any_name), rng.choice(any_name)], ["year", "month", "day"]],
        "time_format": ["%d.%m.%Y", "%Y", "%", "", "%Q", "%s", "%Y-%m-%d", "ISO8601", "mixed", "%c"],
        "calendar": ["none"],
        "unknown_categories": ["ignore"],
        "split": ["date", "time", "group"],
        "validation": [0.01, 0.5, 0.9],
        "test": [0.01, 0.5, 0.9],
        "season": [1, 2, 7, 10**9],
        "warmup": [0, 1, 10**9],
        "loss": ["l1"],
        "delimiter": [";", "\\t", "|", " ", '"', "é", "0"],
        "decimal": [","],
        "thousands": [".", ",", " ", "'"],
        "encoding": ["latin-1", "utf-16", "utf-32", "nosuch", "utf-8-sig", "cp037", "", "idna", "punycode", "hex"],
        "missing_values": [["?", "-"], ["0"], [""], ["\x00"], ["1"] * 1000],
    }  # fmt: skip
    return {key: rng.choice(values) for key, values in choices.items() if rng.random() < share}
