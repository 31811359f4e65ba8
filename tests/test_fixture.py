"""A stopped run that was written by an earlier commit, in today's format of checkpoints, can be resumed."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
from faults import assert_same, contents, part
from helpers import Finished
from make_fixture import ARGUMENTS
from omegaconf import OmegaConf
from test_checkpoint import signed
from test_resume import values_of

from seqrnn.rundir.reader import RunReader

STORED = Path(__file__).parent / "fixtures" / "run"


def test_the_stored_run_is_resumed(command: Callable[..., Finished], tmp_path: Path) -> None:
    """The numbers agree to rounding, since the stored run may have been made on another machine."""
    shutil.copytree(STORED, "run")
    finished = command("resume=run")
    assert finished.exit_code == 0, finished.err + finished.out
    assert "resumes from update 9" in " ".join(finished.out.split())
    part(values_of("task=integral", "model=lstm", **ARGUMENTS), tmp_path / "whole")
    run, whole = (RunReader(tmp_path / name).metrics() for name in ("run", "whole"))
    assert list(run) == list(whole)
    for name in set(run) - {"seconds"}:
        np.testing.assert_allclose(run[name], whole[name], rtol=1e-3, atol=1e-5, err_msg=name)


def test_keys_that_an_older_config_lacks_get_their_default_values(command: Callable[..., Finished]) -> None:
    shutil.copytree(STORED, "run")
    path = Path("run", "config.yaml")
    values = OmegaConf.load(path)
    for key in ("checkpoint", "on_divergence", "logger"):
        del values[key]
    del values["plots"]["frames"]
    OmegaConf.save(values, path)
    assert command("resume=run").exit_code == 0
    assert RunReader(Path("run")).config()["checkpoint"]["every"] == "60s"


def test_it_is_small() -> None:
    files = [path for path in STORED.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 40_000
    assert len(list((STORED / "checkpoints").glob("*.safetensors"))) == 1


def test_a_run_of_an_earlier_version_is_refused_with_one_clear_error(command: Callable[..., Finished]) -> None:
    shutil.copytree(STORED, "run")
    (path,) = Path("run", "checkpoints").glob("*.safetensors")
    path.write_bytes(signed({"version": "1"}))
    values = OmegaConf.load("run/config.yaml")
    values["schedule"]["lr_step"] = values["schedule"].pop("lr_every")  # a key of that version
    OmegaConf.save(values, "run/config.yaml")
    before = contents(Path("run"))
    finished = command("resume=run")
    assert finished.exit_code == 2
    assert "written by an earlier seqrnn" in finished.err
    assert "init_from=RUN_DIR" in finished.err
    assert "lr_step" not in finished.err
    assert_same(contents(Path("run")), before)
