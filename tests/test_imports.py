"""Imports run one way, so that each part can be read, replaced and tested without those above it."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterable
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import seqrnn

PACKAGE = Path(seqrnn.__file__).parent
# From the ground up. A module imports from its own floor (without a circle) and from the floors below, nothing else.
FLOORS = (
    ("errors", "bounds", "keys", "clock"),
    ("config_files", "rundir"),
    ("composition", "device", "lr_decay", "losses", "metrics", "registry"),
    ("settings", "schedule", "smoke", "plugins"),
    ("kernels",),
    ("tables", "forecasting"),
    ("tasks", "models", "optimizers"),
    ("components",),
    ("strategies", "monitor", "evaluation", "recursion", "loop", "training", "population"),
    ("plots",),
    ("recording",),
    ("checkpoints",),
    ("processes",),
    ("diagnosis", "streaming"),
    ("resuming", "results", "run_table"),
    ("exporting",),
    ("api",),
    ("prediction",),
    ("assessment", "reproduction"),
    ("cli",),
    ("sweeping",),
    ("reports",),
    ("train", "diagnose", "export", "predict", "evaluate", "report", "reproduce", "plots.__main__"),
)


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


MODULES = {
    ".".join(path.relative_to(PACKAGE).with_suffix("").parts): imported(ast.walk(ast.parse(path.read_text("utf-8"))))
    for path in sorted(PACKAGE.rglob("*.py"))
}


def floor_of(module: str) -> int:
    """The floor of a module: that of its own name, else that of its folder."""
    for name in (module.removesuffix(".__init__"), module.partition(".")[0]):
        for number, floor in enumerate(FLOORS):
            if name in floor:
                return number
    raise AssertionError(f"{module}: stands on no floor; give it one in FLOORS")


@pytest.mark.parametrize("module", sorted(set(MODULES) - {"__init__"}))
def test_a_module_imports_nothing_from_a_floor_above(module: str) -> None:
    for other in MODULES[module]:
        assert floor_of(other) <= floor_of(module), f"{module} imports {other}, from a floor above"


def test_no_modules_import_each_other_in_a_circle() -> None:
    graph = {name: {other for other in others if other in MODULES} for name, others in MODULES.items()}
    try:
        tuple(TopologicalSorter(graph).static_order())
    except CycleError as error:
        pytest.fail(f"a circle: {' -> '.join(error.args[1])}")


def test_folders_import_each_other_in_one_direction() -> None:
    """As modules do not, neither do the folders and files at the top of the package."""
    graph: dict[str, set[str]] = {}
    for name, others in MODULES.items():
        if name != "__init__" and not name.endswith("__main__"):
            tops = {other.partition(".")[0] for other in others} - {name.partition(".")[0]}
            graph.setdefault(name.partition(".")[0], set()).update(tops)
    try:
        tuple(TopologicalSorter(graph).static_order())
    except CycleError as error:
        pytest.fail(f"a circle: {' -> '.join(error.args[1])}")


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_only_kernels_import_their_compiler_and_nothing_imports_them_before_they_are_used(path: Path) -> None:
    folder = path.relative_to(PACKAGE).parts[0]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        assert folder == "kernels" or not {name.split(".")[0] for name in names} & {"numba", "llvmlite"}
    if not path.name.startswith("compiled") and folder != "kernels":
        beforehand = imported(ast.parse(path.read_text(encoding="utf-8")).body) - {
            "kernels.support",
            "kernels.specification",
        }
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


@pytest.mark.long
def test_nothing_is_collected_while_torch_is_first_imported_and_everything_afterwards() -> None:
    script = (
        "import gc\n"
        "from seqrnn.cli import reporting\n"
        "with reporting.importing():\n"
        "    import torch\n"
        "    print(gc.isenabled(), end=' ')\n"
        "print(gc.isenabled(), gc.get_freeze_count() > 100_000, end=' ')\n"
        "with reporting.importing(): print(gc.isenabled())\n"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert result.stdout == "False True True True\n"


@pytest.mark.long
@pytest.mark.parametrize(
    "arguments",
    [["experiment=sine_online"], ["task=integral", "deterministic=true"], ["task=integral", "kernel=torch"]],
    ids=" ".join,
)
def test_a_run_on_a_cpu_imports_no_compiler_that_it_does_not_use(arguments: list[str], tmp_path: Path) -> None:
    unused = "{'numba', 'llvmlite'}" if "kernel=torch" in arguments else "set()"
    script = (
        "import sys; sys.argv[1:] = sys.argv[2:]\n"
        "from seqrnn.train import main\n"
        "main()\n"
        "slow = {'torch._dynamo', 'torch._inductor', 'sympy', 'torchvision', 'tensorboard', 'matplotlib.pyplot'}\n"
        "slow |= {'pandas', 'pyarrow', 'seqrnn.processes.group'}\n"
        "slow |= {'scipy.stats', 'scipy.optimize', 'scipy.signal', 'sklearn', 'statsmodels', 'plotly', 'onnx'}\n"
        "slow |= {'jinja2', 'matplotlib.animation', 'torch.utils.tensorboard', 'ray', 'submitit', 'joblib'}\n"
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


@pytest.mark.long
def test_compiled_code_that_was_kept_is_loaded_without_what_compiling_imports(tmp_path: Path) -> None:
    script = (
        "import sys; sys.argv[1:] = ['experiment=sine_online', 'smoke=true', 'device=cpu', 'plots.draw=false']\n"
        "from seqrnn.train import main\n"
        "main()\n"
        "print('slow:', sorted({'scipy.linalg', 'numba.np.arraymath', 'matplotlib'} & set(sys.modules)))"
    )
    for number in range(2):  # the first process compiles, if no other test has run before
        result = subprocess.run(
            [sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=True
        )
        assert number == 0 or result.stdout.endswith("slow: []\n"), result.stdout[-200:]
