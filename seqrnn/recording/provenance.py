"""What a result was made with: versions and the revision of the code."""

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
    """Versions of seqrnn, Python, the platform and the packages that matter for a result."""
    found = {"seqrnn": __version__, "python": platform.python_version(), "platform": platform.platform()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:  # vendored or renamed
            found[package] = "unknown"
    return found


@cache
def git_revision() -> str | None:
    """The commit that this package's source is at, ``-dirty`` if it was changed since; None outside a checkout.
    It is that of the first call: of the code that runs."""
    root = Path(__file__).resolve().parent.parent.parent
    if not (root / ".git").exists():
        return None
    try:
        revision, changes = (
            subprocess.run(
                ["git", "-C", str(root), *arguments], capture_output=True, text=True, timeout=10, check=True
            ).stdout.strip()
            for arguments in (("rev-parse", "HEAD"), ("status", "--porcelain", "--untracked-files=no"))
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return revision + ("-dirty" if changes else "")


def scheduler_job() -> str | None:
    """The scheduler's name for the job that this process belongs to."""
    for scheduler, name in (("slurm", "SLURM_JOB_ID"), ("submitit", "SUBMITIT_LOCAL_JOB_ID")):
        if os.environ.get(name):
            return f"{scheduler} job {os.environ[name]}"
    return None
