"""The processor that code is compiled for: how wide its vectors are, and which instructions work on them.

Each width is right on every processor that has it. A wider one is faster, so the widest is taken.
"""

from __future__ import annotations

from dataclasses import dataclass

from numba.core.registry import cpu_target

ARM = ("aarch64", "arm64")  # names of the same processors: Linux has the first, macOS the second


@dataclass(frozen=True)
class Target:
    """A kind of processor.

    Args:
        vector_bytes: the width of a vector.
        registers: how many vectors the processor holds.
        fused: whether it multiplies and adds in one instruction, rounding once.
        rounds: whether it rounds to whole numbers in one instruction.
        masks: ``none`` if it cannot load or store some lanes of a vector alone, ``slow`` if that takes longer than
            loading or storing all of them, else ``fast``.
    """

    vector_bytes: int
    registers: int
    fused: bool
    rounds: bool
    masks: str


def find_target(architecture: str, features: str) -> Target:
    """Returns the target of a processor.

    Args:
        architecture: such as ``x86_64``: the beginning of LLVM's triple.
        features: as LLVM takes them, such as ``+avx,+avx2,-avx512f``.
    """
    has = {name[1:] for name in features.split(",") if name.startswith("+")}
    if architecture in ARM:  # NEON, which all of them have
        return Target(16, registers=32, fused=True, rounds=True, masks="none")
    if "avx512f" in has:
        return Target(64, registers=32, fused=True, rounds=True, masks="fast")
    if {"avx2", "fma"} <= has:
        return Target(32, registers=16, fused=True, rounds=True, masks="slow")
    return Target(16, registers=16, fused="fma" in has, rounds="sse4.1" in has, masks="none")


def _compiled_for() -> Target:
    triple, _, features = cpu_target.target_context.codegen().magic_tuple()
    return find_target(triple.partition("-")[0], features)


TARGET = _compiled_for()
