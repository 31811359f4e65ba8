"""docs/reliability.md names a test for each of its claims: each of those tests exists."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
PAGE = (TESTS.parent / "docs" / "reliability.md").read_text(encoding="utf-8")
CELLS = re.findall(r"`((?:[\w/]+\.py|…)::\w+)`", PAGE)  # "…" stands for the file named before


def functions_of(path: Path) -> set[str]:
    """The names of the test functions of a file."""
    nodes = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
    return {node.name for node in nodes if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")}


def named_tests() -> list[tuple[str, str]]:
    """The files and names of tests, in the order in which the page names them."""
    found: list[tuple[str, str]] = []
    for cell in CELLS:
        file, _, name = cell.partition("::")
        found.append((found[-1][0] if file == "…" else file, name))
    return found


@pytest.mark.parametrize(("file", "name"), named_tests(), ids=lambda value: value)
def test_a_test_that_the_page_names_exists(file: str, name: str) -> None:
    assert (TESTS / file).is_file(), f"docs/reliability.md names {file}, which does not exist"
    assert name in functions_of(TESTS / file), f"docs/reliability.md names {file}::{name}, which does not exist"


def test_every_row_names_a_test() -> None:
    promises = re.sub(r"## Numbers\n.*?(?=\n## )", "", PAGE, flags=re.DOTALL)  # which has figures instead of tests
    rows = [line for line in promises.splitlines() if line.startswith("| ") and not line.endswith("| test |")]
    assert len(rows) > 50
    for row in rows:
        proof = row.rstrip("| ").rpartition("|")[2].strip()
        assert "::test_" in proof or proof == "the same", f"docs/reliability.md names no test: {row}"


def test_files_that_the_page_names_exist() -> None:
    for file in re.findall(r"tests/[\w/]+\.py", PAGE):
        assert (TESTS.parent / file).is_file(), f"docs/reliability.md names {file}"
