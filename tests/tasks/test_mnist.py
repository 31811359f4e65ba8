"""MNIST, from files in torchvision's layout."""

from __future__ import annotations

import gzip
import re
import struct
import subprocess
import sys
import tracemalloc
import types
import zlib
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import CPU64, make_network, make_schedule, make_task, whole, windows_of
from mnist_files import (
    IMAGES,
    LABELS,
    TEST_LABELS,
    TESTING,
    TRAINING,
    idx,
    make_mnist,
    which,
    write_mnist,
)

from seqrnn import evaluation
from seqrnn.errors import DataError
from seqrnn.losses import LOSSES
from seqrnn.strategies.plain import WindowByWindow
from seqrnn.tasks import mnist
from seqrnn.tasks.checks import DataFormat
from seqrnn.tasks.mnist import read_idx, synthetic_digits


@pytest.mark.parametrize("zipped", [False, True], ids=["plain", "gz"])
def test_images_are_read_row_by_row_and_only_the_last_row_has_a_valid_target(tmp_path: Path, zipped: bool) -> None:
    write_mnist(tmp_path, zipped)
    task = make_mnist(tmp_path)
    images, labels = TRAINING
    batches = task.train(0, 64)
    assert [batch.streams for batch in batches] == [64, 64, 64, 64, 44]
    for batch in batches:
        chunk, chosen = whole(batch), which([batch])
        expected = torch.from_numpy(images[chosen]).transpose(0, 1) / 255
        torch.testing.assert_close(chunk.inputs, expected, rtol=1e-6, atol=0)
        assert torch.equal(chunk.targets[-1], torch.from_numpy(labels[chosen].astype(np.int64)))
        assert chunk.valid[-1].all()
        assert not chunk.valid[:-1].any()
    assert which(task.test()) == list(range(40))
    every = torch.cat([whole(batch).targets[-1] for batch in task.test()])
    assert every.tolist() == TESTING[1].tolist()


def test_an_epoch_is_a_new_permutation_of_all_training_images_that_the_seed_repeats(tmp_path: Path) -> None:
    write_mnist(tmp_path)
    orders = [which(make_mnist(tmp_path, seed).train(epoch, 32)) for seed in (0, 1) for epoch in (0, 1)]
    assert all(sorted(order) == list(range(300)) for order in orders)
    assert all(one != other for n, one in enumerate(orders) for other in orders[:n])
    task = make_mnist(tmp_path)
    assert [which(task.train(epoch, 7)) for epoch in (1, 0)] == [orders[1], orders[0]]


def test_validation_images_are_held_out_and_without_them_the_first_test_images_serve(tmp_path: Path) -> None:
    write_mnist(tmp_path)
    task = make_mnist(tmp_path, validation_images=50)
    assert which(task.validation()) == list(range(250, 300))
    assert sorted(which(task.train(0, 64))) == list(range(250))
    assert which(make_mnist(tmp_path).validation()) == list(range(40))
    with pytest.raises(DataError, match=r"task\.validation_images=300: there are 300 training images"):
        make_mnist(tmp_path, validation_images=300).train(0, 1)


def rewrite(name: str, change: Callable[[bytes], bytes]) -> Callable[[Path], str]:
    def damage(raw: Path) -> str:
        (raw / name).write_bytes(change((raw / name).read_bytes()))
        return name

    return damage


def zipped_as(name: str, change: Callable[[bytes], bytes]) -> Callable[[Path], str]:
    def damage(raw: Path) -> str:
        (raw / f"{name}.gz").write_bytes(change(gzip.compress((raw / name).read_bytes())))
        (raw / name).unlink()
        return f"{name}.gz"

    return damage


def labelled(label: int) -> Callable[[bytes], bytes]:
    return lambda data: data[:20] + bytes([label]) + data[21:]


def flipped(data: bytes) -> bytes:
    """Damage in the middle of the compressed stream."""
    middle = len(data) // 2
    return data[:middle] + bytes(byte ^ 0xFF for byte in data[middle : middle + 64]) + data[middle + 64 :]


def bomb(declared: int, length: int) -> bytes:
    """A gzip file of some images of zeros, which holds many more."""
    packer = zlib.compressobj(9, wbits=31)
    begin = packer.compress(struct.pack(">4I", 0x0803, declared, 28, 28))
    return begin + b"".join(packer.compress(bytes(2**20)) for _ in range(length // 2**20)) + packer.flush()


BOMB, SMALL_BOMB = bomb(10, 2**28), bomb(2**20, 2**20)
DAMAGES: dict[str, Callable[[Path], str]] = {
    "empty": rewrite(IMAGES, lambda data: b""),
    "header cut short": rewrite(LABELS, lambda data: data[:6]),
    "cut short": rewrite(IMAGES, lambda data: data[:-1]),
    "too long": rewrite(LABELS, lambda data: data + b"\0"),
    "wrong magic": rewrite(IMAGES, lambda data: b"\x89PNG" + data[4:]),
    "labels where images should be": rewrite(IMAGES, lambda data: idx(TRAINING[1])),
    "another count of labels": rewrite(LABELS, lambda data: idx(TRAINING[1][:-1])),
    "no images at all": rewrite(LABELS, lambda data: idx(TRAINING[1][:0])),
    "label 10": rewrite(LABELS, labelled(10)),
    "images of another size": rewrite(IMAGES, lambda data: idx(TRAINING[0][:, :27])),
    "a huge size declared": rewrite(IMAGES, lambda data: data[:4] + b"\xff" * 12 + data[16:]),
    "a large size declared": rewrite(IMAGES, lambda data: data[:4] + struct.pack(">3I", 10**6, 28, 28) + data[16:]),
    "a small count declared": rewrite(IMAGES, lambda data: data[:4] + struct.pack(">3I", 299, 28, 28) + data[16:]),
    "no images declared": rewrite(IMAGES, lambda data: data[:4] + bytes(12)),
    "gz that is a bomb": zipped_as(IMAGES, lambda data: BOMB),
    "gz that is a bomb within its size": zipped_as(LABELS, lambda data: SMALL_BOMB),
    "gz that is no gz": zipped_as(IMAGES, lambda data: b"not found" * 100),
    "gz cut short": zipped_as(IMAGES, lambda data: data[:-50]),
    "gz that is empty": zipped_as(LABELS, lambda data: b""),
    "gz damaged inside": zipped_as(IMAGES, flipped),
    "gz with another checksum": zipped_as(LABELS, lambda data: data[:-8] + bytes(4) + data[-4:]),
    "gz with a damaged header of its blocks": zipped_as(LABELS, lambda data: data[:10] + b"\xff" * 20 + data[30:]),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_is_named_with_what_to_do_about_it(damage: str, tmp_path: Path) -> None:
    raw = write_mnist(tmp_path)
    name = DAMAGES[damage](raw)
    with pytest.raises(DataError) as caught:
        make_mnist(tmp_path, download=True).train(0, 1)
    (problem,) = caught.value.problems
    assert str(raw / name) in problem
    assert re.search(r"\bget (it|both files|all four)\b", problem), f"no remedy: {problem}"
    assert "\n" not in problem


def test_a_decompression_bomb_is_refused_before_it_takes_memory(tmp_path: Path) -> None:
    path = tmp_path / "images.gz"
    path.write_bytes(BOMB)
    tracemalloc.start()
    with pytest.raises(DataError, match="holds more than 7,840 bytes"):
        read_idx(path, 3)
    assert tracemalloc.get_traced_memory()[1] < 2**22
    tracemalloc.stop()


@pytest.mark.parametrize("part", ["train", "test"])
def test_missing_files_are_named_with_both_remedies(part: str, tmp_path: Path) -> None:
    raw = write_mnist(tmp_path)
    missing = LABELS if part == "train" else TEST_LABELS
    (raw / missing).unlink()
    task = make_mnist(tmp_path)
    with pytest.raises(DataError) as caught:
        task.train(0, 1) if part == "train" else task.test()
    (problem,) = caught.value.problems
    for text in (missing, str(raw), "task.data_dir=DIR", "DIR/MNIST/raw", "task.download=true"):
        assert text in problem


@pytest.fixture
def torchvision(monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    """Replaces torchvision.datasets by an empty module, to which tests add an MNIST."""
    datasets = types.ModuleType("torchvision.datasets")
    monkeypatch.setitem(sys.modules, "torchvision", types.ModuleType("torchvision"))
    monkeypatch.setitem(sys.modules, "torchvision.datasets", datasets)
    return datasets


def test_missing_files_are_downloaded_once_to_the_data_directory(
    tmp_path: Path, torchvision: types.ModuleType
) -> None:
    calls = []

    def download(root: str, download: bool) -> None:
        calls.append((root, download))
        write_mnist(Path(root), zipped=True)

    torchvision.MNIST = download  # type: ignore[attr-defined]
    task = make_mnist(tmp_path / "new", download=True)
    assert sorted(which(task.train(0, 64))) == list(range(300))
    assert which(task.test()) == list(range(40))
    assert calls == [(str(tmp_path / "new"), True)]


@pytest.mark.long
def test_torchvision_is_not_imported_where_the_files_are(tmp_path: Path) -> None:
    write_mnist(tmp_path)
    script = (
        "import sys\n"
        "from seqrnn.tasks.mnist import Mnist\n"
        "task = Mnist(0, data_dir=sys.argv[1], download=True, validation_images=0, synthetic=False)\n"
        "images = [sum(batch.streams for batch in part) for part in (task.train(0, 64), task.test())]\n"
        "print(*images, 'torchvision' in sys.modules)"
    )
    result = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)],
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
        check=True,
    )
    assert result.stdout == "300 40 False\n"


def test_a_failed_download_is_reported_with_both_remedies(tmp_path: Path, torchvision: types.ModuleType) -> None:
    def download(root: str, download: bool) -> None:
        raise RuntimeError("connection\nrefused")

    torchvision.MNIST = download  # type: ignore[attr-defined]
    with pytest.raises(DataError) as caught:
        make_mnist(tmp_path, download=True).test()
    (problem,) = caught.value.problems
    for text in ("connection refused", str(tmp_path), "connection", "task.data_dir=DIR", "DIR/MNIST/raw"):
        assert text in problem
    assert "\n" not in problem


def test_synthetic_digits_have_all_classes_with_their_strokes_and_depend_on_the_seed() -> None:
    images, labels = synthetic_digits(0, 512)
    assert images.shape == (512, 28, 28)
    assert images.dtype == labels.dtype == np.uint8
    assert np.bincount(labels, minlength=10).min() > 25
    second, other = synthetic_digits(0, 512), synthetic_digits(1, 512)
    assert np.array_equal(images, second[0])
    assert np.array_equal(labels, second[1])
    assert not np.array_equal(images, other[0])
    ink = (images > 100).mean(axis=(1, 2))
    by_class = [ink[labels == digit].mean() for digit in range(10)]
    assert int(np.argmin(by_class)) == 1
    assert int(np.argmax(by_class)) == 8
    assert len({image.tobytes() for image in images}) == 512


def test_synthetic_digits_need_no_files_and_have_a_data_note(tmp_path: Path) -> None:
    task = make_mnist(tmp_path / "nowhere", synthetic=True, validation_images=64, download=True)
    assert len(which(task.train(0, 64))) == 448
    assert len(which(task.test())) == 128
    assert "not MNIST" in task.data_note
    all_of_them = make_mnist(tmp_path, synthetic=True, validation_images=5000)
    with pytest.raises(DataError, match=r"=5000: there are 512 .*synthetic=true.*=64"):
        all_of_them.train(0, 1)
    write_mnist(tmp_path)
    assert make_mnist(tmp_path, validation_images=10).data_note is None


def test_images_that_were_first_read_in_an_evaluation_can_be_trained_on() -> None:
    mnist.first_and_last.cache_clear()
    task = make_task("mnist", validation_images=64)
    network = make_network("gru", 28, 10, kernel="torch")
    evaluation.predict(network, task.validation(), CPU64)
    (batch, *_) = task.train(0, 64)
    schedule = make_schedule(window=7, streams=64, max_updates=1)
    gradients = WindowByWindow(network, LOSSES["cross_entropy"], True, CPU64, DataFormat.of(task))
    for window in windows_of(schedule, 28):
        gradients(gradients.read([(batch, window)]))
    assert all(weight.grad is not None for weight in network.parameters())


def test_accuracy_on_the_first_two_thousand_is_reported_where_there_are_more() -> None:
    task = make_task("mnist")
    targets = np.zeros(2500, np.int64)
    outputs = np.zeros((2500, 10))
    outputs[2000:, 1] = 1  # wrong from there on
    assert task.metrics(outputs, targets) == {"accuracy": 0.8, "accuracy_first_2000": 1.0}
    assert task.metrics(outputs[:2000], targets[:2000]) == {"accuracy": 1.0}


@pytest.mark.parametrize("reading", ["pixels", "permuted"])
def test_images_are_read_pixel_by_pixel_in_one_order_for_all_images_and_seeds(tmp_path: Path, reading: str) -> None:
    write_mnist(tmp_path)
    rows, task, other = (
        make_mnist(tmp_path, seed, reading=way) for seed, way in [(0, "rows"), (0, reading), (1, reading)]
    )
    assert (task.input_size, task.reach) == (1, 784)
    batch, chunk = task.train(0, 64)[0], whole(task.train(0, 64)[0])
    assert (batch.timesteps, batch.streams) == (784, 64)
    pixels = whole(rows.train(0, 64)[0]).inputs.transpose(0, 1).reshape(64, 784)  # row after row
    found = chunk.inputs[..., 0].T
    assert torch.equal(found, pixels) == (reading == "pixels")
    torch.testing.assert_close(found.sort(dim=1).values, pixels.sort(dim=1).values, rtol=0, atol=0)
    assert chunk.valid.sum(dim=0).eq(1).all()
    assert chunk.valid[-1].all()
    assert torch.equal(whole(task.test()[0]).inputs, whole(other.test()[0]).inputs)
    torch.testing.assert_close(batch.read(300, 310).inputs, chunk.inputs[300:310], rtol=0, atol=0)


def test_a_permutation_moves_pixels_and_loses_none() -> None:
    images = torch.arange(784, dtype=torch.int32).reshape(1, 28, 28)
    order = mnist.as_sequences(images, "permuted").flatten().tolist()
    assert sorted(order) == list(range(784))
    assert sum(abs(one - other) == 1 for one, other in pairwise(order)) < 10
