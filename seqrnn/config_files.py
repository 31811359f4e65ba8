"""Finds conf/, the directory of the config files."""

from __future__ import annotations

from pathlib import Path


def config_directory() -> str:
    """Returns the path of conf/: inside an installed package, beside the package in a checkout.

    Raises:
        FileNotFoundError: it is in neither place.
    """
    package = Path(__file__).resolve().parent
    for folder in (package / "conf", package.parent / "conf"):
        if (folder / "config.yaml").is_file():
            return str(folder)
    raise FileNotFoundError(f"seqrnn's conf/ is missing: neither in {package} nor beside it; reinstall seqrnn")
