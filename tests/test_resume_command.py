"""The overrides that resume a run or start from another one, and the messages that answer them."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml
from faults import contents
from helpers import Finished
from mnist_files import write_mnist

from seqrnn.checkpoints import file
from seqrnn.checkpoints.identity import CHANGEABLE, identity
from seqrnn.keys import flattened
from seqrnn.rundir.atomic import replacing
from seqrnn.rundir.reader import RunReader

Command = Callable[..., Finished]
RUN = ("task=sine", "model=gru", "model.hidden_size=5", "plots.draw=false", "device=cpu", "checkpoint.every=2")


def newest(directory: Path = Path("run")) -> Path:
    return max((directory / "checkpoints").glob("*.safetensors"))


def unfinished(directory: Path = Path("run")) -> None:
    """As if the process had been killed."""
    (directory / "checkpoints" / ".owner").write_text("process 1 on nowhere\n")


def test_a_finished_run_says_so_and_nothing_happens(command: Command) -> None:
    command(*RUN, "schedule.epochs=4")
    before = {path: path.stat().st_mtime_ns for path in Path("run").rglob("*")}
    finished = command("resume=run")
    assert finished.exit_code == 0
    assert "run: finished after 4 updates; nothing to do" in finished.out
    assert {path: path.stat().st_mtime_ns for path in Path("run").rglob("*")} == before


def test_a_finished_run_can_be_made_longer(command: Command, tmp_path: Path) -> None:
    same = (*RUN, "schedule.lr_decay=constant", "log_every=1", "schedule.evaluate_every=2")
    command(*same, "schedule.epochs=8", f"hydra.run.dir={tmp_path}/whole")
    command(*same, "schedule.epochs=4")
    finished = command("resume=run", "schedule.epochs=8")
    assert finished.exit_code == 0, finished.err
    longer, whole = contents(Path("run")), contents(tmp_path / "whole")
    for name in ("weights.safetensors", "predictions.npz", "metrics.csv", "metrics.jsonl", "config.yaml"):
        assert longer[name] == whole[name], name
    assert RunReader(Path("run")).config()["schedule"]["epochs"] == 8
    assert finished.summary["resumed"] == 1


def test_a_finished_run_without_checkpoints_is_not_made_anew(command: Command) -> None:
    command(*RUN, "schedule.epochs=4", "checkpoint.keep=0")
    before = contents(Path("run"))
    refused = command("resume=run", "schedule.epochs=8")
    assert refused.exit_code == 2
    assert "has no checkpoint to resume from" in " ".join((refused.out + refused.err).split())
    assert contents(Path("run")) == before


def test_a_finished_run_of_the_length_asked_for_has_nothing_to_do(command: Command) -> None:
    command(*RUN, "schedule.epochs=4")
    before = {path: path.stat().st_mtime_ns for path in Path("run").rglob("*")}
    for printed in (("resume=run", "schedule.epochs=4"), (*RUN, "schedule.epochs=4", "resume=auto")):
        finished = command(*printed)
        assert finished.exit_code == 0
        assert "run: finished after 4 updates; nothing to do" in finished.out
    assert {path: path.stat().st_mtime_ns for path in Path("run").rglob("*")} == before


@pytest.mark.parametrize("less", ["schedule.epochs=3", "schedule.max_updates=2"])
def test_a_run_cannot_be_made_shorter_than_it_is(less: str, command: Command) -> None:
    command(*RUN, "schedule.epochs=4")
    before = contents(Path("run"))
    refused = command("resume=run", less)
    assert refused.exit_code == 2
    printed = " ".join((refused.out + refused.err).split())
    assert less in printed
    assert "the run has made 4; it can be made longer" in printed
    assert contents(Path("run")) == before


def test_only_what_extends_or_moves_a_run_can_change(command: Command) -> None:
    command(*RUN, "schedule.epochs=4")
    finished = command("resume=run", "optimizer.lr=0.1", "model=lstm", "schedule.epohcs=3", "seed=1,2", "+a=1", "x")
    assert finished.exit_code == 2
    assert "optimizer.lr: a run is resumed with its own config, and this key cannot change" in finished.err
    for text in ("model: a run", "did you mean schedule.epochs?", "seed=1,2: a run", "+a=1: a run", "x: not an over"):
        assert text in finished.err
    flagged = command("-m", "resume=run", "--config-dir", "x")
    assert "-m: only one run can be resumed at a time" in flagged.err
    assert "--config-dir: a run is resumed with its own config" in flagged.err
    assert flagged.err.startswith("2 problems:")
    wrong = command("resume=run", "schedule.epochs=none", "checkpoint.every=soon")
    assert wrong.exit_code == 2
    assert "schedule.epochs=none: should be a valid integer" in wrong.err
    assert "checkpoint.every=soon: should" in wrong.err


def test_what_can_change_is_there_and_is_no_part_of_what_makes_a_run(command: Command) -> None:
    command("task=mnist", "smoke=true", "plots.draw=false")
    config = RunReader(Path("run")).config()
    for key in CHANGEABLE:
        own = {name for name in flattened(config) if name == key or name.startswith(f"{key}.")}
        assert own, key
        assert not own & set(identity(config)), key


def test_a_directory_without_a_run_is_named(command: Command, tmp_path: Path) -> None:
    finished = command("resume=run")
    assert finished.exit_code == 2
    assert finished.err.startswith("error: run: not a run directory")
    assert not Path("run").exists()


def test_the_config_that_is_shown_is_that_of_the_run(command: Command) -> None:
    command(*RUN, "schedule.epochs=4")
    shown = command("resume=run", "--cfg", "job", "schedule.epochs=8")
    assert shown.exit_code == 0
    assert yaml.safe_load(shown.out)["model"]["hidden_size"] == 5
    assert yaml.safe_load(shown.out)["schedule"]["epochs"] == 8
    assert RunReader(Path("run")).config()["schedule"]["epochs"] == 4
    assert "resume: auto" in command("--cfg", "job", "resume=auto").out
    assert "a run is resumed with its own config" in command("resume=run", "--cfg", "job", "seed=1").err


def experiment(folder: Path, name: str, *lines: str) -> tuple[str, ...]:
    """Writes an experiment file, and returns the arguments that choose it."""
    path = folder / "more" / "experiment" / f"{name}.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(["# @package _global_", *lines, ""]))
    return "--config-dir", str(folder / "more"), f"experiment={name}"


def test_a_config_file_may_name_the_run_to_be_resumed(command: Command, tmp_path: Path) -> None:
    command(*RUN, "schedule.epochs=4", "hydra.run.dir=first")
    longer = experiment(tmp_path, "longer", "resume: first", "schedule:", "  epochs: 8")
    resumed = command(*longer, *RUN)
    assert resumed.exit_code == 0, resumed.err
    assert json.loads(Path("first", "summary.json").read_text())["updates"] == 8
    assert not Path("run").exists()
    other = command(*longer, *RUN, "seed=1")
    assert other.exit_code == 2
    assert "first: holds another run, so it cannot be resumed: seed is 1, and was 0" in other.err
    assert "resume=first on the command line" in other.err
    missing = command(*experiment(tmp_path, "nowhere", "resume: nowhere"), *RUN)
    assert missing.exit_code == 2
    assert "nowhere: not a run directory" in missing.err


def test_a_config_file_may_ask_for_resume_auto(command: Command, tmp_path: Path) -> None:
    automatic = experiment(tmp_path, "automatic", "resume: auto")
    for _ in range(2):
        finished = command(*automatic, *RUN, "schedule.epochs=4")
        assert finished.exit_code == 0, finished.err
    assert "nothing to do" in finished.out
    assert command("--config-name", "config", *RUN, "schedule.epochs=4", "resume=auto").exit_code == 0


def test_a_run_that_was_started_with_an_interpolation_can_be_resumed(command: Command) -> None:
    command(*RUN, "schedule.epochs=4", "task.points=${schedule.window}", "schedule.window=7")
    assert RunReader(Path("run")).config()["task"]["points"] == 7
    assert "task.points=${schedule.window}" in RunReader(Path("run")).overrides()
    resumed = command("resume=run", "schedule.epochs=6")
    assert resumed.exit_code == 0, resumed.err
    assert resumed.summary["updates"] > 4


def damage(how: str) -> None:
    path = newest()
    content = bytearray(path.read_bytes())
    match how:
        case "empty":
            path.write_bytes(b"")
        case "cut short":
            path.write_bytes(content[: len(content) // 2])
        case "a flipped bit":
            content[len(content) // 2] ^= 4
            path.write_bytes(content)


@pytest.mark.parametrize("how", ["empty", "cut short", "a flipped bit"])
def test_a_damaged_checkpoint_is_named_and_the_one_before_taken(how: str, command: Command, tmp_path: Path) -> None:
    command(*RUN, "schedule.epochs=6", f"hydra.run.dir={tmp_path}/whole")
    shutil.copytree(tmp_path / "whole", "run")
    unfinished()
    damage(how)
    finished = command("resume=run")
    assert finished.exit_code == 0, finished.err
    printed = " ".join(finished.out.split())
    assert "000000000006.safetensors: damaged" in printed
    assert "resumes from update 4 (000000000004.safetensors)" in printed
    assert contents(Path("run")) == contents(tmp_path / "whole")


def test_with_no_sound_checkpoint_nothing_is_touched(command: Command) -> None:
    command(*RUN, "schedule.epochs=6")
    unfinished()
    for path in Path("run", "checkpoints").glob("*.safetensors"):
        path.write_bytes(b"")
    before = {path: path.read_bytes() for path in Path("run").iterdir() if path.is_file() and path.suffix != ".log"}
    finished = command("resume=run")
    assert finished.exit_code == 2
    assert "none of its 2 checkpoints can be read" in " ".join((finished.out + finished.err).split())
    assert before == {path: path.read_bytes() for path in before}


def changed(path: Path, change: Callable[[file.Tree], None]) -> None:
    tree = file.read(path)
    change(tree)
    file.write(path, tree)


STRANGE: dict[str, tuple[Callable[[file.Tree], None], str]] = {
    "a weight of another shape": (
        lambda tree: tree["model"].update({"head.bias": torch.zeros(2)}),
        "head.bias: has the shape (2,), and this network's (1,)",
    ),
    "a weight too many": (lambda tree: tree["model"].update(x=torch.zeros(1)), "x: this network has no such"),
    "a weight too few": (lambda tree: tree["model"].pop("head.bias"), "head.bias: is missing"),
    "an optimizer's memory of another shape": (
        lambda tree: tree["optimizer"]["parameters"]["head.bias"].update(exp_avg=torch.zeros(3)),
        "exp_avg of head.bias has the shape (3,)",
    ),
    "a carried state of another shape": (
        lambda tree: tree.update(carried=[{"before": 3, "parts": [torch.zeros(1, 1, 9)]}]),
        "carried states of shapes [(1, 1, 9)]",
    ),
    "a part is missing": (lambda tree: tree.pop("monitor"), "does not fit this run: KeyError('monitor')"),
    "a part of another kind": (lambda tree: tree.update(sampler=[1, 2]), "does not fit this run: TypeError"),
    "generators of another kind": (
        lambda tree: tree["generators"].update(cpu=torch.zeros(3)), "does not fit this run: TypeError",
    ),
}  # fmt: skip


@pytest.mark.first(3)
@pytest.mark.parametrize("name", STRANGE)
def test_a_sound_checkpoint_that_is_not_of_this_run_is_refused(name: str, command: Command) -> None:
    command(*RUN, "schedule.epochs=6")
    unfinished()
    change, expected = STRANGE[name]
    changed(newest(), change)
    weights = Path("run", "weights.safetensors").read_bytes()
    finished = command("resume=run")
    assert finished.exit_code == 2, finished.err
    assert expected.replace(" ", "") in "".join((finished.out + finished.err).split())
    assert "Traceback" not in finished.err
    assert Path("run", "weights.safetensors").read_bytes() == weights


def test_a_config_that_was_edited_is_an_error_that_says_so(command: Command) -> None:
    command(*RUN, "schedule.epochs=6")
    unfinished()
    path = Path("run", "config.yaml")
    path.write_text(path.read_text().replace("hidden_size: 5", "hidden_size: 6").replace("seed: 0", "seed: 3"))
    finished = command("resume=run")
    assert finished.exit_code == 2
    printed = " ".join((finished.out + finished.err).split())
    assert "written with another config: model.hidden_size is 6, and was 5; seed is 3, and was 0" in printed


def test_data_that_was_changed_is_an_error_that_says_so(command: Command, tmp_path: Path) -> None:
    write_mnist(tmp_path)
    same = (
        "task=mnist", f"task.data_dir={tmp_path}", "task.validation_images=2", "task.download=false",
        "plots.draw=false", "model.hidden_size=4", "schedule.epochs=2", "checkpoint.every=1",
        "hydra.run.dir=run",
    )  # fmt: skip
    assert command(*same).exit_code == 0
    unfinished()
    path = tmp_path / "MNIST" / "raw" / "train-images-idx3-ubyte"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1  # the last pixel of the last image
    path.write_bytes(content)
    finished = command("resume=run")
    assert finished.exit_code == 2
    assert "written with other data" in " ".join((finished.out + finished.err).split())
    content[-1] ^= 1
    path.write_bytes(content)
    assert command("resume=run").exit_code == 0


def test_modules_are_imported_only_where_they_are_named_again(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine.py").write_text("open('imported', 'w')")
    monkeypatch.syspath_prepend(tmp_path)
    command(*RUN, "schedule.epochs=2", "plugins=[mine]")
    Path("imported").unlink()
    import sys

    del sys.modules["mine"]
    refused = command("resume=run", "schedule.epochs=4")
    assert refused.exit_code == 2
    assert "plugins: the run uses mine, and modules are code: write 'plugins=[mine]'" in refused.err
    assert not Path("imported").exists()
    assert command("resume=run", "schedule.epochs=4", "plugins=[mine]").exit_code == 0
    assert Path("imported").exists()


def test_nothing_is_written_through_a_link_that_was_left(command: Command) -> None:
    command(*RUN, "schedule.epochs=4")
    unfinished()
    Path("mine").write_text("precious")
    for name in ("metrics.csv", "train.log", "checkpoints/.owner"):
        path = Path("run", name)
        path.rename("kept")
        path.symlink_to(Path("mine").resolve())
        finished = command("resume=run", "schedule.epochs=8")
        assert finished.exit_code == 2
        assert "is a link" in finished.err
        assert Path("mine").read_text() == "precious"
        path.unlink()
        Path("kept").rename(path)


def test_a_run_that_is_resumed_leaves_alone_what_a_diagnosis_is_writing(command: Command) -> None:
    command(*RUN, "schedule.epochs=4")
    unfinished()
    left = Path("run") / ".tmp-00000000-7-0123abcd-summary.json"
    left.touch()  # by a training on another machine, which does not run any more: this one has its lock
    with replacing(Path("run") / "diagnosis.png") as picture:
        picture.write_text("as far as it is drawn")
        assert command("resume=run").exit_code == 0
    assert (Path("run") / "diagnosis.png").read_text() == "as far as it is drawn"
    assert not left.exists()


def test_a_new_run_starts_from_the_weights_of_another(command: Command, tmp_path: Path) -> None:
    command(*RUN, "schedule.epochs=4", f"hydra.run.dir={tmp_path}/first")
    still = ("optimizer=sgd", "optimizer.lr=1e-30", "schedule.epochs=1")
    finished = command(*RUN, *still, f"init_from={tmp_path}/first")
    assert finished.exit_code == 0, finished.err
    first, second = RunReader(tmp_path / "first").weights(), RunReader(Path("run")).weights()
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert finished.summary["init_from"]["path"] == f"{tmp_path}/first"
    best = command(*RUN, *still, f"init_from={tmp_path}/first/best.safetensors", f"hydra.run.dir={tmp_path}/third")
    assert best.exit_code == 0, best.err


def test_weights_that_do_not_fit_are_named_before_anything_is_written(command: Command, tmp_path: Path) -> None:
    command(*RUN, "schedule.epochs=1", f"hydra.run.dir={tmp_path}/first")
    finished = command(*RUN, "model.hidden_size=6", f"init_from={tmp_path}/first")
    assert finished.exit_code == 2
    assert "cell.stack.weight_ih_l0: has the shape (15, 1), and this network's (18, 1)" in finished.err
    assert not Path("run").exists()
    missing = command(*RUN, "init_from=nowhere")
    assert missing.exit_code == 2
    assert "init_from=nowhere: " in missing.err


def test_the_best_weights_are_those_of_the_best_evaluation(command: Command) -> None:
    finished = command("task=sincos", *RUN[1:], "schedule.epochs=2", "optimizer.lr=0.3", "checkpoint.best=r2")
    metrics = RunReader(Path("run")).metrics()
    best = finished.summary["best"]
    assert best["value"] == max(value for value in metrics["eval_r2"] if value == value)
    assert metrics["eval_r2"][metrics["updates"] == best["updates"]].max() == best["value"]
    unknown = command(*RUN, "checkpoint.best=acuracy", "hydra.run.dir=other")
    assert unknown.exit_code == 2
    assert "checkpoint.best=acuracy: no such metric" in " ".join((unknown.out + unknown.err).split())


def test_the_clock_may_be_set_back(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    import time

    real, calls = time.time, 0

    def back() -> float:
        nonlocal calls
        calls += 1
        return real() - 86400 * calls

    monkeypatch.setattr(time, "time", back)
    assert command(*RUN, "schedule.epochs=4").summary["wall_seconds"] > 0
    unfinished()
    os.utime(newest(), (0, 0))
    finished = command("resume=run", "schedule.epochs=6")
    assert finished.exit_code == 0
    assert "from update 4" in " ".join(finished.out.split())
    assert finished.summary["wall_seconds"] > 0


def test_a_run_that_diverged_goes_back_and_makes_smaller_steps(command: Command) -> None:
    wild = (
        "task=sine", "model=rnn", "model.nonlinearity=relu", "optimizer=sgd", "optimizer.lr=1e9", "device=cpu",
        "schedule.clip_norm=null", "schedule.lr_decay=constant", "plots.draw=false", "schedule.epochs=8",
    )  # fmt: skip
    finished = command(*wild, "on_divergence=rollback", "rollback.factor=1e-12", "rollback.times=2")
    assert finished.exit_code == 0, finished.out
    assert finished.summary["status"] == "finished"
    (setback,) = finished.summary["rollbacks"]
    assert setback["scale"] == 1e-12
    assert setback["back_to"] == 0
    log = " ".join(Path("run", "train.log").read_text().split())
    assert "back to update 0, with 1e-12 times the learning rate (1 of 2)" in log
    assert RunReader(Path("run")).metrics()["lr"][-1] == pytest.approx(1e-3)
    assert file.read(newest())["decay"]["scale"] == 1e-12

    often = command(*wild, "on_divergence=rollback", "rollback.factor=0.9", "rollback.times=3", "hydra.run.dir=often")
    assert often.exit_code == 3
    summary = json.loads(Path("often", "summary.json").read_text())
    assert summary["status"] == "diverged"
    assert [setback["scale"] for setback in summary["rollbacks"]] == pytest.approx([0.9, 0.81, 0.729])
    none = command(*wild, "on_divergence=rollback", "checkpoint.keep=0", "hydra.run.dir=none")
    assert "on_divergence=rollback: needs a checkpoint" in none.err
