"""Every file in conf/ composes, passes the checks and builds; every task learns with every model and schedule."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from seqrnn import config_files, registry, smoke
from seqrnn.components import build_components, problems_of, resolve_suggestions
from seqrnn.plugins import load_components
from seqrnn.settings import composed_values
from seqrnn.training import fit

CONF = Path(config_files.config_directory())
GROUPS = {
    group: sorted(path.stem for path in (CONF / group).glob("*.yaml"))
    for group in ("task", "model", "optimizer", "schedule", "experiment")
}


def composed(*overrides: str) -> dict[str, Any]:
    return composed_values(overrides)


@pytest.fixture(autouse=True, scope="module")
def _components() -> None:
    load_components()


@pytest.mark.first(20)
@pytest.mark.parametrize(("group", "choice"), [(group, choice) for group in GROUPS for choice in GROUPS[group]])
def test_every_choice_composes_and_builds(group: str, choice: str) -> None:
    assert problems_of(composed(f"{group}={choice}")) == []
    reads = choice == "csv" or choice.startswith("characters")
    generated = ["task.synthetic=true"] if reads else []  # instead of a file
    build_components(resolve_suggestions(composed(f"{group}={choice}", *generated)))


@pytest.mark.parametrize("kind", ["task", "model", "optimizer"])
def test_every_component_has_a_yaml_of_its_name_and_the_other_way_round(kind: str) -> None:
    ours = [name for name in registry.names(kind) if registry.find(kind, name).__module__.startswith("seqrnn.")]
    variants = ["irnn"] if kind == "model" else []  # settings of another one, under a name that the field knows
    assert ours == [name for name in GROUPS[kind] if name not in variants]  # tests register others


@pytest.mark.parametrize("choice", GROUPS["experiment"])
def test_every_experiment_says_its_command_source_and_expectation(choice: str) -> None:
    text = (CONF / "experiment" / f"{choice}.yaml").read_text(encoding="utf-8")
    assert f"#   command:  python -m seqrnn.train experiment={choice}\n" in text
    assert "#   source:   " in text
    assert "#   expect:   " in text


@pytest.mark.parametrize("path", sorted(CONF.rglob("*.yaml")), ids=lambda path: path.stem)
def test_every_file_explains_itself(path: Path) -> None:
    lines = path.read_text(encoding="utf-8").splitlines()
    first = lines[1] if lines[0].startswith("# @package") else lines[0]
    assert first.startswith("# ")
    assert yaml.safe_load("\n".join(lines))


@pytest.mark.covering(1, 2)
@pytest.mark.parametrize("schedule", GROUPS["schedule"])
@pytest.mark.parametrize("model", GROUPS["model"])
@pytest.mark.parametrize("task", GROUPS["task"])
def test_every_task_trains_with_every_model_and_schedule(task: str, model: str, schedule: str) -> None:
    values = composed(
        f"task={task}", f"model={model}", f"schedule={schedule}", "smoke=true", "schedule.max_updates=2"
    )
    run = build_components(smoke.shrink(resolve_suggestions(values)))
    before = {name: value.clone() for name, value in run.network.state_dict().items()}
    progress = fit(run)
    assert progress.position == 2
    assert progress.updates == sum(_has_targets(run, first) for first in (0, 1)) if schedule == "online" else 2
    moved = [name for name, value in run.network.state_dict().items() if not value.equal(before[name])]
    assert bool(moved) == bool(progress.updates)


def _has_targets(run: Any, timestep: int) -> bool:
    """Returns whether a target is valid there. An online schedule makes a step only then: MNIST has its first target
    after 28 timesteps."""
    return bool(run.task.train(0, 1)[0].read(timestep, timestep + 1).valid.any())


def test_a_task_chooses_a_schedule_and_the_command_line_has_the_last_word() -> None:
    assert composed("task=mnist")["schedule"]["streams"] == 64
    assert composed("task=mnist", "schedule=online")["schedule"]["streams"] == 1
    assert composed("task=mnist", "schedule.streams=7")["schedule"]["streams"] == 7
    assert composed("experiment=sine_online", "optimizer=adam")["optimizer"]["name"] == "adam"
    assert composed("experiment=sine_online", "model.hidden_size=9")["model"]["hidden_size"] == 9


def test_the_source_experiments_are_what_they_were() -> None:
    """The constants of the four source experiments: changing one is changing the experiment."""
    expected: dict[str, dict[str, Any]] = {
        "sine_online": {
            "task": {"start": 2.0, "stop": 10.0, "points": 21, "loss": "half_mse"},
            "model": {"name": "elman", "hidden_size": 6, "bias": False, "head_bias": False,
                      "init_std": {"cell.W.0": 0.4, "head.weight": 0.3}},
            "optimizer": {"name": "sgd", "lr": 0.1, "momentum": 0.0, "weight_decay": 0.0},
            "schedule": {"epochs": 300, "streams": 1, "window": 1, "carry": True, "clip_norm": None},
        },
        "sincos_lstm": {
            "task": {"train_pieces": 100, "test_pieces": 20, "points": 10, "continuous": False, "loss": "mse"},
            "model": {"name": "lstm", "hidden_size": 32, "num_layers": 1, "head": "linear"},
            "optimizer": {"name": "adam", "lr": 0.02},
            "schedule": {"epochs": 1, "streams": 1, "clip_norm": None},
        },
        "mnist_lstm": {
            "model": {"name": "lstm", "hidden_size": 64, "head": "linear"},
            "optimizer": {"name": "adam", "lr": 0.01},
            "schedule": {"epochs": 1, "streams": 64, "evaluate_every": 50, "clip_norm": None},
        },
        "integral_accumulated": {
            "task": {"gain": 0.1, "offset": 0.5, "jump_probability": 0.1, "low": 0.0, "high": 1.0, "leak": 0.0,
                     "jitter": 0.0, "train_timesteps": 250_000, "sequence_length": None, "loss": "l1"},
            "model": {"name": "gru", "hidden_size": 50, "head": "mlp", "head_size": 50},
            "optimizer": {"name": "adam", "lr": 0.0002, "beta1": 0.9, "beta2": 0.999, "eps": 1e-8},
            "schedule": {"streams": 1, "window": 2, "update_every": 50, "carry": True, "clip_norm": None},
        },
    }  # fmt: skip
    expected["sincos_lstm_carry"] = {
        **expected["sincos_lstm"],
        "task": {**expected["sincos_lstm"]["task"], "continuous": True},
        "schedule": {"epochs": 1, "streams": 1, "window": 10, "carry": True, "clip_norm": None},
    }
    expected["integral_forgetting"] = {
        **expected["integral_accumulated"],
        "schedule": {"streams": 1, "window": 2, "update_every": None, "carry": True, "clip_norm": None},
    }
    for name, groups in expected.items():
        values = composed(f"experiment={name}")
        assert values["schedule"]["lr_decay"] == "constant"
        for group, keys in groups.items():
            assert {key: values[group][key] for key in keys} == keys, name
