"""optimizer=ridge: the head in closed form."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from helpers import CPU64, StubTask, make_monitor, make_network, make_schedule, random_batch, whole
from omegaconf import OmegaConf

from seqrnn import loop, registry
from seqrnn.components import Components
from seqrnn.diagnosis.instruments.reach import ReachInstrument
from seqrnn.diagnosis.instruments.truncation import TruncationInstrument
from seqrnn.errors import ConfigError, DataError
from seqrnn.losses import LOSSES
from seqrnn.models.unroll import unroll
from seqrnn.strategies.choice import choose
from seqrnn.strategies.ridge import RidgeRegression
from seqrnn.strategies.strategy_state import StrategyState


def components_of(task: Any, schedule: Any, network: Any = None, **settings: Any) -> Components:
    network = network or make_network("esn", 2, 2, hidden_size=6)
    values = {"name": "ridge", "ridge": 0.1, "washout": 0, **settings}
    optimizer = registry.build("optimizer", values, network.parameters())
    return Components({}, OmegaConf.create(), task, LOSSES[task.loss], network, optimizer, schedule, CPU64)  # type: ignore[arg-type]


def trained(task: Any, schedule: Any, network: Any = None, **settings: Any) -> RidgeRegression:
    strategy = choose(components_of(task, schedule, network, **settings))
    assert isinstance(strategy, RidgeRegression)
    loop.train(task, schedule, strategy, make_monitor(task, schedule))
    return strategy


def fitted(task: Any, network: Any, ridge: float, washout: int, bias: bool) -> Any:
    """The same fit by least squares on all of the data at once: a penalty is √ridge more rows for each unit."""
    rows, targets = [], []
    for batch in task.epochs[0]:
        data = whole(batch)
        with torch.no_grad():
            hidden, _ = unroll(
                network.recur, network.initial_state, data.inputs, data.starts, network.initial_state(batch.streams)
            )
        for stream in range(batch.streams):
            age = -1
            for t in range(batch.timesteps):
                age = 0 if t == 0 or data.starts[t, stream] else age + 1
                if data.valid[t, stream] and age >= washout:
                    rows.append([*hidden[t, stream].tolist(), *([1.0] if bias else [])])
                    targets.append(data.targets[t, stream].tolist())
    size = len(rows[0])
    penalty = np.sqrt(ridge) * np.eye(size)[: network.cell.output_size]
    wide, high = np.vstack([rows, penalty]), np.vstack([targets, np.zeros((len(penalty), 2))])
    return np.linalg.lstsq(wide, high, rcond=None)[0]


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("washout", [0, 3])
@pytest.mark.parametrize(
    "cuts",
    [
        {"window": None},
        {"window": 4},
        {"window": 5, "stride": 2, "update_every": 6},
        {"window": 3, "update_every": 30},
    ],
    ids=str,
)
@pytest.mark.parametrize("model", ["esn", "lstm"])
def test_the_head_is_that_of_one_fit_to_all_of_the_data(model: str, cuts: Any, washout: int, bias: bool) -> None:
    task = StubTask([[random_batch(31, 3, seed=1), random_batch(17, 2, seed=2)]])
    network = make_network(model, 2, 2, hidden_size=6, head_bias=bias)
    before = {name: weight.clone() for name, weight in network.cell.state_dict().items()}
    trained(task, make_schedule(**cuts, carry=True), network, washout=washout)
    expected = fitted(task, network, 0.1, washout, bias)
    np.testing.assert_allclose(network.head.weight.detach().T, expected[:6], rtol=1e-8, atol=1e-9)
    if bias:
        np.testing.assert_allclose(network.head.bias.detach(), expected[6], rtol=1e-8, atol=1e-9)
    assert all(torch.equal(weight, before[name]) for name, weight in network.cell.state_dict().items())


def test_a_restored_fit_continues_as_if_it_had_not_stopped() -> None:
    epochs = [[random_batch(30, 2, seed=1)], [random_batch(30, 2, seed=2)]]
    schedule = make_schedule(window=5, epochs=2, carry=True)
    whole_run = trained(StubTask(epochs), schedule)
    first = trained(StubTask(epochs[:1]), make_schedule(window=5, carry=True))
    state = first.state(2, [])
    second = choose(components_of(StubTask(epochs[1:]), schedule, first.network))
    second.restore(state)
    loop.train(
        StubTask(epochs[1:]),
        make_schedule(window=5),
        second,
        make_monitor(StubTask(epochs[1:]), make_schedule(window=5)),
    )
    assert torch.equal(whole_run.network.head.weight, second.network.head.weight)
    with pytest.raises(DataError, match=r"lack gram of shape \(7, 7\)"):
        second.restore(StrategyState({}, state.groups, {}))


def test_units_that_are_all_alike_are_no_obstacle() -> None:
    network = make_network("esn", 2, 2, hidden_size=6, input_scale=0.0, bias_scale=0.0)  # nothing but zeros
    batch = random_batch(20, 2, valid=1.0)
    trained(StubTask([[batch]]), make_schedule(), network, ridge=1e-300)
    assert network.head.weight.isfinite().all()
    torch.testing.assert_close(network.head.bias.detach(), whole(batch).targets.mean(dim=(0, 1)))


@pytest.mark.parametrize(
    ("task", "changes", "message"),
    [
        (StubTask([[random_batch(6, 2)]], loss="l1"), {}, "the loss of this task is l1; set task.loss=mse"),
        (
            StubTask([[random_batch(6, 2)]]),
            {"head": "mlp"},
            "computes a linear head in closed form; set model.head=linear",
        ),
    ],
    ids=["loss", "head"],
)
def test_what_ridge_regression_cannot_compute_is_refused(task: Any, changes: Any, message: str) -> None:
    network = make_network("gru", 2, 2, **changes)
    with pytest.raises(ConfigError, match=message):
        choose(components_of(task, make_schedule(), network))


def test_a_gradient_that_nobody_needs_is_refused() -> None:
    task, schedule = StubTask([[random_batch(6, 2)]]), make_schedule(gradient="rtrl", carry=True)
    with pytest.raises(ConfigError, match=r"needs no gradient of the cell.* set schedule\.gradient=bptt"):
        choose(components_of(task, schedule))
    network = make_network("esn")
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    components = replace(components_of(task, schedule, network), optimizer=optimizer)
    with pytest.raises(ConfigError, match="this cell has no parameters that are trained"):
        choose(components)


def test_the_command_fits_and_resumes_bit_for_bit(command: Any, tmp_path: Path) -> None:
    line = ["task=narma", "model=esn", "optimizer=ridge", "smoke=true", "plots.draw=false", "schedule.window=20"]
    whole_run = replace(command(*line, "hydra.run.dir=whole"), directory=tmp_path / "whole")
    assert whole_run.exit_code == 0, whole_run.err
    updates = whole_run.summary["updates"]
    assert updates > 2
    assert whole_run.summary["test"]["loss"] < whole_run.summary["baselines"]["constant (mean)"]["loss"]
    assert re.search(r"^ *optimizer +ridge$", whole_run.out, re.MULTILINE)

    stopped = command(*line, "schedule.max_updates=2")
    assert stopped.exit_code == 0, stopped.err
    resumed = command("resume=run", f"schedule.max_updates={updates}")
    assert resumed.exit_code == 0, resumed.err
    expected = (whole_run.directory / "weights.safetensors").read_bytes()
    assert (resumed.directory / "weights.safetensors").read_bytes() == expected


@pytest.mark.parametrize("instrument", [ReachInstrument, TruncationInstrument])
def test_a_cell_without_parameters_has_no_gradient_to_measure(instrument: Any) -> None:
    components = components_of(StubTask([[random_batch(6, 2)]]), make_schedule())
    run = SimpleNamespace(components=components, network=components.network, budget=SimpleNamespace(check=None))
    with pytest.raises(DataError, match="the cell has no parameters, so"):
        instrument().measure(run)
