"""A run that an earlier version of seqrnn has left goes on in this one."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
from faults import left, part
from make_fixture import ARGUMENTS
from test_resume import values_of

from seqrnn.run import RunReader

KEPT = Path(__file__).parent / "fixtures" / "run"


def test_the_kept_run_goes_on(tmp_path: Path) -> None:
    """With today's keys, if there are more by now, and to rounding, which is another machine's."""
    shutil.copytree(KEPT, tmp_path / "run")
    values = values_of("task=integral", "model=lstm", **ARGUMENTS)
    part(values, tmp_path / "run", again=True)
    part(values, tmp_path / "whole")
    run, whole = (RunReader(tmp_path / name).metrics() for name in ("run", "whole"))
    assert list(run) == list(whole)
    for name in set(run) - {"seconds"}:
        np.testing.assert_allclose(run[name], whole[name], rtol=1e-3, atol=1e-5, err_msg=name)
    assert "no longer bit for bit" in (tmp_path / "run" / "train.log").read_text(encoding="utf-8") or (
        left(tmp_path / "run") == left(tmp_path / "whole")
    )


def test_it_is_small() -> None:
    files = [path for path in KEPT.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 40_000
    assert len(list((KEPT / "checkpoints").glob("*.safetensors"))) == 1
