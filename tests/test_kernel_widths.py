"""Compiled code for processors other than this one: narrower vectors, fewer instructions, an emulated ARM.

Numba compiles for the processor that NUMBA_CPU_NAME and NUMBA_CPU_FEATURES describe. It reads them once, so tests at
another width run in a process of their own: the tests of the kernels, there.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from helpers import make_network

from seqrnn.kernels import support

needs_compiler = pytest.mark.skipif(support.machine_obstacle() is not None, reason=str(support.machine_obstacle()))
pytestmark = needs_compiler
if support.machine_obstacle() is None:
    from numba.core.codegen import JITCPUCodegen
    from test_kernels import norm, run_script

    from seqrnn.kernels.target import find_target

ROOT = Path(__file__).resolve().parent.parent
ARITHMETIC = "functions or product_equals or transpose_equals or norm_counts"
GRID = f"{ARITHMETIC} or recurrence_equals or gradcheck or long_sequence or second_backward"
# By a name: the processor, its features, and the bytes of its vectors.
X86 = {
    "sse2": ("x86-64", "+sse2", 16),
    "fma": ("x86-64", "+sse4.1,+sse4.2,+avx,+fma", 16),
    "avx2": ("haswell", "+sse4.1,+sse4.2,+avx,+avx2,+fma,+bmi,+bmi2,+popcnt", 32),
    "avx512": ("skylake-avx512", "+avx,+avx2,+fma,+avx512f,+avx512vl,+avx512bw,+avx512dq,+avx512cd", 64),
}
RUN = """
import sys, pytest
from seqrnn.kernels.target import TARGET
assert TARGET.vector_bytes == int(sys.argv.pop(1)), TARGET
sys.exit(pytest.main())
"""


def described(name: str) -> dict[str, str]:
    """Returns the environment in which numba compiles for a processor; skips the test where this one is another."""
    processor, features, _ = X86[name]
    triple, _, have = JITCPUCodegen("here").magic_tuple()
    missing = set(features.split(",")) - set(have.split(","))
    if not triple.startswith("x86_64") or missing:
        pytest.skip(f"this processor cannot run code for {name}: it lacks {', '.join(sorted(missing)) or 'x86-64'}")
    return {"NUMBA_CPU_NAME": processor, "NUMBA_CPU_FEATURES": features}


def run_tests(python: list[str], chosen: str, vector_bytes: int, *options: str, **environment: str) -> str:
    command = [*python, "-c", RUN, str(vector_bytes), "-o", "addopts=", "-q", "-p", "no:cacheprovider", *options]
    result = subprocess.run(
        [*command, "-k", chosen, "tests/test_kernels.py"],
        cwd=ROOT, env={**os.environ, **environment}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert result.returncode == 0, result.stdout[-4000:] + result.stderr[-2000:]
    return result.stdout


@pytest.mark.parametrize("name", X86)
def test_a_target_has_the_widest_vectors_that_its_features_allow(name: str) -> None:
    _, features, width = X86[name]
    target = find_target("x86_64", features)
    assert (target.vector_bytes, target.fused) == (width, name != "sse2")
    assert find_target("x86_64", features.replace("+avx", "-avx")).vector_bytes == 16


def test_every_64_bit_arm_has_vectors_of_16_bytes() -> None:
    assert find_target("aarch64", "+neon") == find_target("arm64", "")
    assert find_target("aarch64", "").vector_bytes == 16


def test_kept_code_is_of_one_target(monkeypatch: pytest.MonkeyPatch) -> None:
    norm._dispatcher()
    _, here = norm._folder_and_key(())
    for other in (("x86_64-unknown-linux-gnu", "x86-64", "+sse2"), ("aarch64-unknown-linux-gnu", "generic", "+neon")):
        monkeypatch.setattr(JITCPUCodegen, "magic_tuple", lambda self, other=other: other)
        assert norm._folder_and_key(())[1] != here


@pytest.mark.parametrize(
    ("width", "model", "size", "gradients", "reason"),
    [
        (16, "gru", 128, True, None),
        (16, "gru", 129, True, "beyond 128 hidden units, with vectors of 16 bytes"),
        (16, "lstm", 129, True, "beyond 128 hidden units, with vectors of 16 bytes"),
        (32, "gru", 256, True, None),
        (32, "gru", 257, True, "beyond 256 hidden units, with vectors of 32 bytes"),
        (64, "gru", 1024, True, None),
        (64, "gru", 1025, True, "beyond 1024 hidden units"),
        (64, "lstm", 257, True, "beyond 256 hidden units"),
        (64, "lstm", 65, False, "beyond 64 hidden units and 8 streams without gradients"),
    ],
)
def test_auto_leaves_large_networks_to_torch_and_tells_why(
    monkeypatch: pytest.MonkeyPatch, width: int, model: str, size: int, gradients: bool, reason: str | None
) -> None:
    monkeypatch.setattr("seqrnn.kernels.target.TARGET", replace(find_target("aarch64", ""), vector_bytes=width))
    with torch.device("meta"):
        network = make_network(model, hidden_size=size)
    found = network.torch_reason(torch.device("cpu"), torch.float32, 9, gradients)
    assert found == (reason and f"faster than compiled code {reason}")


@pytest.mark.long  # processes that compile
@pytest.mark.parametrize("name", X86)
def test_kernels_are_right_at_every_width(name: str) -> None:
    environment = described(name)
    assert " passed" in run_tests([sys.executable], GRID, X86[name][2], **environment)


@pytest.mark.long  # processes that compile
def test_targets_share_a_folder_and_not_their_code(tmp_path: Path) -> None:
    environments = [described("sse2"), described("avx2")]
    for compiled in (1, 0):
        for environment in environments:
            printed = run_script(tmp_path, **environment).communicate()[0].strip()
            assert printed == f"compiled {compiled} exact True kept True"
    assert len(list(tmp_path.rglob("forward-*.code"))) == 2


@pytest.mark.arm
@pytest.mark.skipif("SEQRNN_ARM_PYTHON" not in os.environ, reason="SEQRNN_ARM_PYTHON names no Python on 64-bit ARM")
@pytest.mark.timeout(7200)  # an emulated processor is 10 to 50 times slower
def test_kernels_are_right_on_arm() -> None:
    """SEQRNN_ARM_PYTHON is a command that runs Python on a 64-bit ARM processor, such as an emulated one, with torch,
    numba and pytest. Child processes need not be emulated."""
    python = shlex.split(os.environ["SEQRNN_ARM_PYTHON"])
    machine = subprocess.run(
        [*python, "-c", "import platform; print(platform.machine())"], capture_output=True, text=True, check=True
    )
    assert machine.stdout.strip() in ("aarch64", "arm64")
    assert " passed" in run_tests(python, GRID, 16, "-m", "not long", "--timeout", "3600")
