"""Imports run one way, so that each part can be read, replaced and tested without those above it."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest

import seqrnn

PACKAGE = Path(seqrnn.__file__).parent
ANYTHING = {"train"}  # the top: ties everything together
ALLOWED = {  # a module's own line comes before that of its folder
    "errors": set(),
    "bounds": set(),
    "losses": set(),
    "metrics": set(),
    "lr_decay": set(),
    "registry": {"errors"},
    "cli": {"errors", "overrides"},
    "overrides": {"errors"},
    "monitor": {"errors", "strategies.protocol"},
    "lock": {"errors"},
    "signals": {"errors"},
    "resume": {"cli", "errors", "run"},
    "reading": {"errors"},
    "run": {"errors", "lock", "reading"},
    "schedule": {"bounds", "lr_decay"},
    "loop": {
        "losses", "models.network", "models.protocol", "monitor", "schedule", "strategies.protocol", "tasks.protocol",
    },
    "strategies.protocol": {"schedule", "strategies.state", "tasks.protocol"},
    "strategies.state": {"errors", "models.protocol"},
    "strategies.plain": {
        "loop", "losses", "models.network", "models.protocol", "schedule", "strategies", "tasks.protocol",
    },
    "strategies.folded": {
        "loop", "losses", "models.network", "models.protocol", "schedule", "strategies.plain", "tasks.protocol",
    },
    "strategies.compiled": {
        "errors", "kernels", "losses", "models.network", "models.protocol", "optimizers", "schedule", "strategies",
        "tasks.protocol",
    },
    "strategies.data": {"errors", "schedule", "strategies.protocol", "tasks.protocol"},
    "strategies.choice": {
        "errors", "kernels.obstacles", "losses", "models.network", "schedule", "settings", "strategies",
    },
    "strategies": set(),
    "kernels.network": {"kernels", "models.network", "models.protocol"},
    "kernels.recurrence": {"kernels", "models.protocol"},
    "kernels": {"kernels"},
    "device": {"errors", "loop"},
    "optimizers": {"bounds", "errors", "registry"},
    "checkpoints.file": {"errors"},
    "checkpoints.keeper": {"bounds", "checkpoints.file", "errors"},
    "checkpoints.initial": {"errors", "run", "strategies.state"},
    "checkpoints.training": {
        "checkpoints", "errors", "loop", "monitor", "recording", "resume", "run", "settings",
        "signals", "strategies.protocol", "strategies.state", "tasks.protocol",
    },
    "checkpoints": set(),
    "settings": {
        "bounds", "checkpoints.keeper", "device", "errors", "loop", "losses", "models.network", "registry",
        "schedule", "tasks.protocol",
    },
    "smoke": {"registry", "schedule"},
    "tasks": {"bounds", "errors", "metrics", "registry", "tasks.protocol"},
    "models.network": {"bounds", "errors", "kernels.obstacles", "kernels.recurrence", "models.protocol"},
    "models": {"bounds", "errors", "models.protocol", "models.stack", "registry"},
    "recording": {
        "device", "errors", "loop", "monitor", "plots", "recording", "resume", "run", "schedule", "settings",
        "tasks.protocol",
    },
    "plots": {"cli", "errors", "plots", "reading", "run"},
    "diagnosis": {
        "cli", "diagnosis", "errors", "lr_decay", "loop", "losses", "models.network", "models.protocol", "monitor",
        "plots", "registry", "run", "schedule", "settings", "strategies", "tasks.protocol",
    },
    "diagnose": {"cli", "diagnosis", "errors", "plots"},
}  # fmt: skip
FOLDERS = {"checkpoints", "diagnosis", "kernels", "plots", "recording", "strategies"}


def imported(nodes: Iterable[ast.AST]) -> set[str]:
    """The modules of this package that some statements import, without the package's name."""
    found: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "seqrnn":
            module = node.module.removeprefix("seqrnn").lstrip(".")
            for alias in node.names:
                name = f"{module}.{alias.name}".lstrip(".")
                is_module = (PACKAGE / name.replace(".", "/")).with_suffix(".py").exists()
                found |= {name if is_module else module} - {""}
        if isinstance(node, ast.Import):
            found |= {alias.name.removeprefix("seqrnn.") for alias in node.names if alias.name.startswith("seqrnn.")}
    return found


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_module_imports_only_what_lies_below_it(path: Path) -> None:
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    if parts[0] in ANYTHING or parts == ("__init__",):
        return
    allowed = ALLOWED.get(".".join(parts)) or ALLOWED[parts[0]]
    for module in imported(ast.walk(ast.parse(path.read_text(encoding="utf-8")))):
        assert module in allowed or module.split(".")[0] in allowed & FOLDERS, f"{path.name} imports {module}"


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_only_kernels_import_their_compiler_and_nothing_imports_them_before_they_are_used(path: Path) -> None:
    folder = path.relative_to(PACKAGE).parts[0]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        assert folder == "kernels" or not {name.split(".")[0] for name in names} & {"numba", "llvmlite"}
    if path.name != "compiled.py" and folder != "kernels":
        beforehand = imported(ast.parse(path.read_text(encoding="utf-8")).body) - {"kernels.obstacles"}
        assert not [module for module in beforehand if module.startswith(("kernels", "strategies.compiled"))]


@pytest.mark.parametrize("arguments", [["--help"], ["--cfg", "job"], ["task=integra"]], ids=" ".join)
def test_what_needs_no_network_does_not_wait_for_torch(arguments: list[str], tmp_path: Path) -> None:
    script = (
        "import sys; sys.argv[1:] = sys.argv[2:]\n"
        "from seqrnn.train import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "print('slow:', sorted({'torch', 'matplotlib', 'torchvision', 'pydantic', 'numba'} & set(sys.modules)))"
    )
    result = subprocess.run(
        [sys.executable, "-c", script, "seqrnn-train", *arguments],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert result.stdout.endswith("slow: []\n"), result.stdout[-200:]


def test_nothing_is_collected_while_torch_is_first_imported_and_everything_afterwards() -> None:
    script = (
        "import gc\n"
        "from seqrnn import cli\n"
        "with cli.importing():\n"
        "    import torch\n"
        "    print(gc.isenabled(), end=' ')\n"
        "print(gc.isenabled(), gc.get_freeze_count() > 100_000, end=' ')\n"
        "with cli.importing(): print(gc.isenabled())\n"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert result.stdout == "False True True True\n"


@pytest.mark.parametrize(
    "arguments",
    [["experiment=sine_online"], ["task=integral", "deterministic=true"], ["task=integral", "model.kernel=torch"]],
    ids=" ".join,
)
def test_a_run_on_a_cpu_imports_no_compiler_that_it_does_not_use(arguments: list[str], tmp_path: Path) -> None:
    unused = "{'numba', 'llvmlite'}" if "model.kernel=torch" in arguments else "set()"
    script = (
        "import sys; sys.argv[1:] = sys.argv[2:]\n"
        "from seqrnn.train import main\n"
        "main()\n"
        "slow = {'torch._dynamo', 'torch._inductor', 'sympy', 'torchvision', 'tensorboard', 'matplotlib.pyplot'}\n"
        f"slow |= {unused}\n"
        "print('slow:', sorted(slow & set(sys.modules)))"
    )
    result = subprocess.run(
        [sys.executable, "-c", script, "seqrnn-train", *arguments, "device=cpu", "smoke=true"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert result.stdout.endswith("slow: []\n"), result.stdout[-200:]
