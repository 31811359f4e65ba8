"""A run that an earlier version of seqrnn has left goes on in this one."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
from faults import part
from helpers import Finished
from make_fixture import ARGUMENTS
from omegaconf import OmegaConf
from test_resume import values_of

from seqrnn.rundir.reader import RunReader

KEPT = Path(__file__).parent / "fixtures" / "run"


def test_the_kept_run_goes_on(command: Callable[..., Finished], tmp_path: Path) -> None:
    """With today's values of keys that there were not yet; and to rounding, which is another machine's."""
    shutil.copytree(KEPT, "run")
    finished = command("resume=run")
    assert finished.exit_code == 0, finished.err + finished.out
    assert "goes on from update 9" in " ".join(finished.out.split())
    part(values_of("task=integral", "model=lstm", **ARGUMENTS), tmp_path / "whole")
    run, whole = (RunReader(tmp_path / name).metrics() for name in ("run", "whole"))
    assert list(run) == list(whole)
    for name in set(run) - {"seconds"}:
        np.testing.assert_allclose(run[name], whole[name], rtol=1e-3, atol=1e-5, err_msg=name)


def test_a_config_from_before_some_keys_is_completed(command: Callable[..., Finished]) -> None:
    shutil.copytree(KEPT, "run")
    path = Path("run", "config.yaml")
    values = OmegaConf.load(path)
    for key in ("checkpoint", "on_divergence", "logger"):
        del values[key]
    del values["plots"]["frames"]
    OmegaConf.save(values, path)
    assert command("resume=run").exit_code == 0
    assert RunReader(Path("run")).config()["checkpoint"]["every"] == "60s"


def test_it_is_small() -> None:
    files = [path for path in KEPT.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 40_000
    assert len(list((KEPT / "checkpoints").glob("*.safetensors"))) == 1
