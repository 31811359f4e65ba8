"""The study of the doctor: its list of cases stays as it was drawn, faults do what they say, counting is right."""

from __future__ import annotations

import json
import math
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from test_configs import composed

from seqrnn import registry
from seqrnn.components import check_config
from seqrnn.plugins import load_components
from studies.doctor import __main__ as command
from studies.doctor import measure, tables
from studies.doctor.cases import ATTEMPTS, DRAWS, SETS, Case, Planting, all_cases
from studies.doctor.faults import BY_NAME, FAULTS, HEALTHY, SEVERE, SEVERITIES
from studies.doctor.measure import Attempt, Result
from studies.doctor.planted import FAR, TASKS
from studies.doctor.recipes import RECIPES
from studies.doctor.training import as_overrides

ROOT = Path(__file__).resolve().parent.parent
RNN = next(recipe for recipe in RECIPES if recipe.name == "sincos rnn sgd")


def test_the_lists_of_cases_are_as_they_were_drawn() -> None:
    all_cases.cache_clear()
    cases = all_cases()
    all_cases.cache_clear()
    assert all_cases() == cases
    drawn = [(case.name, case.case_set) for case in cases]
    fixed = [("input_scale-0", "first"), ("few_units-4", "development"), ("shifted_target-2", "first")]
    assert drawn[:3] == fixed  # for good: the diagnosis was tuned on both sets, one after the other
    assert drawn[180:183] == [(name, "second") for name in ("healthy-49", "missing_input-6", "init_small-6")]
    assert [draw.seed for draw in DRAWS] == [20_261_122, 20_261_123]


def test_sets_are_disjoint_and_alike() -> None:
    cases = all_cases()
    assert len({case.name for case in cases}) == len(cases) == 270
    for case_set in SETS:
        own = [case for case in cases if case.case_set == case_set]
        assert len(own) == 90
        assert [sum(case.fault is fault for case in own) for fault in (*FAULTS, HEALTHY)] == [3] * 24 + [18]
        assert len({planting.recipe.task for case in own for planting in case.plantings}) >= 8
    plantings = [planting for case in cases for planting in case.plantings]
    assert len(set(plantings)) == len(plantings)


def test_a_fault_is_only_planted_where_it_applies_and_changes_something() -> None:
    for case in all_cases():
        assert len(case.plantings) == (1 if case.fault is HEALTHY else ATTEMPTS)
        for planting in case.plantings:
            assert planting.fault.applies(planting.recipe)
            assert (planting.healthy() == planting.faulty()) == (planting.fault is HEALTHY)


@pytest.mark.first(2)
@pytest.mark.parametrize("fault", [*FAULTS, HEALTHY], ids=lambda fault: fault.name)
def test_the_config_of_a_fault_is_sound(fault: Any) -> None:
    load_components()
    recipe = [recipe for recipe in RECIPES if fault.applies(recipe)][-1]
    check_config(composed(*as_overrides(fault.faulty(recipe, SEVERE))))


def test_severe_is_worse_than_moderate() -> None:
    rates = [BY_NAME["lr_small"].faulty(RNN, severity)["optimizer.lr"] for severity in SEVERITIES]
    assert RNN.lr > rates[0] > rates[1]


def test_a_case_without_a_fault_has_no_accepted_cause_and_each_fault_has_one() -> None:
    assert HEALTHY.findings == frozenset()
    assert all(fault.findings for fault in FAULTS)


def planted(name: str, **settings: Any) -> Any:
    load_components()
    values = composed(f"task={name}")["task"]
    return registry.build("task", {**values, "name": f"planted_{name}", **settings}, 3)


def whole(batches: Any) -> Any:
    return batches[0].read(0, batches[0].timesteps)


@pytest.mark.parametrize("name", TASKS)
def test_a_planted_task_without_a_fault_is_the_task(name: str) -> None:
    task = planted(name)
    own = registry.build("task", composed(f"task={name}")["task"], 3)
    assert (task.input_size, task.output_size, task.loss, task.kind) == (
        own.input_size, own.output_size, own.loss, own.kind,
    )  # fmt: skip
    if name in ("sine", "parity", "letters"):  # the others draw more
        for ours, theirs in ((task.train(1, 4), own.train(1, 4)), (task.test(), own.test())):
            assert len(ours) == len(theirs)
            assert torch.equal(whole(ours).inputs, whole(theirs).inputs)
            assert torch.equal(whole(ours).targets, whole(theirs).targets)


def test_wrong_labels_are_in_training_and_validation_data_alone() -> None:
    clean, wrong = planted("parity"), planted("parity", wrong_labels=0.3)
    for split, share in (("validation", 0.15), ("test", 0.0)):  # half of the wrong ones are right by chance
        ours, theirs = whole(getattr(wrong, split)()), whole(getattr(clean, split)())
        differs = (ours.targets != theirs.targets)[ours.valid].double().mean()
        assert float(differs) == pytest.approx(share, abs=0.02)
    first, second = wrong.train(0, 8), wrong.train(0, 8)
    assert torch.equal(whole(first).targets, whole(second).targets)
    assert torch.equal(first[0].read(5, 9).targets, whole(first).targets[5:9])


def test_targets_that_come_early_are_those_of_the_next_timestep() -> None:
    clean, early = whole(planted("parity").test()), whole(planted("parity", shift=1).test())
    assert torch.equal(early.targets[:-1], clean.targets[1:])
    assert not early.valid[-1].any()
    assert torch.equal(early.valid[:-1], clean.valid[1:])


def test_a_driver_moves_targets_whether_it_is_seen_or_not() -> None:
    clean, seen, hidden = (
        planted("xor", driver=size, driver_seen=see) for size, see in ((0, True), (1, True), (1, False))
    )
    assert (clean.input_size, seen.input_size, hidden.input_size) == (1, 2, 1)
    moved = whole(seen.test()).targets - whole(clean.test()).targets
    assert torch.equal(whole(seen.test()).targets, whole(hidden.test()).targets)
    driver = whole(seen.test()).inputs[..., -1:]
    assert float(np.corrcoef(moved.flatten(), driver.flatten())[0, 1]) == pytest.approx(1.0, abs=1e-6)
    assert float(moved.std()) == pytest.approx(0.5, abs=0.02)  # the standard deviation of a random bit


def test_what_is_wrong_does_not_depend_on_the_data() -> None:
    """Both are drawn from the same seeds; a network could foresee wrong targets that depend on its inputs."""
    for fault in ({"wrong_labels": 0.4}, {"outliers": 0.15}):
        wrong, right = (whole(planted("narma", **one).train(0, 16)) for one in (fault, {}))
        differs = (wrong.targets != right.targets).flatten().double()
        assert differs.any()
        assert abs(np.corrcoef(differs, right.inputs.flatten())[0, 1]) < 4 / np.sqrt(len(differs))


def test_fixed_data_outliers_and_scale() -> None:
    task = planted("letters", fixed_data=True, outliers=0.1, input_scale=100.0, input_offset=1.0)
    clean = planted("letters")
    assert torch.equal(whole(task.train(0, 4)).targets, whole(task.train(7, 4)).targets)
    assert torch.allclose(whole(task.test()).inputs, 100 * (whole(clean.test()).inputs + 1))
    off = whole(task.validation()).targets - whole(clean.validation()).targets
    assert float((off != 0).double().mean()) == pytest.approx(0.1, abs=0.01)
    assert float(off.max()) == pytest.approx(FAR * float(whole(clean.validation()).targets.std()), rel=0.02)
    assert torch.equal(whole(task.test()).targets, whole(clean.test()).targets)


def attempt(faulty: list[float | None], healthy: list[float | None]) -> Attempt:
    return Attempt(recipe="sincos rnn sgd", severity=0, seed=1, faulty=faulty, healthy=healthy, baseline=1.0)


def result(fault: str = "window", before: float = 0.4, undone: float = 0.1, **values: Any) -> Result:
    attempts = [attempt([before, before], [undone, undone])]
    return Result(
        case=f"{fault}-0", fault=fault, measure="loss", attempts=attempts, **values
    )  # fmt: skip


def test_a_fault_counts_only_if_undoing_it_helps_with_each_seed() -> None:
    assert attempt([0.4, 0.5], [0.1, 0.2]).is_proven
    assert not attempt([0.4, 0.2], [0.1, 0.19]).is_proven
    assert not attempt([0.4, None], [0.1, 0.1]).is_proven
    assert not attempt([5e-4, 5e-4], [1e-6, 1e-6]).is_proven  # nobody would see the difference


def test_a_share_is_of_logarithms() -> None:
    assert result(command="x", line=0.1).share == pytest.approx(1)
    assert result(command="x", line=0.2).share == pytest.approx(0.5)
    assert result().share == 0  # no advice
    assert result(command="x", line=None).share == -math.inf  # it diverged
    assert result(command="x", line=0.8).share == pytest.approx(-0.5)
    assert [result(command="x", line=line).is_worse for line in (0.1, 0.41, 0.43, None)] == [False, False, True, True]
    assert not result().is_worse


def test_an_alarm_is_false_unless_its_line_helps() -> None:
    def healthy(**values: Any) -> Result:
        return result("healthy", 0.2, 0.2, **values)

    assert not healthy().is_false_alarm
    assert healthy(causes=["window"]).is_false_alarm
    assert healthy(causes=["window"], command="x", line=0.19).is_false_alarm
    assert not healthy(causes=["underfit"], command="x", line=0.1).is_false_alarm


def test_the_tables_count_what_the_results_say() -> None:
    results = [
        result(causes=["window", "noise"], command="x", line=0.1),
        result(causes=["noise", "window"], command="x", line=0.9),
        result("healthy", 0.2, 0.2, causes=["noise"]),
        result("lr_small", 0.1, 0.1),  # not planted
    ]
    section = tables.section(results, "development", 90)
    figures = {row[0]: row[1] for row in section.tables[0].rows}
    assert figures["the first cause is right"] == "1 of 2: 50 % [9, 91]"  # Wilson's interval
    assert figures["the line makes the test loss worse"].startswith("1 of 3: 33 %")
    assert figures["false alarms on healthy runs"].startswith("1 of 1: 100 %")
    matrix = section.tables[1]
    row = dict(zip(matrix.columns, next(row for row in matrix.rows if row[0] == "window"), strict=True))
    assert row == {"planted": "window", "window": "**1**", "noise": "1"}
    assert len(section.tables[-1].rows) == 2


def test_figures_of_several_states_of_the_diagnosis_are_shown_apart() -> None:
    old = result(causes=["noise"], command="x", line=0.9)
    new = result(causes=["window"], command="x", line=0.1).model_copy(update={"state": "1a2b3c4d"})
    titles = [table.title for table in tables.section([old, old], "development", 90).tables]
    (table,) = [table for table in tables.section([old, new], "development", 90).tables if table.title not in titles]
    shares = [[cell.partition(":")[0] for cell in row] for row in table.rows]
    assert shares == [
        ["earlier, not recorded", "0 of 1", "0 of 1", "1 of 1", "no cases"],
        ["`1a2b3c4d`", "1 of 1", "1 of 1", "0 of 1", "no cases"],
    ]


def test_a_state_is_that_of_the_code_of_the_diagnosis(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure, "DIAGNOSIS", tmp_path)
    found = []
    for text in ("a = 1", "a = 2", "a = 1"):
        (tmp_path / "search.py").write_text(text)
        measure.state.cache_clear()
        found.append(measure.state())
    measure.state.cache_clear()
    assert found[0] == found[2] != found[1]


def test_the_page_counts_what_there_is_and_has_a_place_for_every_set() -> None:
    page = " ".join((ROOT / "docs" / "doctor.md").read_text(encoding="utf-8").split())
    tasks, cells, optimizers = (
        len({getattr(recipe, key) for recipe in RECIPES}) for key in ("task", "cell", "optimizer")
    )
    assert f"{tasks} tasks, {cells} cells and {optimizers} optimizers in {len(RECIPES)} combinations" in page
    for draw, number in zip(DRAWS, ("six", "three"), strict=True):
        assert f"{number} cases of each of {len(FAULTS)} faults, and {draw.healthy} healthy runs" in page
    for case_set in SETS:
        assert f"<!-- study: {case_set} -->" in page


@pytest.mark.parametrize(
    ("words", "says"), [(["--cases", "windw"], "no such case or fault: windw"), (["--set", "x"], "invalid choice")]
)
def test_a_wrong_command_line_is_refused(
    words: list[str], says: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["studies.doctor", *words])
    with pytest.raises(SystemExit) as refused:
        command.arguments()
    assert refused.value.code == 2
    assert says in capsys.readouterr().err


@pytest.mark.long
def test_a_case_is_planted_diagnosed_and_its_line_is_run(tmp_path: Path) -> None:
    plantings = (Planting(HEALTHY, RNN, 0, 5), Planting(BY_NAME["lr_small"], RNN, 1, 5))
    case = Case("lr_small-9", "development", (replace(plantings[0], fault=BY_NAME["clip_off"]), plantings[1]))
    found = command.run(case, tmp_path, seconds=30.0)  # on a busy machine, 4 seconds bring no advice
    assert [one.is_proven for one in found.attempts] == [False, True]
    assert found.failure is None
    assert found.before > measure.PROOF * found.undone
    assert found.command is not None
    assert found.line is not None
    assert found.line < found.before
    assert json.loads((tmp_path / "result.json").read_text(encoding="utf-8"))["line"] == found.line
    assert measure.read(tmp_path / "result.json") == found
