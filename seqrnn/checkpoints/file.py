"""The format of a checkpoint: a safetensors file with a description of its tensors and a checksum of all its bytes.

    8 bytes   N, little-endian          N bytes   header: JSON          the rest   tensors, raw

The header's ``__metadata__`` holds ``format``, ``version``, ``sha256`` (of the whole file, with the sum itself as
zeros) and ``state``: the tree as JSON, in which ``{"$tensor": NAME}`` stands for a tensor. Any safetensors tool can
open it. Nothing in it is pickled, compressed or executed, and its header must describe exactly what follows it.

Version 2 has other names in its tree than version 1, and is the only one that is read.
"""

from __future__ import annotations

import hashlib
import json
import re
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
from torch import Tensor

from seqrnn.errors import DataError
from seqrnn.rundir.atomic import replacing

FORMAT, VERSION = "seqrnn checkpoint", 2
TENSOR = "$tensor"
LARGEST_HEADER = 100_000_000  # bytes; the limit of safetensors
LARGEST = 2**36  # bytes
BLOCK = 2**20  # bytes that are read at a time
ZEROS = b"0" * 64
SUM = re.compile(rb'"sha256":"([0-9a-f]{64})"')  # does not match within a text, where quotes are escaped

Tree = dict[str, Any]  # nested dicts and lists of numbers, texts, None and tensors


class Damaged(DataError):
    """A checkpoint whose bytes are not those that were written."""


class OtherVersion(DataError):
    """A checkpoint of an earlier or a newer version of seqrnn, in a format that this one cannot read."""


def write(path: Path, tree: Tree) -> None:
    """Writes a checkpoint, whole or not at all: the file that was at ``path`` before stays until the new one is on
    the disk and has been read back.

    Raises:
        OSError: the file cannot be written.
        Damaged: the bytes that are read back are others than those that were written.
    """
    with replacing(path, durable=True, check=check) as temporary:
        temporary.write_bytes(packed(tree))


def read(path: Path) -> Tree:
    """Returns the tree of a checkpoint, with its tensors on the CPU.

    Raises:
        Damaged: the file cannot be read, or some of its bytes are not those that were written.
        OtherVersion: it is in an earlier or a newer format.
    """
    metadata = check(path)
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            remaining = set(file.keys())  # each is read once: a small file cannot stand for any number of copies

            def take(name: str) -> Tensor:
                remaining.remove(name)
                tensor: Tensor = file.get_tensor(name).clone()
                return tensor

            tree: Tree = _decode(json.loads(metadata["state"]), take)
    except Exception as error:
        raise Damaged(f"{path}: damaged: {error}") from None
    return tree


def check(path: Path) -> dict[str, str]:
    """Checks a checkpoint and returns its metadata. Sizes are checked before memory is allocated, and the checksum
    before anything in the file is interpreted.

    Raises:
        Damaged, OtherVersion: see ``read``.
    """
    try:
        found_file = path.stat()
        size = found_file.st_size
        if not stat.S_ISREG(found_file.st_mode):  # opening a pipe would wait for whoever writes to it
            raise Damaged(f"{path}: cannot be read: it is no regular file")
        if size > LARGEST:
            raise Damaged(f"{path}: damaged: it has {size:,} bytes; {LARGEST:,} are the most that are read")
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if size < 8 or length > min(size - 8, LARGEST_HEADER):
                raise Damaged(f"{path}: damaged: it has {size:,} bytes, and should have more")
            header = file.read(length)
            found = SUM.search(header)
            if not found:
                raise Damaged(f"{path}: damaged: it has no checksum of a seqrnn checkpoint")
            digest = hashlib.sha256(length.to_bytes(8, "little"))
            digest.update(header[: found.start(1)] + ZEROS + header[found.end(1) :])
            while block := file.read(BLOCK):
                digest.update(block)
        if digest.hexdigest().encode() != found[1]:
            raise Damaged(f"{path}: damaged: its checksum is not that of its content")
        metadata: dict[str, str] = json.loads(header)["__metadata__"]
        if metadata["format"] != FORMAT:
            raise Damaged(f"{path}: damaged: its format is {metadata['format']!r}, not {FORMAT!r}")
        version = int(metadata["version"])
    except OSError as error:
        raise Damaged(f"{path}: cannot be read: {error.strerror or error}") from None
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise Damaged(f"{path}: damaged: {error!r}") from None
    if version > VERSION:
        raise OtherVersion(
            f"{path}: written by a newer seqrnn (format {version}, and this one reads {VERSION}): install that "
            "version to resume the run, or move the file away to resume from the checkpoint before it"
        )
    if version < VERSION:
        raise OtherVersion(
            f"{path}: written by an earlier seqrnn (format {version}, and this one reads {VERSION}): start a new run "
            "from its weights with init_from=RUN_DIR, or install that version to resume the run"
        )
    return metadata


def packed(tree: Tree) -> bytearray:
    """Returns the content of a checkpoint file."""
    tensors: dict[str, Tensor] = {}
    state = json.dumps(_encode(tree, "", tensors))
    metadata = {"format": FORMAT, "version": str(VERSION), "sha256": ZEROS.decode(), "state": state}
    content = bytearray(safetensors.torch.save(tensors, metadata))
    found = SUM.search(content)
    assert found
    content[found.start(1) : found.end(1)] = hashlib.sha256(content).hexdigest().encode()
    return content


def unpacked(content: bytes) -> Tree:
    """Returns the tree of what ``packed`` has returned, in a process that this one trusts: nothing is checked."""
    length = int.from_bytes(content[:8], "little")
    tensors = safetensors.torch.load(content)
    tree: Tree = _decode(
        json.loads(json.loads(content[8 : 8 + length])["__metadata__"]["state"]), tensors.__getitem__
    )
    return tree


def _encode(value: Any, name: str, tensors: dict[str, Tensor]) -> Any:
    """Returns a tree for JSON, and adds its tensors to ``tensors``."""
    if isinstance(value, Tensor):
        tensors[name] = value.contiguous()
        return {TENSOR: name}
    if isinstance(value, dict):
        return {key: _encode(part, f"{name}/{key}".lstrip("/"), tensors) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_encode(part, f"{name}/{index}", tensors) for index, part in enumerate(value)]
    if value is None or isinstance(value, str | bool | int | float):
        return value
    raise TypeError(f"{name}: a checkpoint cannot hold a {type(value).__name__}")


def _decode(value: Any, take: Callable[[str], Tensor]) -> Any:
    """Returns a tree from JSON.

    Args:
        take: returns a tensor of the file by its name; raises a KeyError if it is not there or has been taken.
    """
    if isinstance(value, dict):
        if set(value) == {TENSOR}:
            return take(value[TENSOR])
        return {key: _decode(part, take) for key, part in value.items()}
    return [_decode(part, take) for part in value] if isinstance(value, list) else value
