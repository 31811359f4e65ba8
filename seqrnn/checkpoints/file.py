"""The format of a checkpoint: a safetensors file that says what its tensors are, with a checksum of all its bytes.

    8 bytes   N, little-endian          N bytes   header: JSON          the rest   tensors, raw

The header's ``__metadata__`` holds ``format``, ``version``, ``sha256`` (of the whole file, with the sum itself as
zeros) and ``state``: the tree as JSON, in which ``{"$tensor": NAME}`` stands for a tensor. Any safetensors tool can
open it; nothing in it is pickled, compressed or run, and what it declares must be what it holds.
"""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
from torch import Tensor

from seqrnn.errors import DataError
from seqrnn.rundir.atomic import replacing

FORMAT, VERSION = "seqrnn checkpoint", 1
TENSOR = "$tensor"
LARGEST_HEADER = 100_000_000  # bytes, as safetensors has it
AT_ONCE = 2**20
ZEROS = b"0" * 64
SUM = re.compile(rb'"sha256":"([0-9a-f]{64})"')  # inside of a text, its quotes would be escaped

Tree = dict[str, Any]  # of dicts, lists, numbers, texts, None and tensors


class Damaged(DataError):
    """A checkpoint that is not what was written."""


class Newer(DataError):
    """A checkpoint in a format that this version of seqrnn does not know."""


def write(path: Path, tree: Tree) -> None:
    """Writes a checkpoint, whole or not at all: what was at ``path`` before stays until the new one is on the disk
    and reads back.

    Raises:
        OSError: it cannot be written.
        Damaged: it does not read back.
    """
    with replacing(path, durable=True, check=_check) as temporary:
        temporary.write_bytes(_encoded(tree))


def read(path: Path) -> Tree:
    """A checkpoint's tree, its tensors on the CPU.

    Raises:
        Damaged: not every byte is as it was written.
        Newer: it is in a newer format.
    """
    metadata = _check(path)
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            tree: Tree = _grown(json.loads(metadata["state"]), file)
    except Exception as error:
        raise Damaged(f"{path}: damaged: {error}") from None
    return tree


def _check(path: Path) -> dict[str, str]:
    """The metadata of a sound checkpoint. Its size is known before memory is taken, and the file is summed up in
    pieces before anything in it is believed."""
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if size < 8 or length > min(size - 8, LARGEST_HEADER):
                raise Damaged(f"{path}: damaged: {size:,} bytes, shorter than it should be")
            header = file.read(length)
            found = SUM.search(header)
            if not found:
                raise Damaged(f"{path}: damaged: no checkpoint of seqrnn's")
            digest = hashlib.sha256(length.to_bytes(8, "little"))
            digest.update(header[: found.start(1)] + ZEROS + header[found.end(1) :])
            while piece := file.read(AT_ONCE):
                digest.update(piece)
        if digest.hexdigest().encode() != found[1]:
            raise Damaged(f"{path}: damaged: its checksum does not fit what it holds")
        metadata: dict[str, str] = json.loads(header)["__metadata__"]
        if metadata["format"] != FORMAT:
            raise Damaged(f"{path}: damaged: {metadata['format']!r} is no checkpoint of seqrnn's")
        version = int(metadata["version"])
    except OSError as error:
        raise Damaged(f"{path}: cannot be read: {error.strerror or error}") from None
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise Damaged(f"{path}: damaged: {error!r}") from None
    if version > VERSION:
        raise Newer(
            f"{path}: written by a newer seqrnn (format {version}, and this one reads up to {VERSION}): install that "
            "one to go on, or move the file away to go on from the checkpoint before it"
        )
    return metadata


def _encoded(tree: Tree) -> bytearray:
    tensors: dict[str, Tensor] = {}
    state = json.dumps(_felled(tree, "", tensors))
    metadata = {"format": FORMAT, "version": str(VERSION), "sha256": ZEROS.decode(), "state": state}
    content = bytearray(safetensors.torch.save(tensors, metadata))
    found = SUM.search(content)
    assert found
    content[found.start(1) : found.end(1)] = hashlib.sha256(content).hexdigest().encode()
    return content


def _felled(value: Any, name: str, tensors: dict[str, Tensor]) -> Any:
    """The tree for JSON; its tensors go to ``tensors``."""
    if isinstance(value, Tensor):
        tensors[name] = value.contiguous()
        return {TENSOR: name}
    if isinstance(value, dict):
        return {key: _felled(part, f"{name}/{key}".lstrip("/"), tensors) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_felled(part, f"{name}/{index}", tensors) for index, part in enumerate(value)]
    if value is None or isinstance(value, str | bool | int | float):
        return value
    raise TypeError(f"{name}: a checkpoint cannot hold a {type(value).__name__}")


def _grown(value: Any, file: Any) -> Any:
    if isinstance(value, dict):
        if set(value) == {TENSOR}:
            return file.get_tensor(value[TENSOR]).clone()
        return {key: _grown(part, file) for key, part in value.items()}
    return [_grown(part, file) for part in value] if isinstance(value, list) else value
