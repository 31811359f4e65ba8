"""Continued training equals the uninterrupted, longer run."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from runs import make_run

from seqrnn.diagnosis import continued_training
from seqrnn.diagnosis.continued_training import TIMED, ContinuedTraining
from seqrnn.diagnosis.trained_run import TrainedRun
from seqrnn.errors import Diverged
from seqrnn.schedule import Schedule

PLAIN = (
    "optimizer=sgd",
    "optimizer.lr=0.05",
    "precision=float64",
    "model.hidden_size=6",
    "schedule.lr_decay=constant",
)
INTEGRAL = ("task=integral", "task.train_timesteps=120", "task.test_timesteps=50", "task.test_sequences=2", *PLAIN)
SINCOS = (
    "task=sincos", "task.continuous=false", "task.train_pieces=10", "task.test_pieces=2", "task.points=9", *PLAIN,
)  # fmt: skip
FEW = 2 * TIMED  # updates that fill what has no memory


def weights_of(directory: Path) -> torch.Tensor:
    return torch.cat([part.reshape(-1) for part in TrainedRun(directory).components.network.parameters()]).detach()


@pytest.mark.first(3)
@pytest.mark.parametrize("model", ["gru", "elman"])
@pytest.mark.parametrize(
    ("overrides", "before"),
    [
        ((*INTEGRAL, "schedule.streams=2", "schedule.window=5"), 12),  # an epoch
        ((*INTEGRAL, "schedule.streams=2", "schedule.window=6", "schedule.stride=3", "schedule.update_every=6"), 20),
        ((*INTEGRAL, "schedule.streams=3", "schedule.window=7", "schedule.update_every=14"), 6),  # short windows
        ((*INTEGRAL, "schedule.streams=2", "schedule.window=5", "schedule.carry=false"), 7),  # within an epoch
        ((*INTEGRAL, "schedule.streams=2", "schedule.window=8", "schedule.stride=2", "schedule.carry=false"), 17),
        ((*SINCOS, "schedule=full", "schedule.lr_decay=constant", "schedule.streams=4"), 4),  # several batches
        ((*SINCOS, "schedule.streams=4", "schedule.window=4", "schedule.update_every=12"), 6),
        ((*SINCOS, "schedule.streams=4", "schedule.window=4", "schedule.clip_norm=0.01"), 9),
    ],
    ids=lambda value: " ".join(value[5:]) if isinstance(value, tuple) else str(value),
)
def test_continued_training_equals_an_uninterrupted_one(
    overrides: tuple[str, ...], before: int, model: str, tmp_path: Path
) -> None:
    overrides = (*overrides, f"model={model}", "schedule.epochs=40", "model.hidden_size=6")
    short = make_run(tmp_path / "short", *overrides, f"schedule.max_updates={before}")
    long = make_run(tmp_path / "long", *overrides, f"schedule.max_updates={before + FEW + 7}")
    files = {path.name: path.read_bytes() for path in short.rglob("*") if path.is_file()}
    trained = TrainedRun(short)
    own = weights_of(short)
    training = ContinuedTraining(trained, 0.0)
    assert training.settled == FEW
    training.train(7)
    training.close()
    torch.testing.assert_close(training.weights(), weights_of(long), rtol=0, atol=1e-12)
    assert training.position == TrainedRun(long).position
    # The run itself is as it was.
    now = torch.cat([part.reshape(-1) for part in trained.components.network.parameters()])
    assert torch.equal(now, own)
    assert not torch.equal(training.weights(), own)
    assert {path.name: path.read_bytes() for path in short.rglob("*") if path.is_file()} == files


@pytest.mark.parametrize(
    ("decay", "factor"),
    [("constant", 1.0), ("cosine", 0.0), ("step", 0.25), ("plateau", 0.25)],
)
def test_it_continues_at_the_rate_of_the_last_update(decay: str, factor: float, tmp_path: Path) -> None:
    overrides = (*INTEGRAL, "schedule.streams=2", "schedule.window=5", f"schedule.lr_decay={decay}")
    never = "schedule.evaluate_every=4", "optimizer.lr=1e-300" if decay == "plateau" else "seed=0"
    steps = (
        ("schedule.lr_patience=1", "schedule.lr_reduction=0.5") if decay == "plateau" else ("schedule.lr_every=5",)
    )
    run = make_run(tmp_path / "run", *overrides, *never, *steps)
    trained = TrainedRun(run)
    training = ContinuedTraining(trained, 0.0)
    training.close()
    expected = trained.metrics["lr"][-1] / trained.values["optimizer"]["lr"]
    assert training.lr_factor == pytest.approx(expected, abs=1e-12)
    if decay == "plateau":
        assert training.lr_factor <= 0.25  # no evaluation brought an improvement
    else:
        assert training.lr_factor == pytest.approx(factor)


def test_it_says_so_when_it_diverges(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", *SINCOS, "schedule.streams=4", "schedule.window=9", "schedule.clip_norm=null")
    trained = TrainedRun(run)
    trained.values["optimizer"]["lr"] = 1e200
    with pytest.raises(Diverged):
        ContinuedTraining(trained, 0.0)


def test_filling_the_memory_of_an_optimizer_ends_in_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = make_run(tmp_path / "run", *INTEGRAL, "schedule.streams=2", "schedule.window=5")
    monkeypatch.setattr(continued_training, "SETTLED", 60)
    training = ContinuedTraining(TrainedRun(run), 1000.0)
    assert training.settled == 60
    training.close()
    assert isinstance(training.components.schedule, Schedule)
