"""The best evaluation: which metric is better when, and which weights are scored and saved."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from faults import assert_same, contents, part
from helpers import make_schedule
from test_resume import values_of

from seqrnn import components, evaluation, metrics, registry
from seqrnn.checkpoints import file
from seqrnn.errors import ConfigError
from seqrnn.recording.best import Best, check_metric
from seqrnn.rundir.reader import RunReader

Sine = registry.find("task", "sine")


class Graded(Sine):  # type: ignore[misc, valid-type]
    """A task from elsewhere with a metric of its own, which is better when it is higher."""

    higher_is_better: Any = ("f1",)

    def metrics(self, outputs: Any, targets: Any) -> dict[str, float]:
        found = metrics.regression(outputs, targets)
        return {**found, "f1": 1 / (1 + found["mae"]), "cost": found["mae"]}


class Undeclared(Graded):
    higher_is_better = None


class Careless(Graded):
    higher_is_better = "f1"


@pytest.fixture
def graded() -> Iterator[dict[str, Any]]:
    """The config of a run of such a task."""
    for name, task in (("graded", Graded), ("undeclared", Undeclared)):
        registry.register("task", name)(task)
    values = values_of("task=sine", "optimizer=sgd", optimizer={"lr": 0.5}, schedule={"evaluate_every": 3})
    values["task"]["name"] = "graded"
    yield values
    for name in ("graded", "undeclared"):
        del registry._components["task"][name]


@pytest.mark.parametrize(
    ("metric", "declared", "expected"),
    [
        ("mae", None, False), ("rmse", None, False), ("accuracy", None, True), ("r2", None, True),
        ("accuracy_first_2000", None, True), ("mae_left", ("f1",), False), ("maestro", None, None),
        ("f1", None, None),
        ("f1", ("f1",), True), ("cost", ("f1",), False), ("cost", (), False), ("mse", ("mse",), True),
    ],
)  # fmt: skip
def test_the_direction_of_a_metric_is_declared(metric: str, declared: Any, expected: bool | None) -> None:
    assert metrics.is_higher_better(metric, declared) is expected


def test_every_kind_of_task_and_every_loss_has_a_headline_metric_with_a_direction() -> None:
    for kind, judge in (("regression", metrics.regression), ("classification", metrics.classification)):
        computed = judge(torch.rand(4, 2).numpy(), torch.tensor([[0.0, 1.0]]).repeat(4, 1).argmax(1).numpy()[:, None])
        for loss in ("mse", "half_mse", "l1") if kind == "regression" else ("cross_entropy",):
            assert metrics.headline(kind, loss) in computed
        assert all(metrics.is_higher_better(name, None) is not None for name in (*computed, "loss"))


@pytest.mark.parametrize(
    ("metric", "values", "best"),
    [
        ("f1", [0.2, 0.7, 0.5], 0.7),
        ("cost", [0.2, 0.1, 0.5], 0.1),
        ("f1", [math.nan, 0.2, math.nan, 0.1], 0.2),
        ("cost", [math.nan, math.inf, 0.3, math.nan, -math.inf], 0.3),
        ("f1", [math.nan, math.nan], None),
    ],
)
def test_the_best_evaluation_has_the_best_finite_value(metric: str, values: list[float], best: float | None) -> None:
    network = torch.nn.Linear(1, 1)
    kept = Best(network, metric, Graded.__new__(Graded))
    for updates, value in enumerate(values):
        torch.nn.init.constant_(network.weight, updates)
        kept.consider({"updates": updates, "eval_loss": 1.0, f"eval_{metric}": value})
    assert kept.value == best
    if best is None:
        assert kept.weights == {}
    else:
        assert kept.updates == values.index(best) == kept.weights["weight"].item()


def names() -> dict[str, float]:
    return dict.fromkeys(("loss", "mae", "f1", "cost"), 0.0)


@pytest.mark.parametrize(
    ("metric", "task", "fragments"),
    [
        ("f11", Graded, ["checkpoint.best=f11: no such metric; did you mean f1?", "loss, mae, f1, cost"]),
        ("f1", Undeclared, ["checkpoint.best=f1", "not declared", "Undeclared", 'higher_is_better = ("f1",)']),
        ("f1", Careless, ["checkpoint.best=f1", "'f1', which is no collection", 'higher_is_better = ("f1",)']),
    ],
)
def test_a_metric_that_evaluations_cannot_be_compared_by_is_refused_with_a_remedy(
    metric: str, task: type, fragments: list[str]
) -> None:
    with pytest.raises(ConfigError) as caught:
        check_metric(metric, task.__new__(task), names)
    assert all(fragment in str(caught.value) for fragment in fragments)
    for good in (None, "loss", "cost"):
        check_metric(good, Graded.__new__(Graded), names)


def summary_of(directory: Path) -> dict[str, Any]:
    summary: dict[str, Any] = json.loads((directory / "summary.json").read_text(encoding="utf-8"))
    return summary


def test_a_run_keeps_the_weights_with_the_highest_value_of_a_metric_that_is_better_when_higher(
    graded: dict[str, Any], tmp_path: Path
) -> None:
    part({**graded, "checkpoint": {**graded["checkpoint"], "best": "f1"}}, tmp_path / "run")
    evaluations = RunReader(tmp_path / "run").metrics()["eval_f1"]
    best = summary_of(tmp_path / "run")["best"]
    assert best["value"] == evaluations[evaluations == evaluations].max() > evaluations[0]


@pytest.mark.parametrize(("name", "metric"), [("graded", "f2"), ("undeclared", "f1")])
def test_a_wrong_metric_is_found_before_anything_is_written(
    graded: dict[str, Any], name: str, metric: str, tmp_path: Path
) -> None:
    sound = {**graded, "task": {**graded["task"], "name": name}}
    wrong = {**sound, "checkpoint": {**sound["checkpoint"], "best": metric}}
    with pytest.raises(ConfigError, match=f"checkpoint.best={metric}"):
        part(wrong, tmp_path / "run")
    assert not (tmp_path / "run").exists()
    part(sound, tmp_path / "run", stop_at=6)
    before = contents(tmp_path / "run")
    with pytest.raises(ConfigError, match=f"checkpoint.best={metric}"):
        part({**wrong, "checkpoint": {**wrong["checkpoint"], "every": 6}}, tmp_path / "run", resuming=True)
    assert_same(contents(tmp_path / "run"), before)


# --- Which weights are scored and saved

# Learning at this rate, the loss falls at first and then rises.
OVERSHOOTS: dict[str, Any] = {"schedule": {"window": None, "evaluate_every": 2, "lr_decay": "constant"}}


def overshooting(**schedule: Any) -> dict[str, Any]:
    changes = {**OVERSHOOTS["schedule"], **schedule}
    return values_of("task=sine", "optimizer=sgd", optimizer={"lr": 1.2}, schedule=changes)


def test_the_best_are_kept_with_patience_and_where_asked_for() -> None:
    found = {
        (keep, patience): make_schedule(keep=keep, patience=patience).keeps_best
        for keep in (None, "last", "best")
        for patience in (None, 3)
    }
    assert [key for key, best in found.items() if best] == [(None, 3), ("best", None), ("best", 3)]


def test_keeping_the_best_needs_a_metric() -> None:
    values = values_of("task=sine", schedule={"patience": 3}, checkpoint={"best": None})
    with pytest.raises(ConfigError, match=r"schedule\.patience=3: .*checkpoint\.best=loss, or schedule\.keep=last"):
        components.check_config(values)
    values["schedule"]["keep"] = "last"
    components.check_config(values)


def losses_of(directory: Path) -> dict[int, float]:
    """Returns the validation loss by the number of updates."""
    found = RunReader(directory).metrics()
    return {
        int(updates): float(loss)
        for updates, loss in zip(found["updates"], found["eval_loss"], strict=True)
        if loss == loss
    }


def test_scores_predictions_and_weights_are_those_of_the_best_evaluation_or_of_the_last(tmp_path: Path) -> None:
    for keep in ("best", "last"):
        part(overshooting(keep=keep), tmp_path / keep)
    losses = losses_of(tmp_path / "best")
    assert losses == losses_of(tmp_path / "last")
    best, last = min(losses, key=lambda updates: losses[updates]), max(losses)
    assert 0 < best < last
    for keep, updates in (("best", best), ("last", last)):
        summary, reader = summary_of(tmp_path / keep), RunReader(tmp_path / keep)
        assert (summary["scored"], summary["scored_updates"]) == (keep, updates)
        run = components.build_components(overshooting())
        run.network.load_state_dict(reader.weights())
        context = run.context
        judged = evaluation.score(evaluation.predict(run.network, run.task.validation(), context), run.task, run.loss)
        assert judged["loss"] == losses[updates]
        predictions = evaluation.predict(run.network, run.task.test(), context)
        assert summary["test"] == evaluation.score(predictions, run.task, run.loss)
        assert (reader.predictions()["outputs"] == predictions.outputs).all()
        log = (tmp_path / keep / "train.log").read_text(encoding="utf-8")
        assert f"at update {updates}\n" in log
        (newest,) = (tmp_path / keep / "checkpoints").glob("*.safetensors")
        weights = RunReader(tmp_path / "last").weights()  # which a resumed run continues from, whatever is scored
        assert all(torch.equal(file.read(newest)["model"][name], weights[name]) for name in weights)
        assert all(torch.equal(one, two) for one, two in zip(
            reader.weights("best.safetensors").values(), RunReader(tmp_path / "best").weights().values(), strict=True
        ))  # fmt: skip


def test_patience_scores_the_best_evaluation(tmp_path: Path) -> None:
    part(overshooting(patience=2, epochs=200, max_updates=100), tmp_path)
    summary, losses = summary_of(tmp_path), losses_of(tmp_path)
    assert summary["stopped_early"] is True
    assert summary["scored"] == "best"
    assert losses[summary["scored_updates"]] == min(losses.values()) == summary["best_validation_loss"]


@pytest.mark.parametrize("stop", [4, 9, 17])
def test_a_resumed_run_scores_the_same_best_evaluation(stop: int, tmp_path: Path) -> None:
    values = overshooting(keep="best")
    part(values, tmp_path / "whole")
    part(values, tmp_path / "parts", stop_at=stop)
    interrupted, losses = summary_of(tmp_path / "parts"), losses_of(tmp_path / "parts")
    assert interrupted["scored"] == "best"
    assert losses[interrupted["scored_updates"]] == min(losses.values())
    reader = RunReader(tmp_path / "parts")
    best = reader.weights("best.safetensors")
    assert all(torch.equal(best[name], weight) for name, weight in reader.weights().items())
    part(values, tmp_path / "parts", resuming=True)
    assert_same(contents(tmp_path / "parts"), contents(tmp_path / "whole"))


def test_a_finished_run_can_be_scored_again_with_its_other_weights(tmp_path: Path) -> None:
    part(overshooting(keep="last"), tmp_path / "run")
    part(overshooting(keep="best"), tmp_path / "best")
    part(overshooting(keep="best"), tmp_path / "run", resuming=True)
    assert_same(contents(tmp_path / "run"), contents(tmp_path / "best"))


def test_an_extended_run_continues_from_the_last_weights(tmp_path: Path) -> None:
    part(overshooting(keep="best", max_updates=12), tmp_path / "run")
    part(overshooting(keep="best"), tmp_path / "run", resuming=True)
    part(overshooting(keep="best"), tmp_path / "whole")
    run, whole = contents(tmp_path / "run"), contents(tmp_path / "whole")
    assert run["weights.safetensors"] == whole["weights.safetensors"]
    assert losses_of(tmp_path / "run") == losses_of(tmp_path / "whole")
