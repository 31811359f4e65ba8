"""What the README and the pages in docs/ show works: commands, examples, choices, pictures."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from itertools import product
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch
from hydra.core.override_parser.overrides_parser import OverridesParser
from test_configs import GROUPS, composed

from seqrnn import registry
from seqrnn.components import problems_of
from seqrnn.diagnosis.instrument import instruments
from seqrnn.plugins import load_components

ROOT = Path(__file__).parent.parent
PAGES = {path.name: path.read_text(encoding="utf-8") for path in (ROOT / "README.md", *(ROOT / "docs").glob("*.md"))}
README = PAGES["README.md"]
BLOCKS = {
    name: re.findall(r"^```(\w*)\n(.*?)^```", text, flags=re.DOTALL | re.MULTILINE) for name, text in PAGES.items()
}
COMMANDS = sorted(
    {
        line
        for blocks in BLOCKS.values()
        for kind, text in blocks
        if kind in ("bash", "yaml")
        for line in text.replace("\\\n", "").splitlines()
        if "seqrnn.train" in line
    }
)


def example(first_line: str) -> str:
    """The one block of docs/extending.md that begins so."""
    (text,) = (text for _, text in BLOCKS["extending.md"] if text.startswith(first_line))
    return text


def each_value(override: str) -> list[str]:
    """The override, or one for each value that it is swept over."""
    parsed = OverridesParser.create().parse_override(override)
    if not parsed.is_sweep_override():
        return [override]
    if not parsed.is_discrete_sweep():  # an interval: its ends
        return [f"{parsed.get_key_element()}={end}" for end in (parsed.value().start, parsed.value().end)]
    return [f"{parsed.get_key_element()}={value}" for value in parsed.sweep_string_iterator()]


def test_the_quick_start_is_the_first_command_and_the_tests_are_the_second() -> None:
    first, second = [text for kind, text in BLOCKS["README.md"] if kind == "bash"][:2]
    assert first == "uv run python -m seqrnn.train task=integral model=gru\n"
    assert second == "uv run pytest\n"
    assert "uv run pytest\n" in (ROOT / ".ci" / "run").read_text(encoding="utf-8")


def test_the_readme_is_of_one_sitting() -> None:
    assert len(README.split()) <= 1500


@pytest.mark.long
@pytest.mark.parametrize("line", [line for line in COMMANDS if "plugins=" not in line])
def test_a_command_that_is_shown_has_a_sound_config(line: str) -> None:
    load_components()
    words = shlex.split(line.partition("seqrnn.train ")[2])
    choices = [each_value(word) for word in words if not word.startswith("-")]
    for overrides in product(*choices):
        assert problems_of(composed(*overrides)) == []


@pytest.mark.parametrize("page", ["README.md", "config.md"])
def test_a_page_lists_every_choice(page: str) -> None:
    for names in GROUPS.values():
        for name in names:
            assert f"`{name}`" in PAGES[page], f"{page} does not mention {name}"


def test_every_key_of_the_schedule_is_explained() -> None:
    for key in composed()["schedule"]:
        assert f"`schedule.{key}`" in PAGES["config.md"]


@pytest.mark.parametrize("page", sorted(PAGES))
def test_the_pictures_of_a_page_are_there(page: str) -> None:
    folder = ROOT if page == "README.md" else ROOT / "docs"
    for picture in re.findall(r"!\[.+?\]\((.+?)\)", PAGES[page]):
        assert (folder / picture).is_file(), f"{page} shows {picture}"


@pytest.mark.long
def test_the_examples_of_a_task_a_cell_and_an_optimizer_run_from_outside(tmp_path: Path) -> None:
    for name, text in {
        "echo.py": example("# echo.py"),
        "leaky.py": example("# leaky.py"),
        "adadelta.py": example("import torch\nfrom seqrnn.bounds import Positive"),
        "conf/task/echo.yaml": example("# @package _global_"),
        "conf/model/leaky.yaml": example("# conf/model/leaky.yaml"),
        "conf/optimizer/adadelta.yaml": "name: adadelta\nlr: 1.0\neps: 1e-6\n",
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")
    task, cell = ([line for line in COMMANDS if f"plugins=[{name}]" in line] for name in ("echo", "leaky"))
    assert len(task) == len(cell) == 1
    words = shlex.split(task[0].partition("python -m ")[2].replace("plugins=[echo]", "plugins=[echo,leaky,adadelta]"))
    result = subprocess.run(
        [sys.executable, "-m", *words, "model=leaky", "optimizer=adadelta", "smoke=true", "plots.draw=false"],
        cwd=tmp_path, capture_output=True, text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([".", str(ROOT)])},
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert "finished after" in result.stdout


def test_the_example_of_an_instrument_is_registered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "sparsity.py").write_text(example("# sparsity.py"), encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    known = dict(registry._components["instrument"])
    try:
        load_components(["sparsity"])
        instrument = instruments()["sparsity"]
        run = SimpleNamespace(network=torch.nn.Linear(3, 1))
        torch.nn.init.zeros_(run.network.weight)
        torch.nn.init.zeros_(run.network.bias)
        result = instrument.measure(cast(Any, run))
        assert result.zeros.value == 1.0
        (finding,) = instrument.symptoms(result)
        assert finding.name == "sparse"
    finally:
        registry._components["instrument"] = known


def test_the_example_of_a_report_gives_a_task_intervals_that_cover_their_share() -> None:
    names: dict[str, Any] = {}
    exec(example("# intervals.py"), names)
    generator = np.random.default_rng(0)

    def predictions(noise: float) -> dict[str, Any]:
        targets = generator.normal(size=(200, 3, 1)).astype(np.float32)
        valid = generator.random((200, 3)) < 0.9
        made = {"network": targets + noise * generator.normal(size=targets.shape), "zero": 0 * targets}
        return {name: SimpleNamespace(targets=targets, valid=valid, outputs=made[name]) for name in made}

    report = names["report"](None, predictions(0.1), predictions(0.1))
    assert 0.86 < report.scores["network"]["coverage_90"] < 0.94
    assert report.summary["width_90"] == pytest.approx(2 * 1.645 * 0.1, rel=0.1)


def test_the_examples_in_python_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    for page in ("README.md", "python.md"):
        for kind, text in BLOCKS[page]:
            if kind == "python":
                exec(text, names)  # the page's own lines
    saved = torch.from_numpy(names["run"].predictions["outputs"][:, :1])
    torch.testing.assert_close(names["outputs"], saved)
