"""What becomes of a table: its columns, sequences, missing values, and parts."""

from __future__ import annotations

import gzip
import zipfile
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tables import daily, days, everything, make_csv, write_csv


def columns(path: Path, rows: int = 100, **others: Any) -> Path:
    """Writes days, a wave, and a column for each of ``others``: a function of the number of the row."""
    header = ",".join(["date", "y", *others])
    lines = [
        ",".join([str(day), f"{np.sin(n / 3):.6f}", *(str(value(n)) for value in others.values())])
        for n, day in enumerate(days(rows))
    ]
    return write_csv(path, header, lines)


def test_a_path_alone_is_enough(tmp_path: Path) -> None:
    task = make_csv(columns(tmp_path / "temps.csv", 200, wind=lambda n: "nw"[n % 2], number=lambda n: n + 7))
    preprocessing = task.preprocessing
    assert preprocessing.targets == ("y",)
    assert preprocessing.input_names == ["y", "wind=n", "wind=w", "sine of the week", "cosine of the week"]
    assert task.input_size == 5
    notes = "\n".join(task.notes)
    assert "time: date" in notes
    assert "target: y" in notes
    assert "inputs: wind; left out: number (a count of rows)" in notes
    assert task.data_note == "temps.csv: 200 timesteps, one per day"


def test_inputs_are_those_of_the_present_and_targets_those_of_the_next_steps(tmp_path: Path) -> None:
    path = columns(tmp_path / "a.csv", plan=lambda n: f"{(n * 7) % 11}", seen=lambda n: f"{(n * 3) % 13}")
    task = make_csv(path, horizon=3, known=["plan"], calendar="none")
    y, plan, seen = (np.array(values) for values in zip(*_numbers(path), strict=True))
    train = slice(0, 70)

    def scaled(values: np.ndarray) -> np.ndarray:
        return (values - values[train].mean()) / values[train].std()

    inputs, targets, valid, _ = (values[:, 0].numpy() for values in everything(task))
    assert task.preprocessing.input_names == ["y", "seen", "plan (t+1)", "plan (t+2)", "plan (t+3)"]
    np.testing.assert_allclose(inputs[:70, 0], scaled(y)[:70], atol=1e-6)
    np.testing.assert_allclose(inputs[:70, 1], scaled(seen)[:70], atol=1e-6)
    for ahead in (1, 2, 3):
        np.testing.assert_allclose(inputs[:70, 1 + ahead], scaled(plan)[ahead : 70 + ahead], atol=1e-6)
        np.testing.assert_allclose(targets[:67, ahead - 1], scaled(y)[ahead : 67 + ahead], atol=1e-6)
    assert valid.tolist() == [True] * 67 + [False] * 3


def _numbers(path: Path) -> list[tuple[float, ...]]:
    return [tuple(map(float, line.split(",")[1:])) for line in path.read_text().splitlines()[1:]]


@pytest.mark.parametrize(
    "changes", [{}, {"log": True}, {"difference": True}, {"log": True, "difference": True}], ids=str
)
def test_outputs_are_turned_back_into_units(tmp_path: Path, changes: dict[str, Any]) -> None:
    task = make_csv(daily(tmp_path / "a.csv", value=lambda n: 5 + np.sin(n) + 0.02 * n), horizon=4, **changes)
    (batch,) = task.test()
    chunk = batch.read(0, batch.timesteps)
    valid = chunk.valid.numpy()
    back = task.preprocessing.to_units(chunk.targets.numpy(), batch.origins)
    assert back.shape == (batch.timesteps, 1, 4, 1)
    np.testing.assert_allclose(back[valid], batch.actual[valid], rtol=1e-5)
    numbers = np.array([values[0] for values in _numbers(tmp_path / "a.csv")])
    np.testing.assert_allclose(batch.actual[valid][-1, :, 0], numbers[-4:])
    np.testing.assert_allclose(batch.origins[valid][-1], numbers[-5])
    assert batch.times[valid][-1] == days(100)[-5]
    restored = task.preprocessing.from_units(batch.actual[valid][:, None], batch.origins[valid][:, None])
    np.testing.assert_allclose(restored[:, 0], chunk.targets.numpy()[valid], atol=1e-5)


def test_evaluations_begin_with_earlier_rows_that_do_not_count(tmp_path: Path) -> None:
    task = make_csv(daily(tmp_path / "a.csv", 200), warmup=17)
    (validation,), (test,) = task.validation(), task.test()
    for batch, count in ((validation, 20), (test, 40)):
        chunk = batch.read(0, batch.timesteps)
        assert chunk.valid[:, 0].tolist() == [False] * 17 + [True] * count
        assert chunk.starts[:, 0].tolist() == [True] + [False] * (16 + count)
    assert test.times[17, 0] == days(200)[159]  # the last row before the test part predicts its first


def test_streams_are_the_training_rows_in_order(tmp_path: Path) -> None:
    task = make_csv(daily(tmp_path / "a.csv", 150))
    whole = everything(task)
    (batch,) = task.train(0, 8)
    chunk = batch.read(0, batch.timesteps)
    assert (batch.streams, batch.timesteps) == (8, 105 // 8)
    joined = chunk.inputs.transpose(0, 1).reshape(-1, task.input_size)
    assert joined.equal(whole[0][105 % 8 :, 0])
    assert chunk.starts[0].all()
    assert not chunk.starts[1:].any()
    assert task.train(1, 8)[0] is batch  # all epochs are the same


@pytest.mark.parametrize("start", [0, 3])
def test_reading_is_pure(tmp_path: Path, start: int) -> None:
    task = make_csv(daily(tmp_path / "a.csv", 150), horizon=2)
    for batch in (*task.train(0, 3), *task.validation(), *task.test()):
        whole, part = batch.read(0, batch.timesteps), batch.read(start, start + 5)
        for name in ("inputs", "targets", "valid", "starts"):
            assert getattr(part, name).equal(getattr(whole, name)[start : start + 5])


@pytest.mark.parametrize("form", ["gz", "zip", "parquet", "glob"])
def test_other_forms_of_files_hold_the_same(tmp_path: Path, form: str) -> None:
    path = columns(tmp_path / "a.csv", x=lambda n: "abc"[n % 3])
    expected = make_csv(path).data
    if form == "gz":
        other = tmp_path / "a.csv.gz"
        other.write_bytes(gzip.compress(path.read_bytes()))
    elif form == "zip":
        other = tmp_path / "a.zip"
        with zipfile.ZipFile(other, "w") as archive:
            archive.write(path, "folder/a.csv")
            archive.writestr("__MACOSX/folder/._a.csv", "junk")
    elif form == "parquet":
        import pandas

        other = tmp_path / "a.parquet"
        pandas.read_csv(path, parse_dates=["date"]).to_parquet(other)
    else:
        other = tmp_path / "?.csv"
    data = make_csv(other).data
    np.testing.assert_array_equal(data.here, expected.here)
    np.testing.assert_array_equal(data.times, expected.times)
    assert data.preprocessing.features == expected.preprocessing.features


@pytest.mark.parametrize("form", ["group", "files", "zip"])
def test_groups_and_files_are_sequences_of_their_own(tmp_path: Path, form: str) -> None:
    series = {"a": 100, "b": 60}
    for number, (key, rows) in enumerate(series.items()):
        daily(tmp_path / f"{key}.csv", rows, lambda n, number=number: np.sin(n) + number)  # type: ignore[misc]
    path, changes = tmp_path / "[ab].csv", dict[str, Any]()
    if form == "group":
        lines = [f"{key},{line}" for key in series for line in (tmp_path / f"{key}.csv").read_text().splitlines()[1:]]
        path, changes = write_csv(tmp_path / "all.csv", "id,date,y", lines), {"group": "id"}
    elif form == "zip":
        with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
            for key in series:
                archive.write(tmp_path / f"{key}.csv", f"{key}.csv")
        path = tmp_path / "all.zip"
    task = make_csv(path, warmup=5, calendar="none", **changes)
    assert task.data.keys == ["a", "b"]
    inputs, _, valid, starts = everything(task)
    assert starts.nonzero()[:, 0].tolist() == [0, 70]
    assert valid[:, 0].logical_not().nonzero()[:, 0].tolist() == [69, 111]  # the last of each has no target there
    (batch,) = task.test()
    assert batch.keys.tolist() == ["a", "b"]
    chunk = batch.read(0, batch.timesteps)
    assert chunk.valid.sum(0).tolist() == [20, 12]  # the shorter one is padded
    assert not chunk.valid[-1, 1]
    assert len(inputs) == 70 + 42


def test_rows_of_groups_may_be_mixed(tmp_path: Path) -> None:
    lines = [f"{day},{key},{np.sin(n + 3 * ord(key)):.4f}" for n, day in enumerate(days(80)) for key in "ab"]
    task = make_csv(write_csv(tmp_path / "a.csv", "date,id,y", lines), group="id")
    assert task.data.keys == ["a", "b"]
    assert "comes twice" not in "".join(task.notes)
    np.testing.assert_allclose(task.data.targets[80:, 0], np.sin(np.arange(80) + 3 * ord("b")), atol=1e-4)


def test_a_missing_input_is_the_last_one_and_says_so(tmp_path: Path) -> None:
    path = columns(tmp_path / "a.csv", x=lambda n: "" if 10 <= n < 14 else n % 4)
    task = make_csv(path, calendar="none")
    assert task.preprocessing.input_names == ["y", "x", "x is missing"]
    inputs = everything(task)[0][:, 0]
    assert inputs[:, 2].nonzero()[:, 0].tolist() == [10, 11, 12, 13]
    assert (inputs[10:14, 1] == inputs[9, 1]).all()
    assert task.data.summary.missing == {"x": 4}
    assert any("missing values: x 4" in note for note in task.notes)


def test_missing_inputs_are_interpolated_and_what_knows_the_future_does_not_count(tmp_path: Path) -> None:
    path = columns(tmp_path / "a.csv", x=lambda n: "" if 10 <= n < 13 else n % 40)
    task = make_csv(path, missing="interpolate", calendar="none")
    inputs, _, valid, _ = everything(task)
    assert task.preprocessing.input_names == ["y", "x"]
    np.testing.assert_allclose(inputs[9:14, 0, 1].diff(), inputs[9, 0, 1] - inputs[8, 0, 1], rtol=1e-4)
    assert valid[:69, 0].logical_not().nonzero()[:, 0].tolist() == [10, 11, 12]


def test_timesteps_with_missing_inputs_are_left_out(tmp_path: Path) -> None:
    path = columns(tmp_path / "a.csv", x=lambda n: "" if 10 <= n < 13 else n % 4)
    inputs, _, valid, starts = everything(make_csv(path, missing="drop", calendar="none"))
    assert len(inputs) == 67
    assert starts.nonzero()[:, 0].tolist() == [0, 10]
    assert not valid[9, 0]  # what comes next was left out
    assert valid[10:66, 0].all()


@pytest.mark.parametrize("missing", ["mask", "interpolate"])
def test_missing_targets_do_not_count(tmp_path: Path, missing: str) -> None:
    path = daily(tmp_path / "a.csv", value=lambda n: "NA" if 20 <= n < 23 else np.sin(n))
    task = make_csv(path, horizon=2, missing=missing)
    _, targets, valid, _ = everything(task)
    # Both of the next two values of timesteps 19 and 20 are missing; 20 to 22 are interpolated from what comes after.
    expected = {19, 20, 21, 22} if missing == "interpolate" else {19, 20}
    assert set(valid[:68, 0].logical_not().nonzero()[:, 0].tolist()) == expected
    absent = targets[:68, 0].isnan() & valid[:68]
    assert absent.nonzero().tolist() == ([[18, 1]] if missing == "interpolate" else [[18, 1], [21, 0]])
    assert task.missing_targets
    assert not make_csv(path, missing=missing).missing_targets  # a single value counts, or its timestep does not
    summary = task.data.summary
    assert summary.skipped == 100 - sum(summary.targets.values())


def test_a_regression_predicts_the_present_from_inputs(tmp_path: Path) -> None:
    path = columns(tmp_path / "a.csv", x=lambda n: (n * 7) % 11)
    task = make_csv(path, kind="regression", target="y", calendar="none")
    _, targets, valid, _ = everything(task)
    assert task.preprocessing.input_names == ["x"]
    y = np.array([values[0] for values in _numbers(path)])[:70]
    np.testing.assert_allclose(targets[:, 0, 0], (y - y.mean()) / y.std(), atol=1e-6)
    assert valid.all()


def recordings(path: Path, classes: list[str], lengths: int = 6) -> Path:
    lines = [
        f"r{number},{label},{np.sin(t + number):.4f}"
        for number, label in enumerate(classes)
        for t in range(lengths + number % 3)
    ]
    return write_csv(path, "id,label,x", lines)


def test_a_classification_divides_whole_sequences_of_each_class(tmp_path: Path) -> None:
    classes = ["a"] * 20 + ["b"] * 10
    task = make_csv(recordings(tmp_path / "a.csv", classes), kind="classification", group="id")
    assert task.preprocessing.classes == ("a", "b")
    assert (task.kind, task.loss, task.output_size) == ("classification", "cross_entropy", 2)
    parts = {}
    for name, batches in (("train", task.train(0, 64)), ("validation", task.validation()), ("test", task.test())):
        (batch,) = batches
        chunk = batch.read(0, batch.timesteps)
        assert chunk.valid.sum(0).tolist() == [1] * batch.streams
        last = torch.tensor([6 + int(key[1:]) % 3 - 1 for key in batch.keys])
        assert chunk.valid.nonzero()[:, 0].sort().values.equal(last.sort().values)
        assert [classes[int(key[1:])] for key in batch.keys] == ["ab"[label] for label in chunk.targets[0]]
        parts[name] = set(batch.keys)
        assert (
            sorted(chunk.targets[0].bincount().tolist())
            == {"train": [7, 14], "validation": [1, 2], "test": [2, 4]}[name]
        )
    assert (
        not parts["train"] & parts["test"]
        | parts["train"] & parts["validation"]
        | parts["test"] & parts["validation"]
    )
    assert len(set.union(*parts.values())) == 30


def test_the_class_is_a_column_of_texts_or_one_of_its_name(tmp_path: Path) -> None:
    rows = [f"r{n},{np.sin(n + t):.3f},{'ab'[n % 2]},{n % 2}" for n in range(12) for t in range(5)]
    texts = write_csv(tmp_path / "a.csv", "id,y,gesture,class", rows)
    assert make_csv(texts, kind="classification", group="id").preprocessing.targets == ("gesture",)
    numbers = write_csv(
        tmp_path / "b.csv", "id,x,class", (f"r{n},{np.sin(n + t):.3f},{n % 2}" for n in range(12) for t in range(5))
    )
    assert make_csv(numbers, kind="classification", group="id").preprocessing.classes == ("0", "1")


def test_each_epoch_of_a_classification_has_an_order_of_its_own(tmp_path: Path) -> None:
    task = make_csv(recordings(tmp_path / "a.csv", ["a", "b"] * 15), kind="classification", group="id")
    first, second = ([batch.keys.tolist() for batch in task.train(epoch, 4)] for epoch in (0, 1))
    assert first != second
    assert [len(keys) for keys in first] == [len(keys) for keys in second]
    assert sorted(chain(*first)) == sorted(chain(*second))


def test_suggested_lengths_come_from_the_data(tmp_path: Path) -> None:
    small = make_csv(daily(tmp_path / "a.csv", 60)).suggest()
    large = make_csv(daily(tmp_path / "b.csv", 6000)).suggest()
    assert small.streams == 1
    assert small.window <= 42
    assert large.streams > small.streams
    assert large.epochs < small.epochs * small.streams * 10


def test_what_is_read_is_reported(tmp_path: Path) -> None:
    import hashlib

    path = daily(tmp_path / "a.csv")
    task = make_csv(path)
    summary = task.data.summary
    assert task.fingerprint() == summary.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert (summary.rows, summary.timesteps, summary.sequences) == (100, 100, 1)
    assert summary.targets == {"training": 69, "validation": 10, "test": 20}
    assert set(task.documents()) == {"preprocessing.json", "data.json"}
    text = task.preprocessing.model_dump_json()
    assert type(task.preprocessing).model_validate_json(text, strict=True) == task.preprocessing


def test_a_file_that_changes_is_read_again(tmp_path: Path) -> None:
    path = daily(tmp_path / "a.csv")
    before = make_csv(path).fingerprint()
    daily(path, 101)
    assert make_csv(path).fingerprint() != before


def test_what_does_not_count_is_reported_with_its_reasons(tmp_path: Path) -> None:
    absent = {*range(30, 37), 150}
    rows = (f"{day},{'' if n in absent else n % 7}" for n, day in enumerate(days(200)))
    task = make_csv(write_csv(tmp_path / "a.csv", "date,y", rows), horizon=6, difference=False)
    summary = task.data.summary
    (note,) = [note for note in task.notes if "nothing that counts" in note]
    # all six steps of 29 and 30 are missing
    assert note.startswith(f"{summary.skipped} of 200 timesteps predict nothing that counts: ")
    assert "2 because no value to be predicted is known" in note
    assert "6 at the end of a sequence" in note
    assert "10 at the end of a part (training, validation)" in note
    assert summary.skipped == 2 + 6 + 10
    assert sum(summary.targets.values()) + summary.skipped == 200


def test_where_a_regression_has_no_target_is_reported(tmp_path: Path) -> None:
    rows = (f"{day},{n % 11},{'' if n == 7 else n % 7}" for n, day in enumerate(days(100)))
    task = make_csv(write_csv(tmp_path / "a.csv", "date,x,y", rows), kind="regression")
    assert "1 of 100 timesteps predict nothing that counts: 1 because no value to be predicted is known" in task.notes
