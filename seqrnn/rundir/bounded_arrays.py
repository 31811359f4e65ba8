"""Reads arrays (.npz) and weights (.safetensors), within the bounds of ``seqrnn.rundir.bounded``."""

from __future__ import annotations

import math
import os
import struct
import zipfile
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from seqrnn.rundir.bounded import opened

MOST_BYTES = 2**30  # of all the arrays of a file, unpacked
MOST_MEMBERS, MOST_DIRECTORY_BYTES = 64, 2**16
MOST_AXES = 8
PORTION = 2**20  # bytes that are unpacked at a time
MOST_WEIGHTS_BYTES, MOST_HEADER_BYTES = 2**34, 2**24
ZIP_END = struct.Struct("<4s4H2LH")  # signature, disks, members, size and place of their directory, comment


def read_arrays(path: Path) -> dict[str, NDArray[Any]]:
    """Reads the arrays of an .npz file, which hold only numbers and truth values."""
    with opened(path, MOST_BYTES) as file:
        _check_end_of_zip(file)
        with zipfile.ZipFile(file) as archive:
            members = archive.infolist()
            declared = sum(member.file_size for member in members)
            if declared > MOST_BYTES:
                raise ValueError(f"its arrays take {declared:,} bytes; {MOST_BYTES:,} are the most that are read")
            if len({member.filename for member in members}) < len(members):
                raise ValueError("an array is in it twice")
            return {member.filename.removesuffix(".npy"): _array(archive, member) for member in members}


def _check_end_of_zip(file: IO[bytes]) -> None:
    """Checks how many members an archive has before zipfile makes an object of each.

    Raises:
        ValueError: there are too many, or it is not an archive as NumPy writes it: without a comment, and without a
            directory of the 64-bit kind.
    """
    size = os.fstat(file.fileno()).st_size
    file.seek(max(0, size - ZIP_END.size - 20))
    end = file.read(ZIP_END.size + 20)
    if len(end) < ZIP_END.size or not end[-ZIP_END.size :].startswith(b"PK\x05\x06"):
        raise ValueError("it is no archive of arrays, or its end is missing")
    *_, members, directory_bytes, _, comment = ZIP_END.unpack(end[-ZIP_END.size :])
    is_64_bit = end[: -ZIP_END.size].startswith(b"PK\x06\x07")
    if is_64_bit or comment or members > MOST_MEMBERS or directory_bytes > MOST_DIRECTORY_BYTES:
        raise ValueError(f"it is no archive of at most {MOST_MEMBERS} arrays as NumPy writes it")


def _array(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> NDArray[Any]:
    name = member.filename
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ValueError(f"{name}: is packed in a way that NumPy does not use")
    with archive.open(member) as stream:
        if np.lib.format.read_magic(stream) != (1, 0):
            raise ValueError(f"{name}: is not of version 1.0 of NumPy's format")
        shape, by_columns, dtype = np.lib.format.read_array_header_1_0(stream)
        if dtype.kind not in "biuf" or dtype.itemsize > 8:
            raise ValueError(f"{name}: holds {dtype}; only numbers and truth values are read")
        count, data_bytes = math.prod(shape), member.file_size - stream.tell()
        if len(shape) > MOST_AXES or min(shape, default=0) < 0 or count * dtype.itemsize != data_bytes:
            raise ValueError(f"{name}: declares {shape} of {dtype}, which does not fit its {data_bytes:,} bytes")
        values = np.empty(count, dtype)
        buffer, done = values.view(np.uint8), 0
        while done < data_bytes:
            portion = stream.read(min(PORTION, data_bytes - done))
            if not portion:
                raise ValueError(f"{name}: ends after {done:,} of {data_bytes:,} bytes")
            buffer[done : done + len(portion)] = np.frombuffer(portion, np.uint8)
            done += len(portion)
        stream.read(1)  # zipfile compares the checksum at the end
    if dtype.kind == "b":
        values = values.view(np.uint8) != 0  # a byte other than 0 and 1 would be neither true nor false
    return values.reshape(shape, order="F" if by_columns else "C")


def read_tensors(path: Path) -> dict[str, Any]:
    """Reads the tensors of a .safetensors file, by name, on the CPU. The format holds no code."""
    with opened(path, MOST_WEIGHTS_BYTES) as file:
        size = os.fstat(file.fileno()).st_size
        declared = int.from_bytes(file.read(8), "little")
        if size < 8 or declared > min(size - 8, MOST_HEADER_BYTES):
            raise ValueError(f"its header declares {declared:,} bytes; the file has {size:,}")
        from safetensors.torch import load_file

        tensors: dict[str, Any] = load_file(str(path))
        return tensors
