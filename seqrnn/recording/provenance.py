"""What a result was made with: versions, the revision of the code, and the scheduler's job."""

from __future__ import annotations

import os
import platform
import subprocess
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from seqrnn import __version__

PACKAGES = ("torch", "numpy", "hydra-core", "omegaconf", "matplotlib", "pydantic")


@cache
def versions() -> dict[str, str]:
    """Returns the versions of seqrnn, Python, the platform and the packages that matter for a result."""
    found = {"seqrnn": __version__, "python": platform.python_version(), "platform": platform.platform()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:  # vendored or renamed
            found[package] = "unknown"
    return found


@cache
def git_revision() -> str | None:
    """Returns the commit of this package's source, with ``-dirty`` if files have been changed since; None outside a
    checkout. The answer of the first call is kept, because it is about the code that has been imported."""
    root = Path(__file__).resolve().parent.parent.parent
    if not (root / ".git").exists():
        return None
    try:
        revision, changes = (
            subprocess.run(
                ["git", "-C", str(root), *arguments],
                capture_output=True,
                text=True,
                timeout=10,
                check=True,
                env=_own_repository(),
            ).stdout.strip()
            for arguments in (("rev-parse", "HEAD"), ("status", "--porcelain", "--untracked-files=no"))
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return revision + ("-dirty" if changes else "")


def _own_repository() -> dict[str, str]:
    """Returns the environment without the variables by which git would look at another repository, as in a hook."""
    return {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("GIT_") or name.startswith("GIT_CONFIG_")
    }


def scheduler_job() -> str | None:
    """Returns the scheduler's name of the job that this process belongs to; None if there is no scheduler."""
    for scheduler, name in (("slurm", "SLURM_JOB_ID"), ("submitit", "SUBMITIT_LOCAL_JOB_ID")):
        if os.environ.get(name):
            return f"{scheduler} job {os.environ[name]}"
    return None
