"""The checkpoint file: what was written is read, or there is an error."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import random
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from torch import Tensor

from seqrnn.checkpoints import file
from seqrnn.checkpoints.file import Damaged, OtherVersion
from seqrnn.checkpoints.manager import CheckpointManager, check_version
from seqrnn.errors import DataError
from seqrnn.settings import CheckpointSettings

TREE: dict[str, Any] = {
    "model": {"cell.weight": torch.arange(6.0).reshape(2, 3), "count": torch.tensor(7), "none": torch.zeros(0, 3)},
    "kinds": [
        torch.tensor([1, -2]), torch.tensor([True]), torch.arange(3, dtype=torch.uint8), torch.ones(2, 2).bfloat16(),
        torch.tensor([1e-300], dtype=torch.float64), torch.arange(6.0).reshape(2, 3).t(),
    ],
    "numbers": {"int": 2**53, "float": 0.1, "inf": float("inf"), "text": '"sha256":"' + "0" * 64 + '"', "no": None},
}  # fmt: skip


def same(one: Any, other: Any) -> bool:
    if isinstance(one, Tensor):
        return isinstance(other, Tensor) and one.dtype == other.dtype and torch.equal(one, other)
    if isinstance(one, dict):
        return list(one) == list(other) and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other) and type(one) is type(other)


def test_what_is_written_is_read(tmp_path: Path) -> None:
    file.write(tmp_path / "1.safetensors", TREE)
    assert same(file.read(tmp_path / "1.safetensors"), TREE)
    assert [path.name for path in tmp_path.iterdir()] == ["1.safetensors"]


def test_any_safetensors_tool_can_open_it(tmp_path: Path) -> None:
    file.write(tmp_path / "1.safetensors", TREE)
    tensors = safetensors.torch.load_file(tmp_path / "1.safetensors")
    assert torch.equal(tensors["model/cell.weight"], TREE["model"]["cell.weight"])


leaves = st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.floats(allow_nan=False) | st.text()
trees = st.recursive(
    leaves | st.integers(0, 5).map(lambda size: torch.arange(float(size))),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@pytest.mark.long
@hypothesis_settings(max_examples=100)
@given(tree=st.dictionaries(st.text(), trees, max_size=4))
def test_any_tree_is_read_as_it_was_written(tree: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("tree") / "1.safetensors"
    file.write(path, tree)
    assert same(file.read(path), tree)


def test_one_flipped_byte_anywhere_is_found(tmp_path: Path) -> None:
    path = tmp_path / "1.safetensors"
    file.write(path, TREE)
    content = path.read_bytes()
    rng = random.Random(0)
    everywhere = range(len(content)) if len(content) < 3000 else rng.sample(range(len(content)), 3000)
    for at in everywhere:
        damaged = bytearray(content)
        damaged[at] ^= 1 << rng.randrange(8)
        path.write_bytes(damaged)
        with pytest.raises(Damaged, match="damaged"):
            file.read(path)


@pytest.mark.parametrize("share", [0.0, 0.001, 0.3, 0.99])
def test_a_truncated_file_is_found(share: float, tmp_path: Path) -> None:
    path = tmp_path / "1.safetensors"
    file.write(path, TREE)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(Damaged, match="damaged"):
        file.read(path)


def test_a_file_with_appended_bytes_is_found(tmp_path: Path) -> None:
    path = tmp_path / "1.safetensors"
    file.write(path, TREE)
    path.write_bytes(path.read_bytes() + b"\0")
    with pytest.raises(Damaged):
        file.read(path)


def signed(metadata: dict[str, str], tensors: dict[str, Any] | None = None, data: bytes = b"") -> bytes:
    """Returns a file with a correct checksum and any metadata, tensors and data."""
    own = {"format": "seqrnn checkpoint", "version": str(file.VERSION), "state": "{}", "sha256": "0" * 64, **metadata}
    header = json.dumps({"__metadata__": own, **(tensors or {})}, separators=(",", ":")).encode()
    content = bytearray(struct.pack("<Q", len(header)) + header + data)
    found = file.SUM.search(content)
    assert found

    content[found.start(1) : found.end(1)] = hashlib.sha256(content).hexdigest().encode()
    return bytes(content)


@pytest.mark.parametrize(
    ("version", "message"),
    [
        (file.VERSION + 1, "written by a newer seqrnn .*install that version"),
        (1, "written by an earlier seqrnn .*init_from=RUN_DIR"),
    ],
)
def test_the_format_of_another_version_is_refused_with_a_remedy(version: int, message: str, tmp_path: Path) -> None:
    path = tmp_path / "000000000001.safetensors"
    path.write_bytes(signed({"version": str(version)}))
    with pytest.raises(OtherVersion, match=rf"{message}") as caught:
        file.read(path)
    assert f"(format {version}, and this one reads {file.VERSION})" in str(caught.value)
    manager = CheckpointManager(tmp_path, CheckpointSettings(every=1, keep=3, best=None))
    (tmp_path / "000000000002.safetensors").write_bytes(b"damaged")
    for read in (lambda: manager.newest(lambda text: None), lambda: check_version(tmp_path)):
        with pytest.raises(OtherVersion):
            read()
    assert path.exists()


class Evil:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return os.mkdir, (str(self.path),)


def hostile(tmp_path: Path) -> dict[str, bytes]:
    """Returns hostile files; all but the first two have a correct checksum."""
    torch.save({"model": Evil(tmp_path / "created")}, tmp_path / "torch")
    huge = {"a": {"dtype": "F32", "shape": [2**40], "data_offsets": [0, 2**42]}}
    deep = "[" * 100_000
    return {
        "a pickle": pickle.dumps(Evil(tmp_path / "created")),
        "a file of torch's with a pickle in it": (tmp_path / "torch").read_bytes(),
        "a tensor far larger than the file": signed({}, huge),
        "a header far longer than the file": struct.pack("<Q", 2**60) + b"{}",
        "a state that nests without end": signed({"state": deep}),
        "a state that is a pickle": signed({"state": repr(pickle.dumps(Evil(tmp_path / "created")))}),
        "a tensor that is not there": signed({"state": '{"a": {"$tensor": "b"}}'}),
        "another format": signed({"format": "other"}),
        "a version that is no number": signed({"version": "one"}),
    }


@pytest.mark.parametrize("name", [
    "a pickle", "a file of torch's with a pickle in it", "a tensor far larger than the file",
    "a header far longer than the file", "a state that nests without end", "a state that is a pickle",
    "a tensor that is not there", "another format", "a version that is no number",
])  # fmt: skip
def test_a_hostile_file_is_refused_and_executes_nothing(name: str, tmp_path: Path) -> None:
    path = tmp_path / "1.safetensors"
    path.write_bytes(hostile(tmp_path)[name])
    with pytest.raises(Damaged):
        file.read(path)
    assert not (tmp_path / "created").exists()


def test_a_checkpoint_that_cannot_be_written_leaves_the_earlier_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "1.safetensors"
    file.write(path, {"a": 1})
    with pytest.raises(TypeError, match="a checkpoint cannot hold a object"):
        file.write(path, {"a": object()})

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    for name in ("fsync", "replace"):
        with monkeypatch.context() as patch:
            patch.setattr(os, name, full)
            with pytest.raises(OSError, match="No space left"):
                file.write(path, {"a": 2})
    assert file.read(path) == {"a": 1}
    assert [found.name for found in tmp_path.iterdir()] == ["1.safetensors"]


def test_a_checkpoint_that_does_not_read_back_leaves_the_earlier_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "1.safetensors"
    file.write(path, {"a": 1})
    real = os.fsync

    def spoil(handle: int) -> None:
        real(handle)
        os.pwrite(handle, b"\xff", 200)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", spoil)
        with pytest.raises(Damaged):
            file.write(path, {"a": 2, "b": torch.zeros(100)})
    assert file.read(path) == {"a": 1}


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_only_the_newest_checkpoints_are_kept(tmp_path: Path) -> None:
    manager = CheckpointManager(tmp_path, CheckpointSettings(every=10, keep=2, best=None))
    for position in (10, 20, 30):
        assert manager.is_due(position)
        manager.write(position, lambda position=position: {"at": position})  # type: ignore[misc]
        assert not manager.is_due(position)
    assert not manager.is_due(35)
    assert [path.stem for path in manager.paths()] == ["000000000030", "000000000020"]


def test_checkpoints_by_the_clock_take_at_most_one_percent_of_the_time(tmp_path: Path) -> None:
    clock = Clock()
    manager = CheckpointManager(tmp_path, CheckpointSettings(every="2s", keep=1, best=None), clock)

    def slow() -> dict[str, Any]:
        clock.now += 0.5
        return {}

    assert not manager.is_due(1)
    clock.now += 2
    assert manager.is_due(1)
    manager.write(1, slow)
    clock.now += 49
    assert not manager.is_due(2)  # half a second is 1 % of 50
    clock.now += 1
    assert manager.is_due(2)


def test_damaged_checkpoints_are_named_and_renamed(tmp_path: Path) -> None:
    manager, printed = CheckpointManager(tmp_path, CheckpointSettings(every=1, keep=3, best=None)), []
    for position in (1, 2, 3):
        manager.write(position, lambda position=position: {"at": position})  # type: ignore[misc]
    newest = tmp_path / "000000000003.safetensors"
    newest.write_bytes(newest.read_bytes()[:-1] + b"?")
    found = manager.newest(printed.append)
    assert found is not None
    assert found[1] == {"at": 2}
    assert "000000000003.safetensors: damaged" in printed[0]
    assert newest.with_suffix(".damaged").exists()
    assert manager.position == 2


def test_only_damaged_checkpoints_are_an_error(tmp_path: Path) -> None:
    manager = CheckpointManager(tmp_path, CheckpointSettings(every=1, keep=3, best=None))
    assert manager.newest(print) is None
    (tmp_path / "000000000003.safetensors").write_bytes(b"")
    with pytest.raises(DataError, match="none of its 1 checkpoints can be read"):
        manager.newest(lambda text: None)
    assert (tmp_path / "000000000003.safetensors").exists()  # nothing is put aside for nothing


def test_with_keep_0_no_checkpoint_is_written(tmp_path: Path) -> None:
    manager = CheckpointManager(tmp_path, CheckpointSettings(every=1, keep=0, best=None))
    assert not manager.is_due(1)
    manager.write(1, dict)
    assert list(tmp_path.iterdir()) == []
