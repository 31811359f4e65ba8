"""The formats of exported networks: how a traced program is written to a file, and how such a file is run."""

from __future__ import annotations

import io
import os
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.export import ExportedProgram

from seqrnn.errors import ConfigError, printable
from seqrnn.exporting.programs import Timesteps, quiet
from seqrnn.models.protocol import State

LONGEST_REASON = 300  # characters
METADATA = "seqrnn"  # the key of the metadata in a file
OPSET = 20  # of ONNX: the first in which all that is needed exists; runtimes since the end of 2023 read it
Function = Callable[[Tensor, State], tuple[Tensor, State]]


@dataclass(frozen=True)
class Names:
    """The names of a program's inputs and outputs.

    Args:
        state: of the parts of the state.
    """

    state: Sequence[str]
    inputs: str = "inputs"
    outputs: str = "outputs"

    @property
    def arguments(self) -> list[str]:
        """The names of what a program is given."""
        return [self.inputs, *(f"state_{name}" for name in self.state)]

    @property
    def results(self) -> list[str]:
        """The names of what a program returns."""
        return [self.outputs, *(f"next_state_{name}" for name in self.state)]


class Format(Protocol):
    """A file format of exported networks."""

    suffix: str
    packages: Sequence[str]  # that it needs beside those that seqrnn always has

    def write(self, program: ExportedProgram, names: Names, timesteps: Timesteps, metadata: str, path: Path) -> None:
        """Writes a program to a file, with metadata in it."""

    def load(self, path: Path) -> Function:
        """Returns what computes (inputs, state) -> (outputs, state) from such a file, as another program would.

        Raises:
            ConfigError: the program that would do so cannot.
        """


class Onnx:
    """ONNX, run by onnxruntime and others. onnxruntime's reports of its use to its makers are switched off."""

    suffix = ".onnx"
    packages: Sequence[str] = ("onnx", "onnxruntime", "onnxscript")

    def write(self, program: ExportedProgram, names: Names, timesteps: Timesteps, metadata: str, path: Path) -> None:
        from onnx_ir.passes.common import ClearMetadataAndDocStringPass, RemoveUnusedNodesPass

        axes = {0: "timesteps", 1: "streams"} if timesteps == "any" else {1: "streams"}
        with quiet():
            exported = torch.onnx.export(
                program,
                dynamo=True,
                verbose=False,
                opset_version=OPSET,
                input_names=names.arguments,
                output_names=names.results,
                dynamic_shapes={"inputs": axes, "state": tuple({1: "streams"} for _ in names.state)},
            )
            assert exported is not None
            RemoveUnusedNodesPass()(exported.model)  # onnxruntime warns of constants that nothing uses
            ClearMetadataAndDocStringPass()(exported.model)  # source code and paths of this machine
            exported.model.metadata_props[METADATA] = metadata
            exported.save(path)

    def load(self, path: Path) -> Function:
        os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        try:
            session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # of kinds of its own
            reason = textwrap.shorten(printable(str(error)), LONGEST_REASON, placeholder="…")
            raise ConfigError(
                f"--format onnx: onnxruntime cannot compute this network: {reason}; some operations exist in single "
                "precision alone: train with precision=float32, or use --format torch"
            ) from error
        arguments = [argument.name for argument in session.get_inputs()]

        def run(inputs: Tensor, state: State) -> tuple[Tensor, State]:
            values = [value.contiguous().numpy() for value in (inputs, *state)]
            outputs, *after = session.run(None, dict(zip(arguments, values, strict=True)))
            return torch.from_numpy(outputs), tuple(map(torch.from_numpy, after))

        return run


class Torch:
    """A program of torch.export, run by torch."""

    suffix = ".pt2"
    packages: Sequence[str] = ()

    def write(self, program: ExportedProgram, names: Names, timesteps: Timesteps, metadata: str, path: Path) -> None:
        content = io.BytesIO()  # where torch cannot write a file to its end, it ends the process
        with quiet():
            torch.export.save(program, content, extra_files={METADATA: metadata})
        path.write_bytes(content.getbuffer())

    def load(self, path: Path) -> Function:
        with quiet():
            module: Any = torch.export.load(path).module()

        def run(inputs: Tensor, state: State) -> tuple[Tensor, State]:
            outputs, *after = module(inputs, *state)
            return outputs, tuple(after)

        return run


FORMATS: dict[str, Format] = {"onnx": Onnx(), "torch": Torch()}
