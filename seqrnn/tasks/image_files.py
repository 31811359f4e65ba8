"""Reads small grey images from files: PNG, PGM, NumPy's arrays, and the IDX files of MNIST."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seqrnn.errors import DataError
from seqrnn.rundir.bounded import opened
from seqrnn.rundir.bounded_arrays import read_arrays

PICTURES = (".png", ".pgm")
MOST_BYTES = 2**20  # of a picture
Images = NDArray[np.uint8]


def find_files(paths: Sequence[Path]) -> list[Path]:
    """Returns files as they are, and of a folder all pictures in it, in the order of their names.

    Raises:
        DataError: a path is neither, or a folder without pictures.
    """
    found: list[Path] = []
    for path in paths:
        if not path.is_dir():
            found.append(path)
            continue
        pictures = sorted(each for each in path.iterdir() if each.suffix.lower() in PICTURES)
        if not pictures:
            raise DataError(f"{path}: this folder holds no {' and no '.join(PICTURES)} file")
        found += pictures
    return found


def read_picture(path: Path, rows: int, columns: int) -> Images:
    """Reads a picture (rows, columns); colours become grey.

    Raises:
        DataError: it cannot be read, or has another size.
    """
    from PIL import Image  # late: it is rarely needed

    with opened(path, MOST_BYTES) as file, Image.open(file, formats=("PNG", "PPM")) as picture:
        if picture.size != (columns, rows):  # before it is decompressed
            width, height = picture.size
            raise DataError(f"{path}: has {width}×{height} pixels; should be {columns}×{rows}")
        if picture.mode in ("I", "I;16", "I;16B"):
            raise DataError(f"{path}: has 16 bits per pixel; should have 8")
        return np.array(picture.convert("L"), np.uint8)


def read_image_arrays(path: Path, rows: int, columns: int) -> tuple[Images, NDArray[Any] | None]:
    """Reads ``images`` (N, rows, columns), bytes or numbers from 0 to 1, and, if present, ``labels`` (N,) of a file.

    Raises:
        DataError: it cannot be read, or holds something else.
    """
    arrays = read_arrays(path)
    images, labels = arrays.get("images"), arrays.get("labels")
    if images is None:
        raise DataError(f"{path}: has no array named images (it has: {', '.join(arrays) or 'none'})")
    if images.ndim != 3 or images.shape[1:] != (rows, columns) or not len(images):
        raise DataError(f"{path}: images of shape {images.shape}; should be (N, {rows}, {columns})")
    if images.dtype != np.uint8:
        if images.dtype.kind != "f" or not (images.min() >= 0 and images.max() <= 1):
            raise DataError(f"{path}: images should be bytes (uint8), or floating point from 0 to 1")
        images = np.round(images * 255).astype(np.uint8)
    if labels is not None and (labels.shape != (len(images),) or labels.dtype.kind not in "iu"):
        raise DataError(f"{path}: labels of shape {labels.shape}; should be {len(images)} whole numbers")
    return images, labels
