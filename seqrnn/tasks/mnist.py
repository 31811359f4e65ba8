"""task=mnist: handwritten digits (LeCun et al. 1998), one row of pixels per timestep, or one pixel."""

from __future__ import annotations

import gzip
import math
import os
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from seqrnn import metrics
from seqrnn.bounds import Natural
from seqrnn.errors import DataError
from seqrnn.registry import register
from seqrnn.tasks import image_files
from seqrnn.tasks.protocol import Batch, Chunk, FileSequences

ROWS = COLUMNS = 28
CLASSES = 10
FIRST = 2000  # the textbook experiment evaluates on the first 2,000 test images
EVALUATED = 1000  # images in a batch of an evaluation
SYNTHETIC_TRAINING, SYNTHETIC_TEST = 512, 128  # images
FILES = {
    "train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    "test": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
}
Images = NDArray[np.uint8]
Reading = Literal["rows", "pixels", "permuted"]
PERMUTATION_SEED = 0  # one permutation for the runs of all seeds, so that they can be compared


@register("task", "mnist")
class Mnist:
    """28 timesteps of 28 pixels in [0, 1]; the target, valid at the last timestep alone, is the digit.

    Every epoch reads the training images in a new order. The last ``validation_images`` of the training set are not
    trained on: they are the validation data. With ``validation_images=0`` all training images are trained on, and
    the validation data is the first 2,000 test images, as in the textbook experiment. What is chosen by it is then
    chosen on test data.

    With ``reading=pixels`` an image is read pixel by pixel, row after row, in 784 timesteps; with
    ``reading=permuted`` these pixels come in another order, the same for all images and seeds, so that what is near
    in the image is far apart in time (Le, Jaitly & Hinton 2015, section 4.2).

    ``synthetic`` generates simple digits instead of reading MNIST: it needs no files and no connection.
    """

    output_size = CLASSES
    kind: Literal["classification"] = "classification"
    loss = "cross_entropy"

    smoke: ClassVar = {"synthetic": True, "validation_images": 64}

    def __init__(
        self,
        seed: int,
        *,
        data_dir: str,
        download: bool,
        validation_images: Natural,
        synthetic: bool,
        reading: Reading = "rows",  # older runs have no such setting
    ) -> None:
        self.seed, self.reading = seed, reading
        self.reach, self.input_size = (ROWS, COLUMNS) if reading == "rows" else (ROWS * COLUMNS, 1)
        known = os.path.expanduser(data_dir)  # noqa: PTH111 (pathlib's raises where there is no such user)
        self.folder = Path(known) / "MNIST" / "raw"
        self.download, self.validation_images, self.synthetic = download, validation_images, synthetic

    def train(self, epoch: int, streams: int) -> Sequence[Batch]:
        images, labels = self._training_sequences
        count = self._trained_on
        order = np.random.Generator(np.random.Philox(np.random.SeedSequence([self.seed, epoch]))).permutation(count)
        chosen = torch.from_numpy(order)
        return [ImageBatch(images, labels, chosen[n : n + streams]) for n in range(0, count, streams)]

    def validation(self) -> Sequence[Batch]:
        if self.validation_images:
            images, labels = self._training_sequences
            return _in_order(images[self._trained_on :], labels[self._trained_on :])
        images, labels = self._test_sequences
        return _in_order(images[:FIRST], labels[:FIRST])

    def test(self) -> Sequence[Batch]:
        return _in_order(*self._test_sequences)

    def read_files(self, paths: Sequence[Path]) -> FileSequences:
        """Returns the images of PNG, PGM, .npz and IDX files, and of folders with pictures. Light digits on a dark
        ground are expected, as in MNIST.

        Raises:
            DataError: a file cannot be read, or holds other images than of 28×28 pixels.
        """
        files = image_files.find_files(paths)
        names, found, labels = [], [], []
        for path in files:
            pixels, numbers = _read_images(path)
            names += [path.name] if len(pixels) == 1 else [f"{path.name}[{n}]" for n in range(len(pixels))]
            found.append(pixels)
            labels.append(numbers)
        all_labels = [numbers for numbers in labels if numbers is not None]
        has_labels = len(all_labels) == len(labels)
        digits = np.concatenate(all_labels) if has_labels else np.zeros(len(names), np.int64)
        if digits.min() < 0 or digits.max() >= CLASSES:
            raise DataError(f"{files[0]}: labels should be from 0 to {CLASSES - 1}")
        pixels = np.concatenate(found)
        light = int((pixels.mean(axis=(1, 2)) > 127).sum())
        note = (
            f"{light:,} of {len(pixels):,} images are mostly light; the network has learned light digits on a dark "
            "ground: invert them"
            if light
            else None
        )
        images, targets = _tensors(pixels, digits)
        return FileSequences(names, _in_order(as_sequences(images, self.reading), targets), has_labels, note)

    def rollout(self, timesteps: int, streams: int) -> None:
        """Returns None: an image has 28 rows or 784 pixels, and no more."""

    def metrics(self, outputs: NDArray[Any], targets: NDArray[Any]) -> dict[str, float]:
        """Returns the accuracy and, where there are more than 2,000 images, that on the first 2,000."""
        result = metrics.classification(outputs, targets)
        if len(targets) > FIRST:
            result["accuracy_first_2000"] = metrics.classification(outputs[:FIRST], targets[:FIRST])["accuracy"]
        return result

    def baselines(self) -> Mapping[str, Callable[[Chunk], Tensor]]:
        shares = np.bincount(self._training[1].numpy(), minlength=CLASSES) / len(self._training[1])
        logits = torch.from_numpy(np.log(np.maximum(shares, 1e-12)))
        return {
            "constant (class frequencies)": lambda chunk: logits.expand(*chunk.targets.shape, CLASSES),
        }

    def fingerprint(self) -> str:
        """Returns a checksum of all images and labels, by which a resumed run recognises the data that it was trained
        on. CRC-32 finds damage, which is all that is asked for, and takes half the time of a cryptographic hash."""
        parts = (*self._training, *self._testing)
        return " ".join(f"{zlib.crc32(part.numpy().tobytes()):08x}" for part in parts)

    @property
    def data_note(self) -> str | None:
        """What a reader of the results must know about the data, if anything."""
        notes = ["synthetic digits, not MNIST"] if self.synthetic else []
        if self.validation_is_test:
            notes.append(f"the validation images are the first {FIRST:,} test images")
        return "; ".join(notes) or None

    @property
    def validation_is_test(self) -> bool:
        """Whether the validation data is test data."""
        return self.validation_images == 0

    @property
    def _trained_on(self) -> int:
        count = len(self._training[0])
        if self.validation_images >= count:
            source = " (task.synthetic=true generates no more)" if self.synthetic else ""
            raise DataError(
                f"task.validation_images={self.validation_images}: there are {count} training images{source}; leave "
                f"some to train on, such as with task.validation_images={max(1, count // 8)}"
            )
        return count - self.validation_images

    @cached_property
    def _training_sequences(self) -> tuple[Tensor, Tensor]:
        images, labels = self._training
        return as_sequences(images, self.reading), labels

    @cached_property
    def _test_sequences(self) -> tuple[Tensor, Tensor]:
        images, labels = self._testing
        return as_sequences(images, self.reading), labels

    @cached_property
    def _training(self) -> tuple[Tensor, Tensor]:
        return _tensors(*(synthetic_digits(self.seed, SYNTHETIC_TRAINING) if self.synthetic else self._read("train")))

    @cached_property
    def _testing(self) -> tuple[Tensor, Tensor]:
        return _tensors(*(synthetic_digits(self.seed + 1, SYNTHETIC_TEST) if self.synthetic else self._read("test")))

    def _read(self, part: str) -> tuple[Images, Images]:
        paths = [self._find(name) for name in FILES[part]]
        if None in paths and self.download:
            _download(self.folder)
            paths = [self._find(name) for name in FILES[part]]
        missing = [name for name, path in zip(FILES[part], paths, strict=True) if path is None]
        if missing:
            raise DataError(
                f"task.data_dir: MNIST's {' and '.join(missing)} (or .gz) not found in {self.folder.resolve()}; "
                "either put the four files into DIR/MNIST/raw and set task.data_dir=DIR, or set task.download=true "
                "to fetch them; smoke=true needs no data"
            )
        images_path, labels_path = (path for path in paths if path is not None)
        images = read_idx(images_path, dimensions=3)
        labels = read_idx(labels_path, dimensions=1)
        if images.shape[1:] != (ROWS, COLUMNS):
            raise DataError(
                f"{images_path}: images of {images.shape[1]}×{images.shape[2]} pixels, not 28×28; get it from a "
                "source of MNIST"
            )
        if len(images) != len(labels):
            raise DataError(
                f"{images_path} has {len(images)} images but {labels_path} has {len(labels)} labels; "
                "get both files from the same source"
            )
        if not len(labels):
            raise DataError(f"{labels_path}: holds no labels; get both files again")
        if labels.max() >= CLASSES:
            raise DataError(f"{labels_path}: expected labels from 0 to 9, found {labels.max()}; get both files again")
        return images, labels

    def _find(self, name: str) -> Path | None:
        candidates = (self.folder / name, self.folder / f"{name}.gz")
        return next((path for path in candidates if path.is_file()), None)


def _read_images(path: Path) -> tuple[Images, NDArray[Any] | None]:
    """Returns the images (N, 28, 28) of a file, and their labels (N,) where it has some."""
    suffix = path.suffix.lower()
    if suffix == ".npz":
        return image_files.read_image_arrays(path, ROWS, COLUMNS)
    if suffix in image_files.PICTURES:
        return image_files.read_picture(path, ROWS, COLUMNS)[None], None
    if not path.name.removesuffix(".gz").endswith("-ubyte"):
        raise DataError(f"{path}: is no image file; should end in .png, .pgm, .npz, -ubyte or -ubyte.gz")
    pixels = read_idx(path, dimensions=3)
    if pixels.shape[1:] != (ROWS, COLUMNS) or not len(pixels):
        raise DataError(f"{path}: images of shape {pixels.shape}; should be (N, {ROWS}, {COLUMNS})")
    return pixels, None


def _tensors(images: Images, labels: NDArray[Any]) -> tuple[Tensor, Tensor]:
    """Returns images (N, 28, 28) as bytes, a quarter of the memory of float32, and labels (N,) as class indices."""
    return torch.from_numpy(images), torch.from_numpy(labels.astype(np.int64))


@dataclass(frozen=True)
class ImageBatch:
    """Some of the images, each a sequence of T timesteps."""

    images: Tensor  # (N, T, I) uint8
    labels: Tensor  # (N,) int64
    chosen: Tensor  # (B,) int64

    @property
    def streams(self) -> int:
        return len(self.chosen)

    @property
    def timesteps(self) -> int:
        return self.images.shape[1]

    def read(self, start: int, stop: int) -> Chunk:
        images = self.images if (start, stop) == (0, self.timesteps) else self.images[:, start:stop]
        rows = images.index_select(0, self.chosen).float().div_(255)  # (B, T, I)
        labels = self.labels.index_select(0, self.chosen)  # (B,)
        starts, valid = first_and_last(self.timesteps, self.streams)
        return Chunk(
            inputs=rows.transpose(0, 1),
            targets=labels.expand(stop - start, -1),
            valid=valid[start:stop],
            starts=starts[start:stop],
        )


@cache
def first_and_last(timesteps: int, streams: int) -> tuple[Tensor, Tensor]:
    """Returns two masks (T, B): which timesteps are the first, and which are the last."""
    times = torch.arange(timesteps).unsqueeze(1).expand(-1, streams)
    return times == 0, times == timesteps - 1


def as_sequences(images: Tensor, reading: Reading) -> Tensor:
    """Returns images (N, 28, 28) in the order in which they are read: (N, 28, 28), or (N, 784, 1) by pixels."""
    if reading == "rows":
        return images
    pixels = images.reshape(-1, ROWS * COLUMNS, 1)
    if reading == "pixels":
        return pixels
    order = np.random.Generator(np.random.Philox(PERMUTATION_SEED)).permutation(ROWS * COLUMNS)
    return pixels[:, torch.from_numpy(order)]


def _in_order(images: Tensor, labels: Tensor) -> list[ImageBatch]:
    return [
        ImageBatch(images, labels, torch.arange(first, min(first + EVALUATED, len(images))))
        for first in range(0, len(images), EVALUATED)
    ]


def read_idx(path: Path, dimensions: int) -> Images:
    """Reads an IDX file of unsigned bytes, gzipped if its name ends in .gz.

    Raises:
        DataError: it is damaged, or another kind of file.
    """
    remedy = "the file is damaged: delete it, and get it again"
    header_bytes = 4 + 4 * dimensions
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            header = file.read(header_bytes)
            if len(header) < header_bytes:
                raise DataError(f"{path}: {len(header)} bytes, shorter than its own header; {remedy}")
            magic, *shape = (int(number) for number in np.frombuffer(header, ">u4"))
            if magic != 0x0800 + dimensions:
                raise DataError(
                    f"{path}: starts with {magic:#010x} instead of {0x0800 + dimensions:#010x}, so it is no IDX "
                    f"file of {dimensions}-dimensional bytes; {remedy}"
                )
            size = math.prod(shape)
            if size > 2**30:
                raise DataError(f"{path}: its header declares {size:,} bytes, far more than MNIST has; {remedy}")
            data = file.read(size + 1)  # one byte more than declared, so that no more than that is ever decompressed
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path}: cannot be read: {error}; {remedy}") from None
    if len(data) != size:
        found = f"more than {size:,}" if len(data) > size else f"{len(data):,} instead of {size:,}"
        raise DataError(f"{path}: holds {found} bytes of data; {remedy}")
    return np.frombuffer(bytearray(data), np.uint8).reshape(shape)  # a writable copy, which torch.from_numpy wants


def _download(folder: Path) -> None:
    try:
        from torchvision.datasets import MNIST  # imported late: it is slow, and only needed here

        MNIST(str(folder.parent.parent), download=True)
    except Exception as error:
        raise DataError(
            f"task.download=true: MNIST could not be downloaded to {folder.resolve()}: "
            f"{' '.join(str(error).split())}; either mend the connection, or put the four files into "
            "DIR/MNIST/raw and set task.data_dir=DIR; smoke=true needs no data"
        ) from None


SEGMENTS = {  # by digit, whether each is lit: top, top right, bottom right, bottom, bottom left, top left, middle
    digit: tuple(segment == "1" for segment in lit)
    for digit, lit in enumerate(
        ["1111110", "0110000", "1101101", "1111001", "0110011", "1011011", "1011111", "1110000", "1111111", "1111011"]
    )
}


def synthetic_digits(seed: int, count: int) -> tuple[Images, Images]:
    """Returns seven-segment digits of random position, size and brightness on a noisy background (N, 28, 28), and
    their labels (N,)."""
    rng = np.random.Generator(np.random.Philox(seed))
    images = rng.integers(0, 40, (count, ROWS, COLUMNS), dtype=np.uint8)
    labels = rng.integers(0, CLASSES, count, dtype=np.uint8)
    for image, label in zip(images, labels, strict=True):
        half, width = rng.integers(7, 11), rng.integers(8, 14)  # height of the upper half; width
        top, left = rng.integers(2, 26 - 2 * half), rng.integers(3, 25 - width)
        middle, bottom, right = top + half, top + 2 * half, left + width
        strokes = (
            (slice(top, top + 2), slice(left, right + 2)),
            (slice(top, middle), slice(right, right + 2)),
            (slice(middle, bottom), slice(right, right + 2)),
            (slice(bottom, bottom + 2), slice(left, right + 2)),
            (slice(middle, bottom), slice(left, left + 2)),
            (slice(top, middle), slice(left, left + 2)),
            (slice(middle, middle + 2), slice(left, right + 2)),
        )
        for stroke, lit in zip(strokes, SEGMENTS[int(label)], strict=True):
            if lit:
                image[stroke] = rng.integers(160, 256)
    return images, labels
