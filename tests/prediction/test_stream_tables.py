"""``python -m seqrnn.predict --stream`` for runs of task=csv: rows of a table as they come."""

from __future__ import annotations

import itertools
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import pytest
import torch
from predicting import Command, MakeRun
from sales_tables import COMMON, recordings, table

from seqrnn import registry
from seqrnn.checkpoints import file
from seqrnn.errors import DataError, printable
from seqrnn.forecasting.intervals import Interval, Intervals
from seqrnn.prediction import stream, trained
from seqrnn.prediction.table_data import read_tables
from seqrnn.prediction.trained import TrainedRun
from seqrnn.prediction.trained_optimizer import restore_optimizer
from seqrnn.results import Run
from seqrnn.schedule import Schedule, WindowRange
from seqrnn.strategies.choice import window_by_window
from seqrnn.strategies.plain import Plain, WindowByWindow
from seqrnn.streaming.run_documents import Ends
from seqrnn.tables.opening import open_dataset
from seqrnn.tasks.protocol import Chunk, Stored

VARIANTS = {
    "direct": ("task.horizon=3",),
    "changes": ("task.horizon=2", "task.difference=true"),
    "logarithms": ("task.log=true",),
    "regression": ("task.kind=regression",),
    "left out": ("task.missing=drop", "task.inputs=[]"),
}


def with_holes() -> pandas.DataFrame:
    frame = table()
    frame.loc[[15, 16, 60, 90], "sales"] = np.nan
    frame.loc[[30, 91], "weather"] = np.nan
    return frame


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tables")
    with_holes().to_csv(path / "sales.csv", index=False)
    two = pandas.concat([table(90, seed).assign(shop=f"s{seed}") for seed in (1, 2)])
    two.to_csv(path / "shops.csv", index=False)
    recordings().to_csv(path / "recordings.csv", index=False)
    return path


@pytest.fixture
def make(trained: MakeRun, folder: Path) -> Any:
    """Trains a run on sales.csv, or on another file of the folder."""

    def run(*settings: str, name: str = "sales.csv", target: str = "sales") -> Run:
        return trained(*COMMON, f"task.path={folder / name}", f"task.target={target}", *settings)

    return run


def json_lines(frame: pandas.DataFrame) -> str:
    rows = json.loads(
        frame.assign(**({"day": frame["day"].astype(str)} if "day" in frame else {})).to_json(orient="records")
    )
    return "".join(json.dumps(row) + "\n" for row in rows)  # fmt: skip


def predictions(answers: list[Any]) -> list[float]:
    return np.array([answer["sales_predicted"] for answer in answers if "skipped" not in answer]).ravel().tolist()


@pytest.mark.covering(1)
@pytest.mark.parametrize("form", ["json", "csv"])
@pytest.mark.parametrize("variant", VARIANTS)
def test_each_row_is_answered_as_in_a_file(
    variant: str, form: str, make: Any, command: Command, folder: Path
) -> None:
    run = make(*VARIANTS[variant])
    text = json_lines(with_holes()) if form == "json" else (folder / "sales.csv").read_text()
    result = command(run.directory, "--stream", stdin=text)
    assert (result.code, result.err) == (0, "")
    assert not [answer for answer in result.answers if "error" in answer]
    assert command(run.directory, "--data", folder / "sales.csv", "--out", "p.csv").code == 0
    frame = pandas.read_csv("p.csv")
    np.testing.assert_allclose(predictions(result.answers), frame["sales_predicted"], rtol=1e-5)
    times = [answer["day"] for answer in result.answers if "skipped" not in answer]
    assert np.array(times).ravel().tolist() == list(frame["day"])
    assert sum("skipped" in answer for answer in result.answers) == (4 if variant == "left out" else 0)


def test_lines_of_csv_have_the_format_of_the_table(make: Any, command: Command, folder: Path) -> None:
    table(60).to_csv(folder / "european.csv", index=False, sep=";", decimal=",")
    run = make("task.delimiter=';'", "task.decimal=','", name="european.csv")
    text = (folder / "european.csv").read_text()
    answers = command(run.directory, "--stream", stdin="\ufeff" + text).answers
    assert command(run.directory, "--data", folder / "european.csv", "--out", "p.csv").code == 0
    np.testing.assert_allclose(predictions(answers), pandas.read_csv("p.csv")["sales_predicted"], rtol=1e-5)
    (error,) = command(run.directory, "--stream", stdin="day,weather,promotion,sales\n").answers
    assert error["error"].endswith("the cells of a line should be separated by ';', as in training")


def test_sequences_of_a_table_have_states_of_their_own(
    make: Any, command: Command, folder: Path, tmp_path: Path
) -> None:
    run = make("task.group=shop", name="shops.csv")
    frame = pandas.read_csv(folder / "shops.csv")
    mixed = frame.sort_values(["day", "shop"])
    assert command(run.directory, "--data", folder / "shops.csv", "--out", "p.csv").code == 0
    expected = pandas.read_csv("p.csv")
    lines = json_lines(mixed).splitlines(keepends=True)
    parts = [
        command(run.directory, "--stream", "--state", "s", stdin="".join(some)) for some in (lines[:51], lines[51:])
    ]
    answers = [answer for part in parts for answer in part.answers]
    for shop in ("s1", "s2"):
        own = [answer for answer in answers if answer["shop"] == shop]
        assert [answer["timestep"] for answer in own] == list(range(90))
        rows = expected[expected["shop"] == shop]
        np.testing.assert_allclose(predictions(own), rows["sales_predicted"], rtol=1e-5)


def test_classes_are_answered_by_their_labels(make: Any, command: Command, folder: Path) -> None:
    run = make("task.kind=classification", "task.group=id", name="recordings.csv", target="kind")
    frame = recordings(seed=1, count=4)
    frame.to_csv("new.csv", index=False)
    assert command(run.directory, "--data", "new.csv", "--out", "p.csv").code == 0
    expected = pandas.read_csv("p.csv").set_index("id")
    answers = command(run.directory, "--stream", stdin=json_lines(frame.drop(columns="kind"))).answers
    for answer in answers[11::12]:
        row = expected.loc[answer["id"]]
        assert answer["predicted"] == row["predicted"]
        assert answer["probabilities"]["fast"] == pytest.approx(row["probability_fast"], rel=1e-4)


def test_a_row_in_python_is_a_mapping(make: Any) -> None:
    predictor = make("task.horizon=3").stream()
    for values in ([0.3], 0.3, "day", None):
        with pytest.raises(
            DataError, match=r"a row of a table is a mapping of columns to values, such as \{'day': …\}"
        ):
            predictor(values)


def test_a_row_that_cannot_be_used_changes_nothing(make: Any, command: Command) -> None:
    run = make("task.horizon=3")
    good = json_lines(table(12)).splitlines()
    row = json.loads(good[5])
    bad = {
        json.dumps({**row, "weather": "hail"}): "column weather: 'hail' is a category that was not in the training",
        json.dumps({**row, "sales": "many"}): "'sales': 'many' is not a number",
        json.dumps({**row, "sales": True}): "'sales': True is not a number",
        json.dumps({**row, "sales": [1]}): "'sales': [1] is not a number",
        json.dumps({**row, "weather": 1.5}): "column weather: '1.5' is a category that was not",
        json.dumps({**row, "weather": [1]}): "'weather': [1] should be a text",
        json.dumps({**row, "sales": 1e999}): "'sales': inf should be a finite number",
        json.dumps({**row, "sales": 1e200}): "'sales': 1e+200 is beyond 1e+100",
        json.dumps({**row, "day": "yesterday"}): "column day: 'yesterday'",
        json.dumps({**row, "day": None}): "'day': no time; every row needs one",
        json.dumps({**row, "day": "2024-01-05"}): "its time, 2024-01-05, is not after 2024-01-05",
        json.dumps({**row, "day": "2024-01-09"}): "is 4 steps of one day after 2024-01-05; send the rows in between",
        json.dumps({**row, "day": "2024-01-06T06"}): "trained on are one day apart: send one for each of those times",
        json.dumps({**row, "start": 7}): "start: 7 should be true or false",
        json.dumps({"sale" if name == "sales" else name: value for name, value in row.items()}):
            "column 'sales' is missing; did you mean sale?",
        "[1]": "a list of 1 values; should be 4: day, sales, weather, promotion",
    }  # fmt: skip
    text = "\n".join([*good[:5], *bad, *good[5:]])
    answers = command(run.directory, "--stream", stdin=text).answers
    errors = [answer for answer in answers if "error" in answer]
    assert [error["line"] for error in errors] == list(range(6, 6 + len(bad)))
    for error, problem in zip(errors, bad.values(), strict=True):
        assert problem in error["error"]
    undisturbed = command(run.directory, "--stream", stdin="\n".join(good)).answers
    assert [answer for answer in answers if "error" not in answer] == undisturbed


def test_blanks_around_a_text_are_no_part_of_it(make: Any, command: Command) -> None:
    run = make("task.horizon=3")
    rows = [json.loads(line) for line in json_lines(table(8)).splitlines()]
    padded = [{**row, "weather": f" {row['weather']}\t", "sales": f" {row['sales']} "} for row in rows]
    rows[3]["sales"], rows[4]["sales"], rows[5]["weather"] = None, None, None
    padded[3]["sales"], padded[4]["sales"], padded[5]["weather"] = " ", "NAN", " NA "
    plain, answers = (
        command(run.directory, "--stream", stdin="\n".join(map(json.dumps, some))).answers for some in (rows, padded)
    )
    assert plain == answers
    assert not [answer for answer in answers if "error" in answer]


def test_a_start_begins_a_new_sequence_at_any_time(make: Any, command: Command) -> None:
    run = make("task.horizon=3")
    rows = [json.loads(line) for line in json_lines(table(8)).splitlines()]
    second = [{**rows[0], "start": True}, *rows[1:]]
    text = "\n".join(map(json.dumps, rows + second))
    answers = command(run.directory, "--stream", stdin=text).answers
    assert answers[:8] == answers[8:]


def test_a_state_is_refused_by_another_run(make: Any, command: Command, tmp_path: Path) -> None:
    run, other = make("task.horizon=3"), make("task.log=true")
    text = json_lines(table(3))
    assert command(run.directory, "--stream", "--state", "s", stdin=text).code == 0
    command(other.directory, "--stream", "--state", "s").refused("s: the states of another network: weights is")


def test_a_restored_state_replaces_that_of_every_sequence(make: Any, tmp_path: Path) -> None:
    run = make("task.group=shop", name="shops.csv")
    rows = interleaved()[:6]
    predictor = run.stream()
    predictor(rows[0])
    predictor.save(tmp_path / "state")
    answers = [predictor(row) for row in rows[1:]]
    predictor.restore(tmp_path / "state")
    assert predictions([predictor(row) for row in rows[1:]]) == predictions(answers)
    assert [answer["timestep"] for answer in answers] == [0, 1, 1, 2, 2]


@pytest.mark.parametrize("change", [{"numbers": {}}, {"labels": {}}, {"time": "now"}, {"state": [1]}, {"key": None}])
def test_a_state_without_what_the_run_reads_is_refused(change: dict[str, Any], make: Any, tmp_path: Path) -> None:
    run = make("task.horizon=3")
    rows = [json.loads(line) for line in json_lines(table(3)).splitlines()]
    predictor = run.stream()
    predictor(rows[0])
    predictor.save(tmp_path / "state")
    tree = file.read(tmp_path / "state")
    (sequence,) = tree["sequences"]
    damaged = sequence | change if change != {"key": None} else {}
    file.write(tmp_path / "damaged", tree | {"sequences": [damaged]})
    with pytest.raises(DataError, match="damaged: does not fit this run"):
        predictor.restore(tmp_path / "damaged")
    expected = run.stream()
    expected(rows[0])
    assert predictions([predictor(rows[1])]) == predictions([expected(rows[1])])


def load(run: Run) -> TrainedRun:
    return trained.load(run.directory)


@pytest.mark.first(1)
@pytest.mark.parametrize("variant", ["direct", "changes", "logarithms", "regression"])
def test_the_weights_are_those_of_training_on_the_same_table_at_once(variant: str, make: Any) -> None:
    run = load(make(*VARIANTS[variant], "schedule.window=5", "schedule.stride=5"))
    answering = stream.open_learning(run, 0.01)
    for line in json_lines(with_holes()).splitlines():
        answering.answer(json.loads(line))

    data = open_dataset(run.task.settings, 0)  # type: ignore[attr-defined]
    rows = np.arange(len(data.here))
    targets, actual = data.outputs(rows), data.actual(rows)
    known = np.isfinite(actual).any(axis=(1, 2))
    chunk = Chunk(
        torch.from_numpy(data.inputs(rows))[:, None],
        torch.from_numpy(targets)[:, None],
        torch.from_numpy(known)[:, None],
        torch.from_numpy(rows == 0)[:, None],
    )
    network, schedule = run.network(), Schedule(**{**run.values["schedule"], "streams": 1})
    optimizer = registry.build("optimizer", {**run.values["optimizer"], "lr": 0.01}, network.parameters())
    gradients = WindowByWindow(network, run.loss, schedule.carry, run.context, run.data_format)
    count = answering.learner.windows.window
    assert count >= 22
    strategy = Plain(network, optimizer, schedule, gradients)
    assert restore_optimizer(run.run.directory, strategy) is not None
    strategy([WindowRange(0, Stored(chunk), 0, count, False)], np.ones(count))
    for name, value in network.state_dict().items():
        torch.testing.assert_close(answering.learner.network.state_dict()[name], value, rtol=1e-3, atol=1e-5)
        assert not torch.equal(value, run.network().state_dict()[name])


def test_learning_stops_and_continues_as_if_it_had_not_stopped(make: Any, command: Command) -> None:
    directory = make("task.horizon=3", "schedule.window=5", "schedule.stride=5").directory
    lines = json_lines(with_holes()).splitlines(keepends=True)
    whole = command(directory, "--stream", "--learn", "whole", "--lr", 0.01, stdin="".join(lines))
    answers = []
    for part in (lines[:2], lines[2:47], lines[47:]):
        result = command(directory, "--stream", "--learn", "parts", "--lr", 0.01, stdin="".join(part))
        assert result.code == 0
        answers += result.answers
    assert answers == whole.answers
    judged = [answer["judged"] for answer in answers if "judged" in answer]
    known = with_holes()["sales"].notna().to_numpy()
    assert judged == [timestep for timestep in range(117) if known[timestep + 1 : timestep + 4].any()]
    predicted_by = {answer["timestep"]: answer["updates"] for answer in answers if "timestep" in answer}
    after = [timestep for timestep in judged if predicted_by[timestep]]
    assert f"over {len(after)} true values since the first update" in whole.err


def interleaved() -> list[dict[str, Any]]:
    """Rows of two shops in turn, and more of the first one behind the end of the other."""
    first, second = (table(count, seed).assign(shop=f"s{seed}") for count, seed in ((40, 1), (30, 2)))
    lines = (json_lines(frame).splitlines() for frame in (first, second))
    return [json.loads(line) for pair in itertools.zip_longest(*lines) for line in pair if line]


@pytest.mark.first(1)
@pytest.mark.parametrize("gradient", ["bptt", "snap1"])
def test_interleaved_sequences_are_learned_from_with_a_state_of_each(gradient: str, make: Any) -> None:
    """Updates are those of training on windows of the sequences in the order in which the windows are complete."""
    window = 1 if gradient == "snap1" else 5
    own = (f"schedule.window={window}", f"schedule.stride={window}", f"schedule.gradient={gradient}")
    run = load(make("task.group=shop", "task.horizon=2", *own, name="shops.csv"))
    answering = stream.open_learning(run, 0.01)
    rows = interleaved()
    answers = [answering.answer(row) for row in rows]

    network, schedule = run.network(), Schedule(**{**run.values["schedule"], "streams": 1})
    optimizer = registry.build("optimizer", {**run.values["optimizer"], "lr": 0.01}, network.parameters())
    found = {}
    for shop in ("s1", "s2"):
        frame = pandas.DataFrame([row for row in rows if row["shop"] == shop])
        frame.to_csv(run.run.directory.parent / "one.csv", index=False)
        data = read_tables(run.preprocessing(), [run.run.directory.parent / "one.csv"])
        (sequence,), (encoded,) = data.sequences, data.encoded
        values = np.append(sequence.numbers["sales"], [np.nan] * 2)
        steps = np.stack([values[1:-1], values[2:]], axis=1)  # (T, 2)
        targets = run.preprocessing().from_units(steps[:, None, :, None], encoded.origins[:, None])
        starts = torch.from_numpy(encoded.starts)[:, None]
        valid = torch.ones(len(frame), 1, dtype=torch.bool)
        inputs = torch.from_numpy(encoded.inputs())[:, None]
        gradients = window_by_window(network, run.loss, schedule, run.context, run.data_format)
        found[shop] = (Stored(Chunk(inputs, torch.from_numpy(targets), valid, starts)), gradients)
    strategy = Plain(network, optimizer, schedule, found["s1"][1])
    assert restore_optimizer(run.run.directory, strategy) is not None
    arrived, done = dict.fromkeys(found, 0), dict.fromkeys(found, 0)
    for row in rows:
        shop = row["shop"]
        arrived[shop] += 1
        batch, strategy.gradients = found[shop]
        if (done[shop] + 1) * window + 2 <= arrived[shop]:
            strategy([WindowRange(0, batch, done[shop], 1, False)], np.ones(1))
            strategy.finish()  # the other one has the same optimizer
            done[shop] += 1
    assert answers[-1]["updates"] == sum(done.values()) > 10
    for name, value in network.state_dict().items():
        torch.testing.assert_close(answering.learner.network.state_dict()[name], value, rtol=1e-3, atol=1e-5)
        assert not torch.equal(value, run.network().state_dict()[name])


def test_learning_from_interleaved_sequences_stops_and_continues(make: Any, command: Command) -> None:
    run = make("task.group=shop", "task.horizon=2", "schedule.window=5", "schedule.stride=5", name="shops.csv")
    lines = [json.dumps(row) + "\n" for row in interleaved()]
    whole = command(run.directory, "--stream", "--learn", "whole", "--lr", 0.01, stdin="".join(lines))
    answers = []
    for part in (lines[:3], lines[3:38], lines[38:]):
        result = command(run.directory, "--stream", "--learn", "parts", "--lr", 0.01, stdin="".join(part))
        assert result.code == 0
        answers += result.answers
    assert answers == whole.answers
    plain = command(run.directory, "--stream", stdin="".join(lines)).answers
    before = sum(answer["updates"] == 0 for answer in answers)
    assert before > 5
    assert predictions(answers[:before]) == pytest.approx(predictions(plain[:before]), rel=1e-6)


def test_from_python_a_row_is_a_dictionary(make: Any, command: Command, tmp_path: Path) -> None:
    run = make("task.horizon=3")
    predictor = run.stream()
    rows = [json.loads(line) for line in json_lines(with_holes()).splitlines()]
    assert command(run.directory, "--stream", stdin=json_lines(with_holes())).answers == json.loads(
        json.dumps([predictor(row) for row in rows])
    )
    predictor.reset()
    first = [predictor(row) for row in rows[:20]]
    predictor.save(tmp_path / "state")
    second = run.stream()
    second.restore(tmp_path / "state")
    assert [second(row) for row in rows[20:25]] == [predictor(row) for row in rows[20:25]]
    predictor.reset()
    assert [predictor(row) for row in rows[:20]] == first
    with pytest.raises(DataError, match="column 'day' is missing"):
        predictor({"sales": 1.0})


def test_intervals_are_answered(make: Any, command: Command, tmp_path: Path) -> None:
    run = make("task.horizon=3")
    shutil.copytree(run.directory, tmp_path / "copy")
    ends = {"lower": [[-1.0], [-2.0], [None]], "upper": [[1.0], [2.0], [None]]}
    split = {f"split_{name}": values for name, values in ends.items()}
    values = {
        "horizon": 3,
        "targets": ["sales"],
        "calibration": 9,
        "intervals": [{"confidence": 0.9, **ends, **split}],
    }
    (tmp_path / "copy" / "intervals.json").write_text(json.dumps(values))
    for answer in command(tmp_path / "copy", "--stream", stdin=json_lines(table(5))).answers:
        predicted, lower, upper = (answer[f"sales_{name}"] for name in ("predicted", "lower_90", "upper_90"))
        np.testing.assert_allclose(np.subtract(predicted, [1, 2, 0])[:2], lower[:2], rtol=1e-7)
        np.testing.assert_allclose(np.add(predicted, [1, 2, 0])[:2], upper[:2], rtol=1e-7)
        assert lower[2] is None
        assert upper[2] is None


def test_rows_before_the_first_complete_one_are_left_out(make: Any, command: Command, tmp_path: Path) -> None:
    frame = with_holes()
    run = make("task.missing=drop")
    frame.loc[[0, 1, 40], "weather"] = np.nan
    frame.loc[[0, 40, 41], "sales"] = np.nan
    frame.to_csv(tmp_path / "new.csv", index=False)
    answers = command(run.directory, "--stream", stdin=frame.to_csv(index=False)).answers
    left_out = frame[["weather", "sales"]].isna().any(axis=1)
    assert ["skipped" in one for one in answers] == list(left_out)
    assert command(run.directory, "--data", tmp_path / "new.csv", "--out", "p.parquet").code == 0
    predicted = pandas.read_parquet("p.parquet")["sales_predicted"]
    np.testing.assert_allclose([one["sales_predicted"] for one in answers if "skipped" not in one], predicted, 1e-6)
    frame.assign(weather=np.nan).to_csv(tmp_path / "none.csv", index=False)
    command(run.directory, "--data", tmp_path / "none.csv").refused("every row has a missing value")


def test_learning_without_a_row_that_can_be_used_writes_what_can_be_continued(make: Any, command: Command) -> None:
    run = make()
    for stdin in ("", "day,nonsense\n"):
        result = command(run.directory, "--stream", "--learn", "learned", stdin=stdin)
        assert result.code == 0, result.err
    assert "learned in 0 updates" in result.err


def test_categories_of_json_are_those_of_parquet(trained: MakeRun, command: Command, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    on, level = rng.random(80) < 0.5, rng.choice([1.0, 2.5], 80)
    sales = (on + level + rng.normal(size=80)).round(3)
    frame = pandas.DataFrame({"on": on, "level": level, "sales": sales})
    frame.to_parquet(tmp_path / "typed.parquet")
    run = trained(*COMMON, f"task.path={tmp_path / 'typed.parquet'}", "task.target=sales", "task.categories=[level]")
    assert command(run.directory, "--data", tmp_path / "typed.parquet", "--out", "p.parquet").code == 0
    rows = "\n".join(json.dumps(row) for row in frame.to_dict("records"))
    answers = command(run.directory, "--stream", stdin=rows).answers
    expected = pandas.read_parquet("p.parquet")["sales_predicted"]
    np.testing.assert_allclose([one["sales_predicted"] for one in answers], expected, 1e-5, 1e-6)


def test_each_series_has_intervals_of_its_own_width(
    make: Any, command: Command, folder: Path, tmp_path: Path
) -> None:
    run = make("task.group=shop", name="shops.csv")
    copy = tmp_path / "copy"
    shutil.copytree(run.directory, copy)
    interval = Interval(confidence=0.9, lower=[[-1.0]], upper=[[2.0]], split_lower=[[-7.0]], split_upper=[[9.0]])
    intervals = Intervals(horizon=1, targets=["sales"], calibration=9, scales={"s2": [3.0]}, intervals=[interval])
    (copy / "intervals.json").write_text(intervals.model_dump_json())
    frame = pandas.read_csv(folder / "shops.csv")
    assert command(copy, "--data", folder / "shops.csv", "--out", "p.csv").code == 0
    made = pandas.read_csv("p.csv").groupby("shop").nth(5).set_index("shop")
    answers = command(copy, "--stream", stdin=frame.groupby("shop").head(6).to_csv(index=False)).answers
    streamed = pandas.DataFrame(answers).groupby("shop").nth(5).set_index("shop")
    for found in (made, streamed):
        for shop, lower, upper in (("s1", -7, 9), ("s2", -3, 6)):
            one = found.loc[shop]
            assert one["sales_lower_90"] - one["sales_predicted"] == pytest.approx(lower, abs=1e-5)
            assert one["sales_upper_90"] - one["sales_predicted"] == pytest.approx(upper, abs=1e-5)


def test_a_series_whose_name_cannot_be_printed_has_intervals_of_its_own_width() -> None:
    one = np.ones((1, 1))
    ends = Ends(90, -one, one, -7 * one, 7 * one, {printable("a\x1b"): np.array([3.0])})
    assert [reach.item() for reach in ends.of("a\x1b")] == [-3, 3]
    assert [reach.item() for reach in ends.of("b")] == [-7, 7]
