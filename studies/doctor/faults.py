"""The faults that are planted, and the findings that name each of them.

The table of names was fixed before any result of a diagnosis was looked at.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from studies.doctor.recipes import DRAWN, REGRESSIONS, STACKED, Recipe

MODERATE, SEVERE = 0, 1
SEVERITIES = (MODERATE, SEVERE)
LEARNABLE = 320  # updates of a training on little data that has not learned it by heart
Change = dict[str, Any]  # keys as typed on the command line, and their values
Make = Callable[[Recipe, int], Change]  # of a severity


def _nothing(recipe: Recipe, severity: int) -> Change:
    return {}


@dataclass(frozen=True)
class Fault:
    """A fault that can be planted into a healthy config.

    Args:
        name: of the fault.
        findings: names of the findings that are right as the first cause.
        applies: whether it can be planted into a recipe.
        changes: what is wrong, by severity: those of ``SEVERITIES``.
        shared: what the config has with the fault and without it, such as data that can be learned by heart.
        by_line: whether a config can undo it; else it is in the data, and a line can do little.
        measure: the test score that is compared, where the loss is not.
    """

    name: str
    findings: frozenset[str]
    applies: Callable[[Recipe], bool]
    changes: Make
    shared: Make = _nothing
    by_line: bool = True
    measure: str = "loss"

    def healthy(self, recipe: Recipe, severity: int) -> dict[str, Any]:
        """Returns the config without the fault."""
        return with_changes(recipe, self.shared(recipe, severity))

    def faulty(self, recipe: Recipe, severity: int) -> dict[str, Any]:
        """Returns the config with the fault."""
        return with_changes(recipe, {**self.shared(recipe, severity), **self.changes(recipe, severity)})


def with_changes(recipe: Recipe, changes: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the config of a recipe with other values; a setting that begins with ``+task.`` is one of the task's
    planted twin."""
    values = {**recipe.values(), **changes}
    if any(key.startswith("+task.") for key in values):
        values["task.name"] = f"planted_{recipe.task}"
    return values


def _anywhere(recipe: Recipe) -> bool:
    return True


def _windowed(recipe: Recipe) -> bool:
    return recipe.data.window is not None


def _rate(*factors: float) -> Make:
    return lambda recipe, severity: {"optimizer.lr": float(f"{recipe.lr * factors[severity]:.3g}")}


def _short_window(recipe: Recipe, severity: int) -> Change:
    window = max(1, recipe.data.reach // 4) if severity == MODERATE else 1
    return {"schedule.window": window, "schedule.carry": True}


def _long_reach(recipe: Recipe) -> bool:
    return recipe.data.reach >= 4


def _no_carry(recipe: Recipe, severity: int) -> Change:
    if recipe.task == "sincos" and severity == SEVERE:
        return {"task.continuous": False}
    return {"schedule.carry": False}


def _window_of_reach(recipe: Recipe, severity: int) -> Change:
    window = recipe.data.reach if severity == MODERATE else max(2, recipe.data.reach // 2)
    return {} if recipe.task == "sincos" else {"schedule.window": window}


def _has_many_sequences(recipe: Recipe) -> bool:
    return recipe.task in (*DRAWN, "integral")


def _init(names: tuple[str, ...], *stds: float) -> Make:
    def change(recipe: Recipe, severity: int) -> Change:
        return {
            "model.recurrent_init": "default",
            "model.init_std": {f"cell.stack.{name}_l0": stds[severity] for name in names},
        }

    return change


def _has_stack(recipe: Recipe) -> bool:
    return recipe.cell in STACKED


def _few_updates(*parts: int) -> Make:
    return lambda recipe, severity: {"schedule.max_updates": max(1, recipe.updates // parts[severity])}


def _noisy(recipe: Recipe) -> Change:
    """Returns training data that is the same in each epoch, and not clean: learning it by heart does harm."""
    error = {"+task.target_noise": 0.5} if recipe.is_regression else {"+task.wrong_labels": 0.1}
    return {"+task.fixed_data": True, **error}


def _small_data(recipe: Recipe, sequences: int, updates: int) -> Change:
    """Returns so many noisy sequences, all read in parallel, and epochs that make about so many updates."""
    data = recipe.data
    of_epoch = -(-data.length // (data.window or data.length)) * -(-sequences // data.streams)
    return {
        **_noisy(recipe),
        **recipe.sequences(sequences),
        "schedule.streams": min(data.streams, sequences),
        "schedule.epochs": max(1, updates // of_epoch),
    }


def _memorisable(recipe: Recipe) -> int:
    """Returns how many sequences can be learned by heart."""
    return max(4, 3200 // recipe.data.length)


def _too_long(recipe: Recipe, severity: int) -> Change:
    return _small_data(recipe, _memorisable(recipe), LEARNABLE * (10, 40)[severity])


def _little_data(recipe: Recipe, severity: int) -> Change:
    count = max(1, _memorisable(recipe) // (2, 8)[severity])
    return _small_data(recipe, count, recipe.updates)


def _wrong_loss_task(recipe: Recipe) -> bool:
    return recipe.task in ("sincos", "integral", "adding", "memory_capacity", "mackey_glass", "narma")


def _needs_the_future(recipe: Recipe) -> bool:
    return recipe.task in ("parity", "narma", "xor", "letters", "integral")


FAULTS = (
    Fault("lr_small", frozenset({"small_steps"}), _anywhere, _rate(1e-2, 1e-4)),
    Fault("lr_large", frozenset({"large_steps"}), _anywhere, _rate(10, 100)),
    Fault("window", frozenset({"window"}), _long_reach, _short_window),
    Fault("carry", frozenset({"window", "carry"}), _windowed, _no_carry, shared=_window_of_reach),
    Fault(
        "few_streams", frozenset({"noise", "streams"}), _has_many_sequences,
        lambda recipe, severity: {"schedule.streams": 1},
        shared=lambda recipe, severity: {
            "schedule.max_updates": recipe.updates // (2, 1)[severity],
            **({"schedule.lr_decay": "constant"} if severity else {}),
        },
    ),
    Fault(
        "many_streams", frozenset({"few_updates"}), _has_many_sequences,
        lambda recipe, severity: {
            "schedule.streams": min(recipe.data.sequences, recipe.data.streams * (8, 20)[severity])
        },
    ),
    Fault(
        "accumulation", frozenset({"few_updates"}), _windowed,
        lambda recipe, severity: {"schedule.update_every": recipe.data.window * (16, 64)[severity]},
    ),
    Fault(
        "clip_tight", frozenset({"clipping", "small_steps"}), lambda recipe: recipe.optimizer == "sgd",
        lambda recipe, severity: {"schedule.clip_norm": (1e-3, 1e-4)[severity]},
    ),
    Fault(
        "clip_off", frozenset({"exploding", "large_steps", "clipping"}), lambda recipe: recipe.optimizer == "sgd",
        lambda recipe, severity: {"schedule.clip_norm": None},
        shared=lambda recipe, severity: {"schedule.lr_decay": ("cosine", "constant")[severity]},
    ),
    Fault(
        "warmup", frozenset({"warmup", "small_steps"}), _anywhere,
        lambda recipe, severity: {"schedule.warmup": recipe.updates * (30, 1000)[severity]},
    ),
    Fault(
        "init_small", frozenset({"vanishing", "initial_scale"}), _has_stack,
        _init(("weight_ih", "weight_hh"), 1e-2, 1e-3),
    ),
    Fault(
        "init_large", frozenset({"exploding", "vanishing", "saturated", "initial_scale"}), _has_stack,
        _init(("weight_hh",), 1.0, 5.0),
    ),
    Fault("saturation", frozenset({"saturated", "initial_scale"}), _has_stack, _init(("weight_ih",), 20.0, 200.0)),
    Fault(
        "dead_units", frozenset({"unused", "initial_scale"}), lambda recipe: recipe.cell in ("rnn", "irnn"),
        lambda recipe, severity: {"model.init_std": {"cell.stack.bias_ih_l0": (5.0, 50.0)[severity]}},
        shared=lambda recipe, severity: {"model.nonlinearity": "relu"},
    ),
    Fault(
        "few_units", frozenset({"few_units"}), _anywhere,
        lambda recipe, severity: {"model.hidden_size": (2, 1)[severity]},
    ),
    Fault(
        "many_units", frozenset({"memorised", "many_units"}), _has_many_sequences,
        lambda recipe, severity: {"model.hidden_size": (100, 200)[severity]},
        shared=lambda recipe, severity: {
            **_small_data(recipe, _memorisable(recipe), 2 * LEARNABLE), "model.hidden_size": 6,
        },
    ),
    Fault("too_short", frozenset({"underfit"}), _anywhere, _few_updates(20, 80)),
    Fault(
        "too_long", frozenset({"memorised"}), _has_many_sequences, _too_long,
        shared=lambda recipe, severity: _small_data(recipe, _memorisable(recipe), LEARNABLE),
    ),
    Fault(
        "little_data", frozenset({"memorised", "little_data"}), _has_many_sequences, _little_data,
        shared=lambda recipe, severity: _noisy(recipe), by_line=False,
    ),
    Fault(
        "wrong_loss", frozenset({"loss"}), _wrong_loss_task, lambda recipe, severity: {"task.loss": "mse"},
        shared=lambda recipe, severity: {"task.loss": "l1", "+task.outliers": (0.05, 0.15)[severity]}, measure="mae",
    ),
    Fault(
        "shifted_target", frozenset({"shifted_target"}), _needs_the_future,
        lambda recipe, severity: {"+task.shift": (1, 2)[severity]}, by_line=False,
    ),
    Fault(
        "input_scale", frozenset({"input_scale"}), _anywhere,
        lambda recipe, severity: {
            "+task.input_scale": (0.01, 100.0)[severity], "+task.input_offset": (0.0, 1.0)[severity],
        },
        by_line=False,
    ),
    Fault(
        "wrong_labels", frozenset({"label_noise"}), _anywhere,
        lambda recipe, severity: {"+task.wrong_labels": (0.15, 0.4)[severity]}, by_line=False,
    ),
    Fault(
        "missing_input", frozenset({"missing_input"}), lambda recipe: recipe.task in REGRESSIONS,
        lambda recipe, severity: {"+task.driver_seen": False},
        shared=lambda recipe, severity: {"+task.driver": (0.3, 1.0)[severity]}, by_line=False,
    ),
)  # fmt: skip
HEALTHY = Fault("healthy", frozenset(), _anywhere, _nothing)
BY_NAME = {fault.name: fault for fault in (*FAULTS, HEALTHY)}
