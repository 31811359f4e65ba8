"""The built wheel, in an unrelated directory, with another package's task, cell and optimizer."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import seqrnn

pytestmark = pytest.mark.long  # it builds the wheel, and runs it in processes of its own
ROOT = Path(seqrnn.__file__).resolve().parent.parent

TASK = '''
import torch
from seqrnn import metrics
from seqrnn.bounds import Count
from seqrnn.registry import register
from seqrnn.tasks.protocol import stored


@register("task", "echo")
class Echo:
    """Say again what was heard one timestep ago."""

    input_size = output_size = 1
    kind, loss = "regression", "mse"
    metrics = staticmethod(metrics.regression)

    def __init__(self, seed, *, length: Count):
        x = torch.randn(length + 1, 4, 1, generator=torch.Generator().manual_seed(seed))
        self.batch = stored(x[1:], x[:-1])

    def train(self, epoch, streams):
        return [self.batch]

    def validation(self):
        return [self.batch]

    test = validation

    def baselines(self):
        return {"constant (0)": lambda chunk: torch.zeros_like(chunk.targets)}
'''

CELL = """
import torch
from torch import nn
from seqrnn.bounds import Count
from seqrnn.registry import register


@register("model", "leaky")
class Leaky(nn.Module):
    def __init__(self, input_size, *, hidden_size: Count, leak: float):
        super().__init__()
        self.output_size, self.leak = hidden_size, leak
        self.inward = nn.Linear(input_size, hidden_size)
        self.around = nn.Linear(hidden_size, hidden_size, bias=False)

    def forward(self, inputs, state):
        (h,), outputs = state, []
        for x in inputs:
            h = (1 - self.leak) * h + self.leak * torch.tanh(self.inward(x) + self.around(h))
            outputs.append(h[0])
        return torch.stack(outputs), (h,)

    def initial_state(self, streams):
        return (torch.zeros(1, streams, self.output_size, dtype=self.around.weight.dtype),)

    def recurrent_weights(self):
        return [self.around.weight.data]
"""

OPTIMIZER = """
import torch
from seqrnn.bounds import Positive
from seqrnn.registry import register


@register("optimizer", "sign")
class Sign(torch.optim.Optimizer):
    def __init__(self, parameters, *, lr: Positive):
        super().__init__(parameters, {"lr": lr})

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    parameter.sub_(group["lr"] * parameter.grad.sign())
"""

CONF = {
    "task/echo.yaml": "# @package _global_\ntask:\n  name: echo\n  length: 12\nsuggested:\n  epochs: 3\n",
    "model/leaky.yaml": "name: leaky\nhidden_size: 5\nleak: 0.5\n",
    "optimizer/sign.yaml": "name: sign\nlr: 0.01\n",
}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the wheel is installed: nothing of the checkout is to be seen from there."""
    folder = tmp_path_factory.mktemp("install")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder / "dist")],
        cwd=ROOT, check=True, capture_output=True,
    )  # fmt: skip
    (wheel,) = (folder / "dist").glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        archive.extractall(folder / "site")
    assert "seqrnn/conf/config.yaml" in names
    assert not [name for name in names if name.startswith(("tests/", "outputs/", "conf/"))]
    return folder / "site"


def run(site: Path, cwd: Path, *arguments: str, path: tuple[Path, ...] = ()) -> subprocess.CompletedProcess[str]:
    script = (
        "import seqrnn, sys; assert seqrnn.__file__.startswith(sys.argv.pop(1)), seqrnn.__file__\n"
        "from importlib.metadata import entry_points\n"
        "(command,) = {e.value: e for e in entry_points(group='console_scripts', name='seqrnn-train')}.values()\n"
        "command.load()()"
    )
    return subprocess.run(
        [sys.executable, "-P", "-c", script, str(site), *arguments],
        cwd=cwd, capture_output=True, text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, (site, *path)))},
    )  # fmt: skip


def test_the_wheel_runs_in_an_empty_directory_and_writes_there(site: Path, tmp_path: Path) -> None:
    result = run(site, tmp_path, "task=integral", "model=gru", "smoke=true")
    assert result.returncode == 0, result.stderr
    (summary,) = tmp_path.glob("outputs/integral-gru/*/summary.json")
    assert json.loads(summary.read_text())["status"] == "finished"
    assert result.stdout.splitlines()[-1] == str(summary.parent.relative_to(tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ["outputs"]


@pytest.mark.parametrize("how", ["entry point", "named module"])
def test_another_package_brings_a_task_a_cell_and_an_optimizer(how: str, site: Path, tmp_path: Path) -> None:
    plugin = tmp_path / "plugin"
    modules = {"echo_task.py": TASK, "echo_cell.py": CELL, "echo_optimizer.py": OPTIMIZER}
    for name, text in {**modules, **CONF}.items():
        (plugin / name).parent.mkdir(parents=True, exist_ok=True)
        (plugin / name).write_text(text)
    named = ["plugins=[echo_task,echo_cell,echo_optimizer]"]
    if how == "entry point":
        named = []
        metadata = plugin / "echo-1.dist-info"
        metadata.mkdir()
        (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: echo\nVersion: 1\n")
        (metadata / "entry_points.txt").write_text(
            "[seqrnn.plugins]\ntask = echo_task\ncell = echo_cell\noptimizer = echo_optimizer\n"
        )
    work = tmp_path / "work"
    work.mkdir()
    line = ("--config-dir", str(plugin), "task=echo", "model=leaky", "optimizer=sign", *named)
    result = run(site, work, *line, path=(plugin,))
    assert result.returncode == 0, result.stderr
    (summary,) = work.glob("outputs/echo-leaky/*/summary.json")
    assert json.loads(summary.read_text())["updates"] == 3
    assert (summary.parent / "predictions.png").is_file()
    # What an optimizer from outside remembers goes into checkpoints like that of any other.
    resumed = run(site, work, f"resume={summary.parent}", "schedule.epochs=5", *named, path=(plugin,))
    assert resumed.returncode == 0, resumed.stderr
    assert json.loads(summary.read_text())["updates"] == 5

    refused = run(site, work, *line, "model.leek=1", path=(plugin,))
    assert refused.returncode == 2
    assert "did you mean model.leak?" in refused.stderr


def test_the_wheel_has_the_version_of_the_package(site: Path) -> None:
    (metadata,) = site.glob("seqrnn-*.dist-info/METADATA")
    assert f"\nVersion: {seqrnn.__version__}\n" in metadata.read_text()
