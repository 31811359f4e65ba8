"""What was measured on, and with which versions."""

from __future__ import annotations

import os
import platform
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from seqrnn.recording.provenance import git_revision

PACKAGES = ("seqrnn", "torch", "numpy", "numba", "jax", "jaxlib", "hydra-core", "matplotlib")


def describe(device: str, core: int | None) -> dict[str, Any]:
    """Returns the machine, its versions and the revision, for the results."""
    import torch

    facts = {
        "cpu": cpu_model(),
        "cores": os.cpu_count(),
        "threads": 1,
        "pinned_to_core": core,
        "system": f"{platform.system()} {platform.release().split('-')[0]}",
        "python": sys.version.split()[0],
        "versions": {package: found for package in PACKAGES if (found := installed(package))},
        "git_revision": git_revision(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "device": device,
    }
    if device == "cuda":
        facts["gpu"] = torch.cuda.get_device_name()
        facts["versions"] |= {"cuda": torch.version.cuda, "cudnn": torch.backends.cudnn.version()}
    return facts


def in_a_line(facts: dict[str, Any]) -> str:
    """Returns the facts in a line for people."""
    place = facts.get("gpu") or f"{facts['cpu']}, {facts['cores']} cores, {facts['cpu_capability']}, one thread"
    versions = ", ".join(f"{name} {number}" for name, number in facts["versions"].items() if name != "seqrnn")
    return f"{place}; Python {facts['python']}, {versions}; revision {facts['git_revision'] or 'unknown'}"


def cpu_model() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.is_file() else []
    return next(
        (line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine()
    )


def installed(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
