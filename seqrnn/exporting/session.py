"""An export from beginning to end: traces the network of a run, writes it, compares it with the run, describes it."""

from __future__ import annotations

import hashlib
import textwrap
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch

from seqrnn.errors import ConfigError, DataError, UserError, printable
from seqrnn.exporting.card import model_card
from seqrnn.exporting.description import Description, describe, names_of
from seqrnn.exporting.formats import FORMATS, LONGEST_REASON, Format, Names
from seqrnn.exporting.interface import Interface, task_interface
from seqrnn.exporting.programs import Timesteps, trace
from seqrnn.exporting.tables import table_interface
from seqrnn.exporting.verification import Sequences, Verified, verify
from seqrnn.models.network import Network
from seqrnn.results import Run, Which
from seqrnn.rundir.atomic import replacing
from seqrnn.rundir.formats import SummaryValues
from seqrnn.rundir.names import PREDICTIONS

MOST_BYTES = 2**31 - 2**24  # of the weights in a file of ONNX: protocol buffers end at 2 GiB
TIMESTEPS: tuple[Timesteps, ...] = ("any", "one")
MOST_SEQUENCES = 1000  # that are compared


def export(
    directory: Path, format: str, out: Path | None = None, which: Which = "tested", plugins: Sequence[str] = ()
) -> Path:
    """Exports the trained network of a run, with its model card beside it, and prints what was done.

    Args:
        directory: a run directory, which may come from anyone.
        format: a name in ``seqrnn.exporting.formats.FORMATS``.
        out: the file; None: ``model`` with the suffix of the format, in the run directory.
        which: see ``Run.network``.
        plugins: modules to import that the run needs.

    Returns:
        The path of the file.

    Raises:
        UserError: it is no run directory, something in it is damaged, a package is missing, the network cannot be
            exported, or the exported network differs from the run. The file is then not written, and one of the same
            name stays as it was.
    """
    kind = FORMATS[format]
    missing = [package for package in kind.packages if find_spec(package) is None]
    if missing:
        raise ConfigError(
            f"--format {format}: needs {', '.join(missing)}, which {'are' if missing[1:] else 'is'} not installed; "
            "install seqrnn[export], or use --format torch"
        )
    run = Run(directory, plugins)
    path = out or directory / f"model{kind.suffix}"
    if path.suffix != kind.suffix:
        raise ConfigError(f"--out {path}: a file of --format {format} has the suffix {kind.suffix}")
    if not path.parent.is_dir():
        raise ConfigError(f"--out {path}: there is no directory {path.parent}")
    network = run.network(which)
    size = sum(value.numel() * value.element_size() for value in network.state_dict().values())
    if format == "onnx" and size > MOST_BYTES:
        raise ConfigError(
            f"{directory}: its weights have {size:,} bytes, and a file of ONNX holds at most {MOST_BYTES:,}; "
            "use --format torch"
        )
    names, dtype = names_of(network), next(network.parameters()).dtype
    interface = table_interface(run, dtype) or task_interface(SummaryValues(**run.summary), run.config["seed"])
    data, warm_up = _test_data(run, dtype, interface)
    card = path.with_name(f"{path.stem}_card.md")
    with replacing(path) as temporary:
        description = _write(run, network, kind, names, interface, which, warm_up, temporary)
        verified = verify(kind.load(temporary), network, interface.expected, data, description.timesteps)
        digest = hashlib.sha256(temporary.read_bytes()).hexdigest()
        text = model_card(description, verified, file=path.name, format=format, digest=digest)
        with replacing(card) as beside:  # both take their places together, as of one run
            beside.write_text(text, encoding="utf-8")
    _print(description, verified, path, card)
    return path


def _write(
    run: Run,
    network: Network,
    kind: Format,
    names: Names,
    interface: Interface,
    which: Which,
    warm_up: int,
    path: Path,
) -> Description:
    """Writes the network to a file: for any number of timesteps if torch can trace that, else for one.

    Raises:
        ConfigError: torch cannot trace the cell at all.
    """
    reason: str | None = None
    for timesteps in TIMESTEPS:
        description = describe(
            run, network, names, interface, which=which, timesteps=timesteps, reason=reason, warm_up=warm_up
        )
        try:
            program = trace(network, description.input_size, interface.units, timesteps)
            kind.write(program, names, timesteps, description.model_dump_json(), path)
            return description
        except (UserError, OSError, MemoryError):
            raise
        except Exception as error:  # torch raises many kinds of them; the next try tells
            reason = _reason_of(error)
    raise ConfigError(
        f"{run.directory}: the cell of model={description.model} cannot be exported, not even for one timestep: "
        f"{reason} (its forward should consist of operations of torch that do not depend on the values of inputs and "
        "states; some operations exist in --format torch alone)"
    )


def _reason_of(error: BaseException) -> str:
    """Returns in a line why torch could not export something."""
    while error.__cause__ is not None:
        error = error.__cause__
    return textwrap.shorten(f"{type(error).__name__}: {error}", LONGEST_REASON, placeholder="…")


def _test_data(run: Run, dtype: torch.dtype, interface: Interface) -> tuple[Sequences, int]:
    """Returns test sequences of a run, and how many timesteps at their beginning were not judged.

    Raises:
        DataError: the run has none, or they are not what a run writes.
    """
    path = run.directory / PREDICTIONS
    if not path.exists():
        raise DataError(f"{path}: is missing, so an export cannot be compared with the run; has the run finished?")
    arrays = run.predictions
    inputs = arrays.get("inputs", arrays.get("example_inputs"))  # of a classification, those of some sequences
    if inputs is None or inputs.ndim != 3 or 0 in inputs.shape or inputs.shape[2] != run.summary["input_size"]:
        raise DataError(f"{path}: should hold test inputs (timesteps, sequences, {run.summary['input_size']})")
    starts = arrays.get("starts", np.arange(len(inputs))[:, None] == np.zeros(inputs.shape[1]))
    valid = arrays.get("valid", np.ones(inputs.shape[:2], bool))
    for name, array in (("starts", starts), ("valid", valid)):
        if array.shape != inputs.shape[:2] or array.dtype != bool:
            raise DataError(f"{path}: {name} should be truth values {inputs.shape[:2]}")
    values = torch.from_numpy(inputs[:, :MOST_SEQUENCES]).to(dtype)
    warm_up = int(valid.any(axis=1).argmax())
    return Sequences(interface.given(values), values, torch.from_numpy(starts[:, :MOST_SEQUENCES])), warm_up


def _print(description: Description, verified: Verified, path: Path, card: Path) -> None:
    print(
        f"compared with the run on {verified.timesteps:,} timesteps of {verified.sequences:,} test "
        f"sequence{'s' * (verified.sequences != 1)}: the largest difference is {verified.difference:.2g}"
    )
    if description.one_timestep_reason:
        print(
            "the file computes one timestep in each call, because torch cannot trace this cell for any number of "
            f"them: {printable(description.one_timestep_reason)}"
        )
    print(printable(str(path)), printable(str(card)), sep="\n")
