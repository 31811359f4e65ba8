"""A browser for the report, and the path of benchmarks/, which makes up sweeps."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent.parent.parent))  # benchmarks/

CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """A headless Chromium that is installed on the machine; the test is skipped where there is none."""
    driver = pytest.importorskip("playwright.sync_api", reason="needs the Python package playwright")
    if not CHROMIUM:
        pytest.skip("needs chromium (Debian's package, or its path in CHROMIUM)")
    with driver.sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield started
        started.close()
