"""Against the baselines: predictors whose loss is known."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import StubTask, make_task
from runs import Dated, Linear, by_hand
from torch import nn

from seqrnn import evaluation
from seqrnn.diagnosis.instruments import baselines
from seqrnn.diagnosis.instruments.baselines import Baselines
from seqrnn.diagnosis.trained_run import TrainedRun
from seqrnn.rundir.strict_json import to_json
from seqrnn.tasks.protocol import stored


def constant(value: float, inputs: int = 1, outputs: int = 1) -> tuple[Linear, nn.Linear]:
    """Returns a network with a constant output."""
    head = nn.Linear(1, outputs)
    with torch.no_grad():
        head.weight.zero_()
        head.bias.fill_(value)
    return Linear(torch.zeros(1, 1), torch.zeros(1, inputs)), head


@dataclasses.dataclass
class Guess(StubTask):
    input_size: int = 1
    output_size: int = 1

    def baselines(self) -> Mapping[str, Any]:
        return {
            "one": lambda chunk: torch.ones_like(chunk.targets),
            "three": lambda chunk: 3 * torch.ones_like(chunk.targets),
            "floor (the target)": lambda chunk: chunk.targets,
        }


def guess(streams: int = 40, timesteps: int = 30) -> Guess:
    rng = torch.Generator().manual_seed(2)
    x = torch.randn(timesteps, streams, 1, generator=rng, dtype=torch.float64)
    return Guess([[stored(x, x)]])


def measured(value: float, task: Any) -> Baselines:
    cell, head = constant(value, task.input_size, task.output_size)
    return baselines.BaselinesInstrument().measure(by_hand(cell, task, head=head))


def test_a_network_that_says_what_a_baseline_says_has_a_ratio_of_one() -> None:
    found = measured(1.0, guess())
    assert found.best == "one"
    assert found.ratio is not None
    assert [found.ratio.value, found.ratio.low, found.ratio.high] == pytest.approx([1, 1, 1])
    assert [baseline.name for baseline in found.baselines] == ["one", "three", "floor (the target)"]
    assert [baseline.is_constant for baseline in found.baselines] == [True, True, False]


def test_ratios_and_losses_are_those_of_all_targets() -> None:
    task = guess()
    x = task.epochs[0][0].chunk.inputs
    found = measured(0.5, task)
    expected = float(((x - 0.5) ** 2).mean())
    assert found.loss.value == pytest.approx(expected)
    assert found.ratio is not None
    assert found.ratio.value == pytest.approx(expected / float(((x - 1) ** 2).mean()))
    assert found.ratio.low < found.ratio.value < found.ratio.high < 1
    three = found.baselines[1]
    assert three.loss.value == pytest.approx(float(((x - 3) ** 2).mean()))
    assert three.ratio.value == pytest.approx(expected / three.loss.value)
    assert (found.metric_name, found.metric) == ("mae", pytest.approx(float((x - 0.5).abs().mean())))


def test_a_floor_is_not_a_baseline_to_beat() -> None:
    found = measured(1.0, guess())
    floor = found.baselines[2]
    assert floor.loss.value == 0
    assert floor.ratio.value == np.inf
    assert found.best == "one"


def test_the_interval_is_as_wide_as_sequences_differ() -> None:
    """Sequences with a level of their own: their number, and not that of their timesteps, is what counts."""
    rng = torch.Generator().manual_seed(3)
    level = torch.randn(1, 40, 1, generator=rng, dtype=torch.float64)
    wide = measured(0.5, Guess([[stored(level.expand(500, -1, -1), level.expand(500, -1, -1))]]))
    narrow = measured(0.5, guess(40, 500))
    assert wide.ratio is not None
    assert narrow.ratio is not None
    assert wide.ratio.high - wide.ratio.low > 8 * (narrow.ratio.high - narrow.ratio.low)
    assert wide.independent == "40 sequences"


def test_sequences_that_share_their_dates_depend_on_each_other() -> None:
    """All targets of a date have its level: the number of dates, and not that of sequences, is what counts."""
    level = torch.randn(60, 1, 1, generator=torch.Generator().manual_seed(4), dtype=torch.float64).expand(-1, 40, -1)
    alone, together = stored(level, level), Dated(stored(level, level).chunk)
    narrow, wide = (measured(0.5, Guess([[batch]])) for batch in (alone, together))
    assert wide.independent == "40 sequences and 60 timesteps in blocks of 4"
    assert wide.ratio is not None
    assert narrow.ratio is not None
    assert narrow.ratio.high - narrow.ratio.low < 1e-6
    assert wide.ratio.high - wide.ratio.low > 0.1


def test_a_part_of_many_sequences_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(baselines, "MOST", 100)
    found = measured(1.0, guess(40, 30))
    assert (found.sequences, found.all_sequences) == (3, 40)
    monkeypatch.setattr(baselines, "MOST", 10)
    assert measured(1.0, guess(40, 30)).sequences == 1


def test_a_constant_predictor_of_the_integral_is_worth_its_baseline() -> None:
    task = make_task("integral")
    cell, head = constant(0.0)
    trained = by_hand(cell, task, head=head)
    chunk = task.test()[0].read(0, 300)
    with torch.no_grad():
        head.bias.fill_(float(task.baselines()["constant (median)"](chunk)[0, 0, 0]))
    found = baselines.BaselinesInstrument().measure(trained)
    of_median = next(one for one in found.baselines if one.name == "constant (median)")
    assert of_median.ratio.value == pytest.approx(1)
    scores = evaluation.score_baselines(
        evaluation.predict(trained.components.network, task.test(), trained.components.context),
        task,
        trained.components.loss,
    )
    assert of_median.loss.value == pytest.approx(scores["constant (median)"]["loss"])
    assert of_median.metric == pytest.approx(scores["constant (median)"]["mae"])


@pytest.mark.first(1)
@pytest.mark.covering(1)
@pytest.mark.parametrize("task", ["sine", "sincos", "integral", "mnist"])
@pytest.mark.parametrize("model", ["elman", "rnn", "gru", "lstm", "indrnn"])
def test_every_task_and_cell_has_numbers_that_agree_with_the_summary(
    task: str, model: str, diagnosed_run: Callable[..., Path]
) -> None:
    trained = TrainedRun(diagnosed_run(f"task={task}", f"model={model}", "smoke=true"))
    report = json.loads(to_json(baselines.BaselinesInstrument().measure(trained).model_dump()))
    assert report["loss"]["value"] == pytest.approx(trained.summary["test"]["loss"], rel=1e-4)
    assert report["metric"] == pytest.approx(trained.summary["test"][report["metric_name"]], rel=1e-4)
    assert report["ratio"]["low"] <= report["ratio"]["value"] <= report["ratio"]["high"]
    for one in report["baselines"]:
        assert one["loss"]["value"] == pytest.approx(trained.summary["baselines"][one["name"]]["loss"], rel=1e-4)
