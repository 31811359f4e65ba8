"""What stands out in a config, or is shown by the curves of a run, without any measurement."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from test_remedies import run_of

from seqrnn.diagnosis.instrument import Examination
from seqrnn.diagnosis.remedies import remedies_for
from seqrnn.diagnosis.run_findings import findings_of_run

USUAL = ("task=delayed_echo", "task.delay=6", "task.length=200", "task.train_sequences=320", "schedule.streams=16",
         "schedule.window=20", "schedule.epochs=5")  # fmt: skip


def found_in(overrides: Sequence[str], updates: int = 1000, **metrics: Sequence[float]) -> list[str]:
    """Returns the names of the findings, having checked that the remedy that undoes each of them is offered."""
    run = run_of(*USUAL, *overrides)
    run.__dict__["updates_made"] = updates
    run.summary = {"baselines": {"persistence": {"loss": 5.0}, "floor (best)": {"loss": 1e-9}}}
    run.metrics = {name: np.array(values) for name, values in metrics.items()}
    findings = findings_of_run(run)
    for finding in findings:
        offered = [remedy.name for remedy in remedies_for(finding.remedies, Examination(), run)]
        assert finding.remedies[0] in offered or finding.name == "memorised"
    return [finding.name for finding in findings]


@pytest.mark.parametrize(
    ("overrides", "updates", "name"),
    [
        (["schedule.warmup=30000"], 1000, "warmup"),
        (["schedule.update_every=320"], 65, "few_updates"),
        (["schedule.streams=128"], 150, "few_updates"),
        (["schedule.streams=1"], 16_000, "noise"),
        (["schedule.max_updates=40"], 40, "underfit"),
        (["schedule.window=3", "schedule.carry=true"], 7000, "window"),
        (["schedule.carry=false"], 1000, "carry"),
        (["model.hidden_size=2"], 1000, "few_units"),
        (["++model.init_std={cell.stack.weight_hh_l0: 5.0}"], 1000, "initial_scale"),
        (["model=tcn", "model.num_layers=1", "model.kernel_size=2"], 1000, "receptive_field"),
    ],
)
def test_a_setting_that_stands_out_is_found(overrides: list[str], updates: int, name: str) -> None:
    assert found_in(overrides, updates) == [name]


@pytest.mark.parametrize(
    "overrides",
    [[], ["schedule.warmup=100"], ["schedule.update_every=40"], ["schedule.window=null"], ["model=irnn"],
     ["model=tcn"], ["schedule.window=5", "schedule.stride=1"], ["schedule.max_updates=400"]],
    ids=" ".join,
)  # fmt: skip
def test_what_is_usual_is_no_finding(overrides: list[str]) -> None:
    assert found_in(overrides, 400, eval_loss=[1.0, 0.5, 0.2, 0.1, 0.1, 0.1], train_loss=[0.5, 0.09]) == []


def test_gradients_far_beyond_the_norm_that_they_are_clipped_to_are_found() -> None:
    clipped = ["schedule.clip_norm=0.001"]
    assert found_in(clipped, gradient_norm=[3.0, 0.05, np.nan, 0.02]) == ["clipping"]
    assert found_in(clipped, gradient_norm=[3.0, 0.002, 0.001]) == []


@pytest.mark.parametrize(
    ("validation", "training", "names"),
    [
        ([9.0, 1.0, 0.8, 1.0, 1.2, 1.3], [1.0] * 9 + [0.1], ["memorised"]),
        ([9.0, 1.0, 0.8, 1.0, 1.2, 1.3], [1.0] * 9 + [1.25], []),  # worse on training data too: it is unstable
        ([900, 40, 9.0, 20, 30, 40], [10.0] * 10, []),  # worse than a trivial predictor: it is unstable, too
        ([9.0, 1.0, 0.9, 0.8, 0.7, 0.75], [1.0] * 9 + [0.1], []),  # best at the end
        ([9.0, 1.0, 0.8, 0.81, 0.8, 0.82], [1.0] * 9 + [0.1], []),  # hardly worse than it was
    ],
)
def test_a_validation_loss_that_rises_above_the_training_loss_is_learning_by_heart(
    validation: list[float], training: list[float], names: list[str]
) -> None:
    assert found_in([], eval_loss=validation, train_loss=training) == names
    assert found_in(["schedule.keep=best"], eval_loss=validation, train_loss=training) == []
