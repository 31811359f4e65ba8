"""Loggers: each gets the rows of metrics.csv under their names, none ends a run, and a resumed run stays one run."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib import util
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import Finished

from seqrnn import registry
from seqrnn.components import problems_of
from seqrnn.recording.loggers.protocol import LoggedRun
from seqrnn.rundir.reader import RunReader
from seqrnn.settings import composed_values

Command = Callable[..., Finished]
QUICK = ("experiment=sine_online", "smoke=true", "plots.draw=false", "kernel=torch")
# One that ends half-way, and can be resumed.
SHORT = ("experiment=sine_online", "plots.draw=false", "kernel=torch", "schedule.evaluate_every=5", "log_every=2")


class Recording:
    """Keeps the calls that it gets."""

    package = "json"
    calls: list[tuple[str, Any]]
    fails_at: str = ""

    def __init__(self, run: LoggedRun) -> None:
        self.identifier = run.known_as or f"new-{len(self.calls)}"
        self._tell("begin", run)

    def record(self, rows: Sequence[Mapping[str, Any]]) -> None:
        self._tell("record", [dict(row) for row in rows])

    def rewind(self, timesteps: int) -> None:
        self._tell("rewind", timesteps)

    def close(self, status: str, scores: Mapping[str, float]) -> None:
        self._tell("close", (status, dict(scores)))

    def _tell(self, name: str, what: Any) -> None:
        self.calls.append((name, what))
        if name == self.fails_at:
            raise OSError("No space left on device")


@pytest.fixture
def logger() -> Iterator[type[Recording]]:
    class Fresh(Recording):
        pass

    Fresh.calls = []

    known = dict(registry._components["logger"])
    registry.register("logger", "recording")(Fresh)
    yield Fresh
    registry._components["logger"] = known


def numbers(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    return [{key: value for key, value in row.items() if value is not None} for row in rows]


def written(directory: Path) -> list[dict[str, Any]]:
    lines = (directory / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return numbers([json.loads(line) for line in lines])


def test_a_logger_gets_the_rows_of_the_metrics_and_the_test_scores(command: Command, logger: type[Recording]) -> None:
    finished = command(*QUICK, "logger=recording")
    assert finished.exit_code == 0, finished.err
    assert logger.calls[0][0] == "begin"
    run = logger.calls[0][1]
    assert run.parameters["optimizer.lr"] == 0.1
    assert (run.resumed_at, run.known_as, run.headline) == (None, None, "mse")
    rows = [row for name, rows in logger.calls if name == "record" for row in rows]
    assert numbers(rows) == written(finished.directory)
    status, scores = logger.calls[-1][1]
    assert status == "finished"
    assert scores == {f"test_{name}": value for name, value in finished.summary["test"].items()}


@pytest.mark.parametrize("fails_at", ["record", "close"])
def test_a_logger_that_fails_is_named_once_and_the_run_continues(
    fails_at: str, command: Command, logger: type[Recording]
) -> None:
    logger.fails_at = fails_at
    finished = command(*QUICK, "logger=[recording]")
    assert finished.exit_code == 0, finished.err
    assert finished.summary["status"] == "finished"
    assert (
        " ".join(finished.out.split()).count("logger=recording has failed and gets nothing more: No space left") == 1
    )
    assert [name for name, _ in logger.calls].count(fails_at) == 1


def test_a_logger_that_cannot_be_started_ends_the_command_before_training(
    command: Command, logger: type[Recording]
) -> None:
    logger.fails_at = "begin"
    finished = command(*QUICK, "logger=recording")
    assert finished.exit_code == 2
    assert "logger=recording: cannot be started: No space left" in finished.out + finished.err


def test_a_resumed_run_is_the_same_run_for_its_loggers(command: Command, logger: type[Recording]) -> None:
    assert command(*SHORT, "logger=recording", "schedule.max_updates=10").exit_code == 0
    resumed = command("resume=run", "schedule.max_updates=20")
    assert resumed.exit_code == 0, resumed.err
    first, second = [what for name, what in logger.calls if name == "begin"]
    assert first.known_as is None
    assert second.known_as == "new-0"
    assert second.resumed_at == 10
    rows = [row for name, rows in logger.calls if name == "record" for row in rows]
    assert numbers(rows) == written(resumed.directory)
    assert "rewind" not in [name for name, _ in logger.calls]


@pytest.mark.long
def test_loggers_get_to_know_of_a_rollback(command: Command, logger: type[Recording]) -> None:
    command(*SHORT, "logger=recording", "schedule.max_updates=200", "on_divergence=rollback", "checkpoint.every=10",
            "optimizer.lr=1e4", "schedule.clip_norm=null")  # fmt: skip
    assert "rewind" in [name for name, _ in logger.calls]


def test_what_is_wrong_with_loggers(monkeypatch: pytest.MonkeyPatch) -> None:
    (problem,) = problems_of(composed_values(["logger=tensorbord"]))
    assert problem.startswith("logger=tensorbord: no such logger; did you mean tensorboard? (there are: mlflow,")
    monkeypatch.setattr("seqrnn.components.find_spec", lambda name: None if name == "wandb" else util.find_spec(name))
    (problem,) = problems_of(composed_values(["logger=[tensorboard,wandb]"]))
    assert problem == "logger=wandb: wandb is not installed; pip install 'seqrnn[wandb]', or leave the logger out"
    (problem,) = problems_of(composed_values(["logger=3"]))
    assert "logger=3" in problem


def test_a_package_that_a_logger_lacks_is_named_as_pip_installs_it(
    logger: type[Recording], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logger, "package", "not_an_extra")
    (problem,) = problems_of(composed_values(["logger=recording"]))
    assert problem.endswith("not_an_extra is not installed; pip install not_an_extra, or leave the logger out")


@pytest.mark.long
def test_mlflow_holds_one_run_with_the_rows_of_the_metrics(command: Command) -> None:
    pytest.importorskip("mlflow")
    assert command(*SHORT, "logger=mlflow", "schedule.max_updates=10").exit_code == 0
    resumed = command("resume=run", "schedule.max_updates=20")
    assert resumed.exit_code == 0, resumed.err
    from mlflow.tracking import MlflowClient

    client = MlflowClient(f"sqlite:///{Path('outputs/mlflow.db').absolute()}")
    (experiment,) = [one for one in client.search_experiments() if one.name == "seqrnn"]
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.status == "FINISHED"
    assert run.data.params["optimizer.lr"] == "0.1"
    assert run.data.metrics["test_mse"] == resumed.summary["test"]["mse"]
    metrics = RunReader(resumed.directory).metrics()
    for name in ("train_loss", "eval_mse", "lr"):
        known = ~np.isnan(metrics[name])
        history = sorted((one.step, one.value) for one in client.get_metric_history(run.info.run_id, name))
        assert history == sorted(
            zip(metrics["timesteps"][known].tolist(), metrics[name][known].tolist(), strict=True)
        )


@pytest.mark.long
def test_wandb_stays_offline_and_a_resumed_run_keeps_its_name(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("wandb")
    monkeypatch.delenv("WANDB_MODE", raising=False)
    finished = command(*SHORT, "logger=wandb", "schedule.max_updates=10")
    assert finished.exit_code == 0, finished.err
    assert "has failed" not in finished.out
    resumed = command("resume=run", "schedule.max_updates=20")
    assert resumed.exit_code == 0, resumed.err
    files = [*resumed.directory.glob("wandb/offline-run-*/*.wandb")]  # wandb sync puts files of one name together
    assert len(files) == 2
    assert len({file.stem for file in files}) == 1
    for name in (b"eval_mse", b"test_mse", b"optimizer.lr"):
        assert all(name in file.read_bytes() for file in files)
    assert os.environ["WANDB_ERROR_REPORTING"] == "false"
