"""Files that cannot be used are refused with the file, the row, the column and the remedy, before anything is
written."""

from __future__ import annotations

import gzip
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import Finished
from tables import changed, daily, days, make_csv, refusal, write_csv
from test_configs import composed

from seqrnn import device
from seqrnn.components import problems_of
from seqrnn.errors import ConfigError, DataError
from seqrnn.prediction.table_data import read_tables
from seqrnn.tables import blocks
from seqrnn.tables.files import Source

WAVE = [f"{np.sin(n):.3f}" for n in range(60)]


def test_an_empty_file(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b"")
    assert refusal(tmp_path / "a.csv") == f"{tmp_path}/a.csv: is empty; its first row should name the columns"


def test_a_header_only(tmp_path: Path) -> None:
    assert "a.csv: has a header and no row below it" in refusal(write_csv(tmp_path / "a.csv", "date,y", []))


@pytest.mark.parametrize("rows", [1, 2, 3])
def test_too_few_rows(tmp_path: Path, rows: int) -> None:
    found = refusal(daily(tmp_path / "a.csv", rows))
    assert f"sequence a of {tmp_path}/a.csv has {rows} timestep{'s' * (rows > 1)}, of which" in found
    assert found.endswith("the training part one more: give it more rows")  # a horizon of 1 cannot be shorter


@pytest.mark.parametrize(("line", "cells"), [("2020-01-04,1,2", 3), ("2020-01-04", 1)])
def test_ragged_rows(tmp_path: Path, line: str, cells: int) -> None:
    assert f"a.csv, row 5: {cells} cells, where the header has 2: '{line}'" in changed(tmp_path / "a.csv", 5, line)


@pytest.mark.parametrize("text", ["a\nb", "1,2\n7,8,9\n", '""\n1,5,""6'])
def test_texts_of_several_lines_may_lie_across_blocks(
    tmp_path: Path, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blocks, "BLOCK_BYTES", 777)
    rows = (f'{day},{n},"{text * 5}"' for n, day in enumerate(days(200)))
    task = make_csv(write_csv(tmp_path / "a.csv", "date,y,note", rows), target="y", inputs=[], difference=False)
    np.testing.assert_array_equal(task.data.targets[:, 0], np.arange(200))


def test_columns_with_long_names_are_listed_in_short(tmp_path: Path) -> None:
    names = ",".join(f"{letter * 3_000}" for letter in "abc")
    assert len(refusal(write_csv(tmp_path / "a.csv", names, ["u,v,w", "v,w,u"] * 30))) < 500


def test_ragged_rows_far_below(tmp_path: Path) -> None:
    lines = [f"{n},{n % 7}" for n in range(300_000)]
    lines[250_000] = "1,2,3"
    assert "row 250002: 3 cells" in refusal(write_csv(tmp_path / "a.csv", "n,y", lines))


def test_a_blank_line_is_a_row_without_a_time(tmp_path: Path) -> None:
    assert "a.csv, row 7, column date: no time" in changed(tmp_path / "a.csv", 7, "")


def test_two_columns_of_one_name(tmp_path: Path) -> None:
    assert "row 1: two columns have the name 'y'" in refusal(write_csv(tmp_path / "a.csv", "y,y", ["1,2"]))


def test_a_file_without_names(tmp_path: Path) -> None:
    assert "row 1: 1.5, 2: numbers, where the names of the columns should be" in refusal(
        write_csv(tmp_path / "a.csv", "1.5,2", ["3,4"] * 50)
    )


def test_a_wrong_delimiter(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "a.csv", "date;y", (f"{day};{n % 9}" for n, day in enumerate(days(60))))
    expected = """row 1: one column, 'date;y'; the header contains ';': set "task.delimiter=';'\""""
    assert expected in refusal(path)
    assert len(make_csv(path, delimiter=";").data.here) == 60


def test_a_decimal_comma(tmp_path: Path) -> None:
    rows = [f'{day};"{value}"'.replace(".", ",") for day, value in zip(days(60), WAVE, strict=True)]
    path = write_csv(tmp_path / "a.csv", "date;y", rows)
    error = refusal(path, delimiter=";")
    assert "a.csv, row 2, column y: '0,000' is not a number (and 59 more cells nearby)" in error
    assert error.endswith("""; set "task.decimal=','\"""")
    data = make_csv(path, delimiter=";", decimal=",").data
    np.testing.assert_allclose(data.targets[:, 0], np.array(WAVE, float))


def test_a_wrong_delimiter_and_a_decimal_comma(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "a.csv", "date;y", (f"{day};{n % 9},5" for n, day in enumerate(days(60))))
    error = refusal(path)
    assert "row 2: 2 cells, where the header has 1: '2020-01-01;0,5'; the cells seem to be separated by ';'" in error
    assert """set "task.delimiter=';'", and perhaps "task.decimal=','\"""" in error
    assert len(make_csv(path, delimiter=";", decimal=",").data.here) == 60


def test_a_wrong_encoding(tmp_path: Path) -> None:
    rows = [
        f"{day},{value},{'süd' if n % 2 else 'nord'}"
        for n, (day, value) in enumerate(zip(days(60), WAVE, strict=True))
    ]
    path = write_csv(tmp_path / "a.csv", "date,y,wind", rows, encoding="latin-1")
    assert "row 3, column wind: 'süd' is not encoded in UTF-8; set task.encoding" in refusal(path, target="y")
    task = make_csv(path, target="y", encoding="latin-1")
    assert task.preprocessing.features[1].categories == ("nord", "süd")
    sixteen = write_csv(
        tmp_path / "b.csv", "date,y", (f"{a},{b}" for a, b in zip(days(60), WAVE, strict=True)), encoding="utf-16"
    )
    assert "is encoded in UTF-16; set task.encoding=utf-16" in refusal(sixteen)
    np.testing.assert_allclose(make_csv(sixteen, encoding="utf-16").data.targets[:, 0], np.array(WAVE, float))


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [("encoding", name, "an encoding of text") for name in ("no-such-code", "rot13", "hex", "punycode", "zlib", "")]
    + [("delimiter", mark, "one ASCII sign") for mark in ("é", '"', "", ",,")],
)
def test_what_cannot_be_an_encoding_or_a_delimiter(key: str, value: str, expected: str) -> None:
    values = composed("task=csv")
    values["task"][key] = value
    (problem,) = problems_of(values)
    assert problem.startswith(f"task.{key}=")
    assert expected in problem


def test_a_column_of_missing_values_only(tmp_path: Path) -> None:
    path = daily(tmp_path / "a.csv", value=lambda n: "NaN")
    assert "column y: the target has no value in any training row" in refusal(path, target="y")
    rows = [f"{day},{value},NA" for day, value in zip(days(60), WAVE, strict=True)]
    path = write_csv(tmp_path / "b.csv", "date,y,x", rows)
    assert "column x: has no value in any training row" in refusal(path, target="y", inputs=["x"])
    task = make_csv(path, target="y", calendar="none")
    assert task.preprocessing.input_names == ["y"]  # nobody named x: it is left out
    assert any("x (empty)" in note for note in task.notes)


@pytest.mark.parametrize(
    ("row", "value", "expected"),
    [
        (9, "1e101", "is beyond 1e+100"),
        (95, "-1e308", "is beyond 1e+100"),
        (95, "1e60", "is too far from the training"),
    ],
)
def test_numbers_that_a_network_cannot_compute_with(tmp_path: Path, row: int, value: str, expected: str) -> None:
    error = changed(tmp_path / "a.csv", row, f"{days(100)[row - 2]},{value}")
    assert f"a.csv, row {row}, column y: '{float(value):g}' {expected}" in error


def test_times_that_only_descend(tmp_path: Path) -> None:
    rows = (f"{day}.{month}.2020,{n % 5}" for n, (month, day) in enumerate((m, d) for m in (9, 7, 5) for d in (3, 2)))
    assert "a.csv, row 3, column date" in refusal(write_csv(tmp_path / "a.csv", "date,y", rows))


@pytest.mark.parametrize("pattern", ["%", "%Q", "%Y-%m-%"])
def test_a_format_of_times_that_is_none(tmp_path: Path, pattern: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(f"task.time_format={pattern}: ")):
        _ = make_csv(daily(tmp_path / "a.csv"), time="date", time_format=pattern).data


def test_ragged_rows_that_cannot_be_decoded(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = write_csv(tmp_path / "a.csv", "date,y", ["2020-01-01,1", "2020-01-02,ü,2"], encoding="latin-1")
    assert "a.csv, row 3: 3 cells, where the header has 2: " in refusal(path)
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(
    ("last", "problem"), [("4,far,", ", column y: 'far'"), ("4,5,6,7", ": 4 cells, where the header")]
)
def test_a_quoted_text_with_line_breaks_belongs_to_one_row(tmp_path: Path, last: str, problem: str) -> None:
    path = tmp_path / "a.csv"
    path.write_text(f'x,y,note\n1,2,"a\n\nb"\n3,4,"c\nd"\n{last}\n')
    assert f"a.csv, row 4{problem}" in refusal(path, target="y")


def test_very_many_columns_are_refused_at_once(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "a.csv", ",".join(f"a{n}" for n in range(11_000)), [",".join("1" * 11_000)])
    assert "row 1: 11,000 columns; at most 10,000 are read" in refusal(path)


def test_steps_that_are_far_too_many_are_refused_before_they_are_made(tmp_path: Path) -> None:
    rows = [f"{1700 + 5 * n}-01-01,{n % 7}" for n in range(60)]
    path = write_csv(tmp_path / "a.csv", "date,y", rows)
    assert "task.resample=1ns: 60 rows would become 9,309," in refusal(path, resample="1ns")
    assert len(make_csv(path, resample="YS").data.here) == 5 * 59 + 1


def test_steps_of_no_length(tmp_path: Path) -> None:
    assert "task.resample=0D: " in refusal(daily(tmp_path / "a.csv"), resample="0D")


@pytest.mark.parametrize("value", ["inf", "-inf", "Infinity", "1e999"])
def test_infinities(tmp_path: Path, value: str) -> None:
    error = changed(tmp_path / "a.csv", 9, f"2020-01-08,{value}")
    assert f"a.csv, row 9, column y: '{'-' * (value[0] == '-')}inf' is not finite" in error


@pytest.mark.parametrize("value", ["abc", "1_000", "0x10", "=1+2", "12 kg", "١٢", "nan(1)"])
def test_text_among_numbers(tmp_path: Path, value: str) -> None:
    error = changed(tmp_path / "a.csv", 42, f"2020-02-10,{value}")
    assert f"a.csv, row 42, column y: {value!r} is not a number" in error


def test_what_a_user_calls_missing_is_missing(tmp_path: Path) -> None:
    lines = daily(tmp_path / "a.csv").read_text().replace("2020-01-08,", "2020-01-08,?").splitlines()
    path = write_csv(tmp_path / "b.csv", lines[0], [*lines[1:8], "2020-01-08,?", *lines[9:]])
    assert "row 9, column y: '?' is not a number" in refusal(path)
    assert make_csv(path, missing_values=["?"]).data.summary.missing == {"y": 1}


def test_a_constant_column(tmp_path: Path) -> None:
    assert "column y: the target is 5 in every training row" in refusal(daily(tmp_path / "a.csv", value=lambda n: 5))
    rows = [f"{day},{value},7" for day, value in zip(days(60), WAVE, strict=True)]
    path = write_csv(tmp_path / "b.csv", "date,y,x", rows)
    assert "column x: is 7 in every training row" in refusal(path, target="y", inputs=["x"])
    assert any("left out: x, which is 7" in note for note in make_csv(path, target="y").notes)


def test_a_target_that_is_also_an_input(tmp_path: Path) -> None:
    task = make_csv(daily(tmp_path / "a.csv"), target="y", inputs=["y"])
    assert any(note.startswith("y: a target and an input as well; its past values are read") for note in task.notes)
    np.testing.assert_array_equal(
        task.data.inputs(np.arange(50)),
        make_csv(tmp_path / "a.csv", target="y", inputs=[]).data.inputs(np.arange(50)),
    )


def test_a_horizon_longer_than_the_data(tmp_path: Path) -> None:
    found = refusal(daily(tmp_path / "a.csv"), horizon=30)
    assert f"task.horizon=30: sequence a of {tmp_path}/a.csv has 100 timesteps" in found
    assert "take a shorter horizon, or more rows" in found


def test_groups_that_are_too_short(tmp_path: Path) -> None:
    rows = [f"a,{n},{n % 7}" for n in range(100)] + [f"b,{n},{n % 5}" for n in range(4)]
    path = write_csv(tmp_path / "a.csv", "id,time,y", rows)
    found = refusal(path, group="id", horizon=2)
    assert f"task.horizon=2: sequence b of {path} has 4 timesteps" in found
    assert found.endswith("or more rows, or leave such sequences out")


def test_a_class_that_appears_once(tmp_path: Path) -> None:
    rows = [f"r{n},{np.sin(t + n)},{'odd' if n == 4 else 'even'}" for n in range(9) for t in range(5)]
    path = write_csv(tmp_path / "a.csv", "id,x,label", rows)
    error = refusal(path, kind="classification", group="id")
    assert "class 'odd' has one sequence only, r4" in error


def test_a_class_that_changes_within_a_sequence(tmp_path: Path) -> None:
    rows = [f"r{n},{t},{'b' if (n, t) == (2, 3) else 'a'}" for n in range(9) for t in range(5)]
    path = write_csv(tmp_path / "a.csv", "id,x,label", rows)
    assert "a.csv, row 15, column label: 'b' the class of sequence r2 was 'a' before" in refusal(
        path, kind="classification", group="id"
    )


def test_a_file_that_needs_more_memory_than_there_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Five gigabytes, of which the disk holds the first rows, are refused before they are read."""
    path = daily(tmp_path / "a.csv", 5_000)
    with path.open("r+b") as file:
        file.truncate(5 * 2**30)
    monkeypatch.setattr(device, "available_memory", lambda: 2 * 2**30)
    error = refusal(path)
    assert "rows × 2 columns take" in error
    assert "2.1 GB of memory are available" in error


def test_a_compressed_file_that_grows_beyond_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The size that it declares need not be true: rows are counted as they are read."""
    rows = "\n".join(f"{n},{n % 7}" for n in range(100_000))
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress(f"n,y\n{rows}\n".encode(), 1))
    monkeypatch.setattr(Source, "size", 10)
    monkeypatch.setattr(blocks, "BLOCK_BYTES", 2**16)
    monkeypatch.setattr(device, "available_memory", lambda: 24 * 50_000)
    error = refusal(tmp_path / "a.csv.gz")
    assert int(error.partition("about ")[2].partition(" rows")[0].replace(",", "")) < 60_000


def test_paths(tmp_path: Path) -> None:
    assert "is a directory; name a file in it" in refusal(tmp_path)
    assert "there is no such file, and none that matches" in refusal(tmp_path / "none.csv")
    assert "there is no such file, and none that matches" in refusal(tmp_path / "*.csv")
    (tmp_path / "a.zip").write_bytes(b"no zip")
    assert "cannot be read as a zip file" in refusal(tmp_path / "a.zip")
    with zipfile.ZipFile(tmp_path / "b.zip", "w"):
        pass
    assert "the zip file holds no file" in refusal(tmp_path / "b.zip")
    (tmp_path / "a.parquet").write_bytes(b"no parquet")
    assert "cannot be read as a Parquet file" in refusal(tmp_path / "a.parquet")
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress(b"a,b\n1,2\n" * 1000)[:-20])
    assert "a.csv.gz: cannot be read" in refusal(tmp_path / "a.csv.gz")
    (tmp_path / "a.csv").write_bytes(bytes(range(256)) * 10)
    assert "is no text file" in refusal(tmp_path / "a.csv")


@pytest.mark.parametrize(
    ("key", "changes"),
    [
        ("task.target=tmep", {"target": "tmep"}),
        ("task.inputs=tmep", {"inputs": ["tmep"]}),
        ("task.known=tmep", {"known": ["tmep"]}),
        ("task.time=tmep", {"time": "tmep"}),
        ("task.group=tmep", {"group": "tmep"}),
    ],
)
def test_a_column_that_is_not_there(tmp_path: Path, key: str, changes: dict[str, Any]) -> None:
    path = write_csv(tmp_path / "a.csv", "date,temp", (f"{day},{n % 7}" for n, day in enumerate(days(50))))
    error = refusal(path, **changes)
    assert error.startswith(f"{key}: {path} has no such column; did you mean temp?")


def test_recursive_forecasts_cannot_use_what_is_known_of_the_past_only(tmp_path: Path) -> None:
    rows = [f"{day},{value},{n % 5}" for n, (day, value) in enumerate(zip(days(60), WAVE, strict=True))]
    path = write_csv(tmp_path / "a.csv", "date,y,x", rows)
    error = refusal(path, target="y", mode="recursive", horizon=3)
    assert "task.mode=recursive: x" in error
    assert "task.mode=direct" in error
    assert make_csv(path, target="y", mode="recursive", horizon=3, known=["x"]).output_size == 1


def test_the_command_says_so_writes_nothing_and_exits_with_2(
    command: Callable[..., Finished], tmp_path: Path
) -> None:
    finished = command("task=csv", f"task.path={tmp_path / 'none.csv'}")
    assert finished.exit_code == 2
    assert "there is no such file" in finished.err + finished.out
    assert "Traceback" not in finished.err + finished.out
    assert not finished.directory.exists()


def test_the_command_asks_for_a_file(command: Callable[..., Finished]) -> None:
    finished = command("task=csv")
    assert finished.exit_code == 2
    assert "task.path=null: which file?" in finished.err + finished.out
    assert not finished.directory.exists()


def test_what_is_wrong_with_the_settings_is_said_at_once(command: Callable[..., Finished]) -> None:
    finished = command("task=csv", "task.horizon=0", "task.validation=0.5", "schedule.clip_norm=-1", "task.gaps=skip")
    assert finished.exit_code == 2
    for key in ("task.horizon=0", "schedule.clip_norm=-1", "task.gaps=skip"):
        assert key in finished.err + finished.out


def test_a_named_target_that_is_no_number_is_named_with_its_row(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "a.csv", "date,y,x", [f"{day},,1" for day in days(3)] + ["2020-01-04,low,2"] * 9)
    error = refusal(path, target="y")
    assert "a.csv, row 5, column y: 'low' is not a number, and a forecast predicts numbers" in error


def test_a_tab_may_be_written_as_it_is_typed(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "a.csv", "date\ty", [f"{day}\t{n % 9}" for n, day in enumerate(days(60))])
    assert "set \"task.delimiter='\\t'\"" in refusal(path)
    assert len(make_csv(path, delimiter=r"\t").data.here) == 60


def test_a_single_name_needs_no_brackets(tmp_path: Path) -> None:
    rows = [f"{day},{n % 9},{n % 2}" for n, day in enumerate(days(60))]
    path = write_csv(tmp_path / "a.csv", "date,y,sale", rows)
    assert make_csv(path, known="sale").settings == make_csv(path, known=["sale"]).settings
    names = make_csv(path, known="sale", categories="sale", calendar="none").preprocessing.input_names
    assert "sale=0 (t+1)" in names


def test_a_category_that_is_only_in_held_out_rows_has_one_rule_for_training_and_for_new_rows(tmp_path: Path) -> None:
    rows = (f"{day},{n % 7},{'gale' if n > 90 else 'calm' if n % 3 else 'breeze'}" for n, day in enumerate(days(100)))
    path = write_csv(tmp_path / "a.csv", "date,y,wind", rows)
    problem = (
        "a.csv, row 93, column wind: 'gale' is a category that was not in the training rows (there were: breeze, "
    )
    with pytest.raises(DataError, match=re.escape(problem)):
        _ = make_csv(path, target="y").data
    task = make_csv(path, target="y", unknown_categories="ignore")
    assert (
        "categories that were not in the training rows, read as none of those: wind 9 (task.unknown_categories)"
        in (task.notes)
    )
    winds = [number for number, name in enumerate(task.preprocessing.input_names) if name.startswith("wind=")]
    assert task.data.inputs(np.array([89, 91]))[:, winds].sum(axis=1).tolist() == [1.0, 0.0]
    new = read_tables(task.preprocessing, [path])
    np.testing.assert_array_equal(new.encoded[0].here, task.data.here)
    assert new.notes == ["categories that were not in the training rows, read as none of those: wind 9"]
    strict = task.preprocessing.model_copy(update={"unknown_categories": "error"})
    with pytest.raises(DataError, match=re.escape(problem)):
        read_tables(strict, [path])
