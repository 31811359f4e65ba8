"""``python -m seqrnn.evaluate``: the test of runs again, in this process."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import seqrnn
from seqrnn import evaluate, evaluation
from seqrnn.assessment import command as evaluate_command
from seqrnn.assessment.command import evaluate as evaluate_runs
from seqrnn.assessment.judged import judge
from seqrnn.forecasting import bootstrap
from seqrnn.forecasting.verdict import LINEAR, difference_interval
from seqrnn.prediction import trained as trained_runs
from seqrnn.results import Run
from seqrnn.tasks.table_forecasts import forecasts_of

SMALL = ["plots.draw=false", "device=cpu", "threads=1", "kernel=torch", "model=elman", "model.hidden_size=4"]


class Result:
    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err

    def refused(self, *words: str) -> None:
        assert self.code == 2, self.out + self.err
        assert "Traceback" not in self.err
        for word in words:
            assert word in self.err


Command = Callable[..., Result]
MakeRun = Callable[..., Run]


@pytest.fixture
def command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Callable[..., Result]:
    """Runs ``python -m seqrnn.evaluate`` in an empty directory, on a screen of 80 columns."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")

    def run(*arguments: object) -> Result:
        capfd.readouterr()
        try:
            evaluate.main([str(argument) for argument in arguments])
            code = 0
        except SystemExit as stop:
            code = int(stop.code or 0)
        return Result(code, *capfd.readouterr())

    return run


@pytest.fixture(autouse=True)
def _few_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bootstrap, "RESAMPLES", 199)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> MakeRun:
    """Trains a small run, once for each list of overrides."""
    runs: dict[tuple[str, ...], Run] = {}

    def make(*overrides: str) -> Run:
        if overrides not in runs:
            directory = tmp_path_factory.mktemp("runs") / f"run{len(runs)}"
            runs[overrides] = seqrnn.run([*SMALL, *overrides, f"hydra.run.dir={directory}"], quiet=True)
        return runs[overrides]

    return make


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rng = np.random.default_rng(0)
    path = tmp_path_factory.mktemp("tables") / "series.csv"
    values = 10 + np.cumsum(rng.standard_normal(200)) / 5
    days = np.datetime64("2024-01-01") + np.arange(200)
    path.write_text("day,y\n" + "".join(f"{day},{value:.5f}\n" for day, value in zip(days, values, strict=True)))
    return path


def csv(table: Path, *overrides: str) -> tuple[str, ...]:
    return ("task=csv", f"task.path={table}", "task.warmup=8", "schedule.max_updates=3", *overrides)


def test_the_scores_are_those_of_the_summary_with_intervals(trained: MakeRun, command: Command) -> None:
    run = trained("task=sine", "smoke=true")
    result = command(run.directory)
    assert result.code == 0, result.err
    assert "note:" not in result.out  # no score differs from the summary's
    assert f"{run.directory.name} (elman, seed 0)" in result.out
    assert f"{run.summary['test']['mse']:.4g}" in result.out
    assert "intervals of 95 %, by the bootstrap over" in result.out
    assert all(len(line) <= 80 for line in result.out.splitlines())
    (assessment,) = evaluate_runs([run.directory])
    (scores_found,) = assessment.networks.values()
    for name, estimate in scores_found.items():
        assert estimate.value == pytest.approx(run.summary["test"][name], rel=1e-5)
    for name, scores in assessment.baselines.items():
        assert scores["mae"].value == pytest.approx(run.summary["baselines"][name]["mae"], rel=1e-5)


def test_a_summary_with_another_score_is_noticed(trained: MakeRun, command: Command, tmp_path: Path) -> None:
    run = trained("task=sine", "smoke=true", "seed=5")
    path = run.directory / "summary.json"
    summary = json.loads(path.read_text(encoding="utf-8"))
    summary["test"]["mae"] = 123.0
    path.write_text(json.dumps(summary), encoding="utf-8")
    assert "note: mae is" in command(run.directory).out


def test_runs_with_the_same_test_share_a_table_and_others_have_their_own(
    trained: MakeRun, command: Command, table: Path
) -> None:
    runs = [trained(*csv(table, f"seed={seed}")) for seed in (0, 1)]
    sine = trained("task=sine", "smoke=true")
    result = command(*(run.directory for run in runs), sine.directory, "--confidence", "0.8")
    assert result.code == 0, result.err
    assert result.out.count("intervals of 80 %") == 2
    assert result.out.count(f"\n{LINEAR}") == result.out.count("\nmean ")
    assert "the test of 3 runs" in result.out
    assert result.out.count(", rmse: +") == 2  # three updates do not beat the best baseline
    words = " ".join(result.out.split())
    verdicts = ("worse: it does not beat the baseline", "the data cannot tell which is better")
    assert sum(words.count(verdict) for verdict in verdicts) >= 2


def test_training_and_evaluation_agree_on_what_the_test_says(trained: MakeRun, table: Path) -> None:
    (assessment,) = evaluate_runs([trained(*csv(table)).directory])
    (difference,) = assessment.differences.values()
    run = trained_runs.load(trained(*csv(table)).directory)
    made = evaluation.predict(run.network(), run.task.test(), run.context)
    found = forecasts_of({"network": made, **dict(evaluation.predict_baselines(made, run.task))})
    baseline = found.made[difference.baseline]
    interval = difference_interval(found.times, found.actual, found.made["network"], baseline)
    assert interval == pytest.approx((difference.estimate.low, difference.estimate.high), rel=1e-4)


def test_each_value_that_is_judged_has_its_own_date(trained: MakeRun, tmp_path: Path) -> None:
    """So that the values of a day are drawn together, although one series begins 30 days after the other."""
    path, first = tmp_path / "two.csv", np.datetime64("2024-01-01", "D")
    lines = [f"{first + 30 * n + k},{'ab'[n]},{400 * n + 30 * n + k}" for n in range(2) for k in range(150)]
    path.write_text("\n".join(["day,shop,y", *lines]) + "\n")
    run = trained_runs.load(trained(*csv(path, "task.group=shop", "task.horizon=1")).directory)
    for found in (judge(run), judge(run, [path])):
        days = (found.times.astype("datetime64[ns]").astype("datetime64[D]") - first).astype(int)
        np.testing.assert_allclose(found.targets[:, 0, 0], 400 * found.sequences + days + 1)


@pytest.mark.parametrize("mode", ["direct", "recursive"])
def test_the_known_values_of_a_horizon_are_scored_where_others_are_missing(
    trained: MakeRun, tmp_path: Path, mode: str
) -> None:
    rng = np.random.default_rng(0)
    values = np.where(rng.random(300) < 0.2, np.nan, np.sin(np.arange(300)) + 0.1 * rng.standard_normal(300))
    lines = ["n,y", *(f"{n},{'' if np.isnan(value) else value}" for n, value in enumerate(values))]
    (tmp_path / "holes.csv").write_text("\n".join(lines) + "\n")
    settings = csv(tmp_path / "holes.csv", "task.horizon=4", f"task.mode={mode}")
    runs = [trained(*settings, f"seed={seed}") for seed in (0, 1)]
    (assessment,) = evaluate_runs([run.directory for run in runs], is_ensemble=True)
    found = next(each for name, each in assessment.networks.items() if "seed 0" in name)
    assert found["rmse"].value == pytest.approx(runs[0].summary["test"]["rmse"], rel=1e-5)
    assert found["rmse"].low < found["rmse"].value < found["rmse"].high
    assert len(runs[0].summary["forecast"]["by_step"]["elman"]["rmse"]) == 4
    assert np.isfinite(runs[0].summary["test"]["coverage_90"])


def test_an_ensemble_is_scored_beside_its_runs(trained: MakeRun, command: Command, table: Path) -> None:
    directories = [trained(*csv(table, f"seed={seed}")).directory for seed in (0, 1)]
    result = command(*directories, "--ensemble")
    assert result.code == 0, result.err
    assert "ensemble of 2" in result.out
    (found,) = evaluate_runs(directories, is_ensemble=True)
    mean, *members = (scores["rmse"].value for scores in found.networks.values())
    assert mean <= max(members)
    result = command(trained("task=sine", "smoke=true").directory, directories[0], "--ensemble")
    result.refused("--ensemble", "should have the same task")


def test_generated_data_of_an_ensemble_is_that_of_the_first_run(trained: MakeRun, command: Command) -> None:
    overrides = ("task=integral", "smoke=true", "schedule.max_updates=2")
    directories = [trained(*overrides, f"seed={seed}").directory for seed in (0, 1)]
    result = command(*directories, "--ensemble")
    assert result.code == 0, result.err
    assert "ensemble of 2" in result.out
    assert result.out.count("by the bootstrap") == 1


def test_an_ensemble_whose_runs_hold_out_different_sequences_is_refused(
    trained: MakeRun, command: Command, tmp_path: Path
) -> None:
    rng = np.random.default_rng(0)
    lines = [f"r{number},{rng.standard_normal():.4f},{'ab'[number % 2]}" for number in range(24) for _ in range(6)]
    path = tmp_path / "labels.csv"
    path.write_text("id,x,label\n" + "\n".join(lines) + "\n", encoding="utf-8")
    overrides = csv(path, "task.kind=classification", "task.target=label", "task.group=id", "task.time=null")
    runs = [trained(*overrides, f"seed={seed}") for seed in (0, 1)]
    command(*(run.directory for run in runs), "--ensemble").refused("seeds 0 and 1", "holds out different sequences")
    own, new = (command(runs[0].directory, *more).out for more in ((), ("--data", path)))
    for out in (own, new):
        assert "accuracy" in out
        assert "constant (class frequencies)" in out


def test_new_rows_are_scored_as_the_table_was_prepared(
    trained: MakeRun, command: Command, table: Path, tmp_path: Path
) -> None:
    directories = [trained(*csv(table, f"seed={seed}")).directory for seed in (0, 1)]
    result = command(*directories, "--data", table, "--ensemble")
    assert result.code == 0, result.err
    assert "new data of 2 runs" in result.out
    assert "persistence" in result.out
    lines = table.read_text(encoding="utf-8").splitlines()
    unlabelled = tmp_path / "short.csv"
    unlabelled.write_text("\n".join(lines[:2]) + "\n", encoding="utf-8")
    command(directories[0], "--data", unlabelled).refused("no timestep can be judged")


def test_new_rows_have_the_baselines_of_the_run_s_own_test(
    trained: MakeRun, command: Command, table: Path, tmp_path: Path
) -> None:
    run = trained(*csv(table))
    (own,) = evaluate_runs([run.directory])
    (found,) = evaluate_runs([run.directory], files=[table])
    assert list(found.baselines) == list(own.baselines)
    # The last 40 days of the table are its test, and the 8 before them set the state, as in the run's own test.
    lines = table.read_text(encoding="utf-8").splitlines(keepends=True)
    path = tmp_path / "last.csv"
    path.write_text("".join([lines[0], *lines[-49:]]), encoding="utf-8")
    (last,) = evaluate_runs([run.directory], files=[path])
    for name, scores in own.baselines.items():
        if name != LINEAR:  # whose lags reach back further than these rows
            assert last.baselines[name]["rmse"].value == pytest.approx(scores["rmse"].value, rel=1e-4)
    (network,), (expected,) = last.networks.values(), own.networks.values()
    assert network["rmse"].value == pytest.approx(expected["rmse"].value, rel=1e-4)
    result = command(run.directory, "--data", path)
    assert "the run was trained on" not in result.out
    assert "new data" in next(line for line in result.out.splitlines() if "rmse" in line)
    words = " ".join(command(run.directory, "--data", table).out.split())
    assert "the run was trained on 131 of the 191 timesteps that are judged" in words


def test_new_rows_of_several_targets_have_the_scores_of_the_run_s_own_test(
    trained: MakeRun, command: Command, tmp_path: Path
) -> None:
    rng = np.random.default_rng(0)
    walks = np.cumsum(rng.standard_normal((200, 2)), axis=0) * [1, 1000]
    lines = ["n,small,large\n", *(f"{n},{small},{large}\n" for n, (small, large) in enumerate(walks))]
    (tmp_path / "two.csv").write_text("".join(lines))
    run = trained(*csv(tmp_path / "two.csv", "task.target=[small,large]"))
    (tmp_path / "last.csv").write_text("".join([lines[0], *lines[-49:]]))  # the test, and the warm-up before it
    (own,), (new,) = (evaluate_runs([run.directory], files=files) for files in ([], [tmp_path / "last.csv"]))
    for name in ("mae", "rmse", "smape", "rmse_small", "rmse_large"):
        expected = own.baselines["persistence"][name].value
        assert new.baselines["persistence"][name].value == pytest.approx(expected, rel=1e-5)
        (network,), (repeated,) = ([one[name].value for one in each.networks.values()] for each in (own, new))
        assert repeated == pytest.approx(network, rel=1e-2)  # its first row has no change
    data = run.directory / "data.json"
    data.write_text(json.dumps(json.loads(data.read_text()) | {"deviations": []}))  # as of an older version
    (tmp_path / "two.csv").unlink()
    words = " ".join(command(run.directory, "--data", tmp_path / "last.csv").out.split())
    assert "the errors of the targets are averaged in their own units" in words


def test_tables_shorter_than_the_warm_up_are_judged(trained: MakeRun, command: Command, table: Path) -> None:
    run = trained(*(one for one in csv(table) if "warmup" not in one))
    lines = table.read_text(encoding="utf-8").splitlines(keepends=True)
    path = Path("new.csv")
    path.write_text("".join([lines[0], *lines[-41:]]), encoding="utf-8")
    result = command(run.directory, "--data", path)
    assert result.code == 0, result.err
    words = " ".join(result.out.split())
    assert "20 rows set the state before what is judged (the run takes up to 256)" in words
    assert "put the earlier rows of each sequence in front of the new ones, in one file" in words


def test_without_its_training_data_a_run_has_the_other_baselines(
    trained: MakeRun, command: Command, table: Path, tmp_path: Path
) -> None:
    path = tmp_path / "mine.csv"
    path.write_text(table.read_text(encoding="utf-8"), encoding="utf-8")
    run = trained(*csv(path))
    path.unlink()
    words = " ".join(command(run.directory, "--data", table).out.split())
    assert f"{LINEAR} is left out: task.path=" in words
    assert "cannot be read here" in words
    assert "persistence" in words
    assert "the run was trained on" not in words


def test_a_file_that_has_changed_since_is_noticed(
    trained: MakeRun, command: Command, table: Path, tmp_path: Path
) -> None:
    path = tmp_path / "mine.csv"
    path.write_text(table.read_text(encoding="utf-8"), encoding="utf-8")
    run = trained(*csv(path))
    path.write_text(table.read_text(encoding="utf-8").replace(",1", ",2"), encoding="utf-8")
    command(run.directory).refused("has changed since the run was trained on it", "--data FILE")
    path.unlink()
    command(run.directory).refused("mine.csv")


def test_files_beside_run_directories_are_left_out(trained: MakeRun, command: Command, tmp_path: Path) -> None:
    run = trained("task=sine", "smoke=true")
    sweep = tmp_path / "sweep"
    sweep.mkdir()
    (sweep / "multirun.yaml").write_text("a: 1", encoding="utf-8")
    (sweep / "0").symlink_to(run.directory)
    result = command(*sorted(sweep.glob("*")))
    assert result.code == 0, result.err
    assert "the test of 1 run" in result.out
    command(sweep / "0", sweep / "multirun.yaml", "--ensemble").refused("takes two run directories or more")
    command(sweep / "0", sweep).refused("sweep: is not a run directory, but holds some: write", "sweep/*")
    (tmp_path / "plain").mkdir()
    command(sweep / "0", tmp_path / "plain").refused("plain: not a run directory")
    command(sweep / "multirun.yaml").refused("not a run directory")


def test_mistakes_on_the_command_line_are_explained(trained: MakeRun, command: Command, tmp_path: Path) -> None:
    directory = trained("task=sine", "smoke=true").directory
    command(tmp_path / "nowhere").refused("not a run directory")
    command(directory, "--confidence", "95").refused("should be a number from 0.5 to 0.999")
    command(directory, "--ensemble").refused("takes two run directories or more")
    command(directory, "--data", "new.csv").refused("reads none from files")


def test_of_a_long_directory_the_end_is_shown() -> None:
    values = {"model": {"name": "gru"}, "seed": 2}

    def name_of(directory: str) -> str:
        run = SimpleNamespace(run=SimpleNamespace(directory=Path("/runs") / directory), values=values)
        return evaluate_command._name(run)  # type: ignore[arg-type]

    assert name_of("2026-01-01_10-11-12-123456-77") == "2026-01-01_10-11-12-123456-77 (gru, seed 2)"
    assert name_of("task-csv_path-daily-min-temperatures.csv_seed-2_4832818cb8") == "…4832818cb8 (gru, seed 2)"
