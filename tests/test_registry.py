"""Names, their settings and what is wrong with them; and that smoke=true leaves a sound config sound."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any, Literal

import pytest
from helpers import HEAD, SCHEDULE, lengths
from hypothesis import given
from hypothesis import strategies as st

from seqrnn import registry, smoke
from seqrnn.bounds import BelowOne, Count, Fraction, Natural, Positive, Real
from seqrnn.errors import ConfigError
from seqrnn.plugins import load_components
from seqrnn.schedule import Schedule


class Probe:
    """A component that remembers what it was built with."""

    def __init__(
        self,
        supplied: int,
        *,
        count: Count,
        natural: Natural,
        rate: Positive,
        share: Fraction,
        below: BelowOne,
        real: Real | None,
        mode: Literal["fast", "slow"],
        flag: bool = False,
    ) -> None:
        self.values = (supplied, count, rate, mode, flag)


SOUND = {"count": 3, "natural": 0, "rate": 0.1, "share": 1.0, "below": 0.0, "real": None, "mode": "fast"}


@pytest.fixture
def empty_shelf(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a test registers is forgotten after it."""
    monkeypatch.setattr(registry, "_components", {kind: {} for kind in registry.KINDS})


@pytest.mark.usefixtures("empty_shelf")
def test_what_is_registered_is_found_listed_and_built_from_supplied_values_then_settings() -> None:
    assert registry.register("model", "probe")(Probe) is Probe
    assert registry.names("model") == ["probe"]
    assert registry.names("task") == []
    assert registry.find("model", "probe") is Probe
    built = registry.build("model", {"name": "probe", **SOUND, "flag": True}, 7)
    assert built.values == (7, 3, 0.1, "fast", True)


@pytest.mark.usefixtures("empty_shelf")
def test_a_name_belongs_to_one_component_which_may_be_registered_again() -> None:
    registry.register("model", "probe")(Probe)
    registry.register("model", "probe")(Probe)
    registry.register("task", "probe")(dict)  # names are per kind
    with pytest.raises(ValueError, match=r"model 'probe' is already registered by .*Probe; choose another name"):
        registry.register("model", "probe")(dict)
    assert registry.find("model", "probe") is Probe


def test_an_unknown_kind_cannot_be_registered() -> None:
    with pytest.raises(ValueError, match="'modle': the kinds are task, model, optimizer"):
        registry.register("modle", "probe")


@pytest.mark.parametrize(
    ("kind", "name", "nearest"),
    [("model", "gruu", "gru"), ("task", "integrl", "integral"), ("optimizer", "adma", "adam")],
)
def test_an_unknown_name_is_refused_with_the_nearest_one_and_all_there_are(
    kind: str, name: str, nearest: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        registry.find(kind, name)
    (problem,) = caught.value.problems
    assert problem.startswith(f"{kind}.name={name}: no such {kind}; did you mean {nearest}?")
    assert all(known in problem for known in registry.names(kind))


@pytest.mark.parametrize("name", ["xxxxxxxx", None, 3])
def test_a_name_like_no_other_is_refused_without_a_guess(name: Any) -> None:
    with pytest.raises(ConfigError) as caught:
        registry.find("model", name)
    assert "did you mean" not in str(caught.value)


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("count", 0, "probe.count=0: should be greater than or equal to 1"),
        ("count", "3", "probe.count='3': should be a valid integer"),
        ("count", True, "probe.count=true: should be a valid integer"),
        ("count", 3.0, "probe.count=3.0: should be a valid integer"),
        ("count", None, "probe.count=null: should be a valid integer"),
        ("count", [3], "probe.count=[3]: should be a valid integer"),
        ("natural", -1, "probe.natural=-1: should be greater than or equal to 0"),
        ("rate", 0, "probe.rate=0: should be greater than 0"),
        ("rate", 1e30, "probe.rate=1e+30: should be less than or equal to 1e+20"),
        ("rate", float("nan"), "probe.rate=nan: should be a finite number"),
        ("rate", float("inf"), "probe.rate=inf: should be a finite number"),
        ("rate", True, "probe.rate=true: should be a valid number"),
        ("share", 1.01, "probe.share=1.01: should be less than or equal to 1"),
        ("below", 1.0, "probe.below=1.0: should be less than 1"),
        ("real", "0.1", "probe.real=0.1: should be a valid number"),
        ("real", float("-inf"), "probe.real=-inf: should be a finite number"),
        ("mode", "Fast", "probe.mode=Fast: should be 'fast' or 'slow'"),
        ("flag", 1, "probe.flag=1: should be a valid boolean"),
        ("flga", True, "probe.flga: no such setting; did you mean flag?"),
        ("zzzzz", 1, "probe.zzzzz: no such setting (there are: count, "),
    ],
)
def test_a_wrong_setting_is_named_as_typed_with_its_value_and_what_is_allowed(
    key: str, value: Any, expected: str
) -> None:
    (problem,) = registry.problems_with(registry.settings_of(Probe), {**SOUND, key: value}, "probe")
    assert problem.startswith(expected)


def test_all_problems_are_found_at_once_and_sound_settings_have_none() -> None:
    model = registry.settings_of(Probe)
    assert registry.problems_with(model, SOUND, "probe") == []
    assert registry.problems_with(model, {**SOUND, "rate": 1, "real": -2, "flag": True}, "probe") == []
    broken = {**SOUND, "count": 0, "mode": 5, "extra": 1}
    del broken["share"]
    problems = registry.problems_with(model, broken, "")
    assert sorted(problem.split(":")[0] for problem in problems) == ["count=0", "extra", "mode=5", "share"]
    assert "share: missing; give it a value" in problems


def test_settings_of_several_components_are_checked_together() -> None:
    def other(*, tail: Count) -> None: ...

    model = registry.settings_of(Probe, other)
    assert registry.problems_with(model, {**SOUND, "tail": 1}, "x") == []
    assert registry.problems_with(model, SOUND, "x") == ["x.tail: missing; give it a value"]


@pytest.mark.usefixtures("empty_shelf")
def test_a_module_named_as_a_plugin_registers_its_components(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = "from seqrnn.registry import register\n@register('model', 'from_plugin')\ndef build(inputs): ...\n"
    (tmp_path / "a_plugin_for_seqrnn.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    load_components(["a_plugin_for_seqrnn"])
    assert "from_plugin" in registry.names("model")


def test_every_plugin_that_cannot_be_imported_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a_broken_plugin.py").write_text("1 / 0")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ConfigError) as caught:
        load_components(["no_such_plugin", "a_broken_plugin"])
    missing, broken = caught.value.problems
    assert missing.startswith("plugins=no_such_plugin: ")
    assert broken.startswith("plugins=a_broken_plugin: ")
    assert "division by zero" in broken


# --- smoke=true

SIZES = st.integers(1, 5000)


def whole_config(**schedule: Any) -> dict[str, Any]:
    return {
        "task": {"name": "integral", "train_timesteps": 10_000, "test_sequences": 1},
        "model": {"name": "gru", "hidden_size": 100, "num_layers": 1, **HEAD},
        "schedule": {**SCHEDULE, **schedule},
        "plots": {"draw": True, "animation": False, "frames": 60},
        "seed": 5000,
    }


@given(cuts=lengths(2000), epochs=SIZES, streams=SIZES, warmup=SIZES, evaluate_every=st.none() | SIZES)
def test_a_shrunken_config_is_sound_and_no_number_grew(cuts: dict[str, Any], **others: Any) -> None:
    values = whole_config(**cuts, **others)
    before = copy.deepcopy(values)
    small = smoke.shrink(values)
    assert values == before
    assert registry.problems_with(Schedule, small["schedule"], "schedule") == []
    assert small["schedule"]["max_updates"] <= 6
    for group in ("task", "model", "schedule", "plots"):
        assert small[group].keys() == before[group].keys()
        for key, value in before[group].items():
            if isinstance(value, (int, float)) and not isinstance(value, bool):
                assert small[group][key] <= value
            elif (group, key) != ("schedule", "max_updates"):  # None means no limit there: it must get one
                assert small[group][key] == value
    assert small["seed"] == before["seed"]


@given(max_updates=st.none() | SIZES)
def test_a_shrunken_run_makes_few_updates_of_few_passes_and_few_timesteps(max_updates: int | None) -> None:
    schedule = Schedule(
        **smoke.shrink(whole_config(window=500, stride=5, update_every=5000, max_updates=max_updates))["schedule"]
    )
    assert schedule.max_updates == min(6, max_updates or 6)
    assert schedule.windows_per_update <= 16
    assert schedule.window is not None
    assert schedule.window <= 32


def test_a_shrunken_task_is_what_the_task_asks_for() -> None:
    values = whole_config()
    values["task"] = {"name": "mnist", "synthetic": False, "validation_images": 5000}
    assert smoke.shrink(values)["task"] == {"name": "mnist", "synthetic": True, "validation_images": 64}
