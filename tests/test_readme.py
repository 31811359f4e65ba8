"""What the README says, done."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import Finished
from hydra.core.override_parser.overrides_parser import OverridesParser
from test_configs import GROUPS, composed

from seqrnn.components import problems_of
from seqrnn.plugins import load_components
from seqrnn.rundir.reader import RunReader

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```(\w*)\n(.*?)```", README, flags=re.DOTALL)
COMMANDS = [
    line for kind, text in BLOCKS if kind in ("bash", "yaml") for line in text.splitlines() if "seqrnn.train" in line
]


def block(first_line: str) -> str:
    (text,) = (text for _, text in BLOCKS if text.startswith(first_line))
    return text


def each(override: str) -> list[str]:
    """The override, or one for each value that it is swept over."""
    parsed = OverridesParser.create().parse_override(override)
    if not parsed.is_sweep_override():
        return [override]
    return [f"{parsed.get_key_element()}={value}" for value in parsed.sweep_string_iterator()]


def test_the_quick_start_is_the_first_command_and_the_tests_are_the_second() -> None:
    first, second = [text for kind, text in BLOCKS if kind == "bash"][:2]
    assert first == "uv run python -m seqrnn.train task=integral model=gru\n"
    assert second == "uv run pytest\n"
    assert "uv run pytest\n" in (ROOT / ".ci" / "run").read_text(encoding="utf-8")


@pytest.mark.parametrize("line", [line for line in COMMANDS if "plugins=" not in line])
def test_every_command_is_sound(line: str) -> None:
    load_components()
    words = shlex.split(line.partition("seqrnn.train ")[2])
    choices = [each(word) for word in words if not word.startswith("-")]
    for overrides in product(*choices):
        assert problems_of(composed(*overrides)) == []


def test_every_choice_is_mentioned() -> None:
    for names in GROUPS.values():
        for name in names:
            assert f"`{name}`" in README


def test_every_picture_is_there() -> None:
    pictures = re.findall(r"!\[.+?\]\((.+?)\)", README)
    assert len(pictures) >= 5
    assert all((ROOT / picture).is_file() for picture in pictures)


def test_the_example_task_runs_from_outside(tmp_path: Path) -> None:
    (tmp_path / "conf" / "task").mkdir(parents=True)
    (tmp_path / "echo.py").write_text(block("# echo.py"), encoding="utf-8")
    (tmp_path / "conf" / "task" / "echo.yaml").write_text(block("# @package _global_"), encoding="utf-8")
    (line,) = (line for line in COMMANDS if "plugins=" in line)
    words = shlex.split(line.partition("python -m ")[2])
    result = subprocess.run(
        [sys.executable, "-m", *words, "smoke=true", "plots.draw=false"],
        cwd=tmp_path, capture_output=True, text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([".", str(ROOT)])},
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert "finished after" in result.stdout


def test_weights_load_as_shown(command: Callable[..., Finished]) -> None:
    finished = command("task=integral", "model=gru", "smoke=true", "plots.draw=false")
    snippet = block("from pathlib import Path").replace("outputs/integral-gru/...", str(finished.directory))
    names: dict[str, Any] = {}
    exec(snippet, names)  # the README's own lines
    saved = torch.from_numpy(RunReader(finished.directory).predictions()["outputs"][:, :1])
    torch.testing.assert_close(names["outputs"], saved)
