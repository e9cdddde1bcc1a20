"""The arrays of an .npz file, a few rows at a time: a file may be larger than what memory should hold of it."""

import math
import pathlib
import zipfile
import zlib
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.lib import format as npy

_BLOCK = 2**26  # bytes that are read at a time


class DamagedError(Exception):
    """A file that is no .npz of plain arrays, or is torn."""


class Header(NamedTuple):
    """What an array's file says before its numbers."""

    shape: tuple[int, ...]
    dtype: np.dtype


_FAULTS = (OSError, ValueError, EOFError, RuntimeError, NotImplementedError, zipfile.BadZipFile, zlib.error)


def headers(path: pathlib.Path) -> dict[str, Header]:
    """Shape and dtype of every array, without reading their numbers.

    Raises:
        DamagedError: for another file, or one with arrays of objects or in Fortran's order.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            found = {}
            for item in archive.infolist():
                with archive.open(item) as file:
                    found[item.filename.removesuffix(".npy")] = _header(file, item)
            return found
    except _FAULTS as problem:
        raise DamagedError(_line(problem)) from problem


def blocks(path: pathlib.Path, name: str) -> Iterator[np.ndarray]:
    """The rows of one array in order, some MB at a time.

    Raises:
        DamagedError: where the file is torn; its checksum is looked at with the last block.
    """
    try:
        with zipfile.ZipFile(path) as archive, archive.open(item := archive.getinfo(f"{name}.npy")) as file:
            shape, dtype = _header(file, item)
            row = math.prod(shape[1:]) * dtype.itemsize
            rows = max(1, _BLOCK // max(row, 1))
            for start in range(0, shape[0], rows):
                count = min(rows, shape[0] - start)
                yield np.frombuffer(file.read(count * row), dtype).reshape(count, *shape[1:])
    except _FAULTS as problem:
        raise DamagedError(f"{path} is torn ({_line(problem)}); copy it again") from problem


def _header(file: zipfile.ZipExtFile, item: zipfile.ZipInfo) -> Header:
    version = npy.read_magic(file)
    if version not in ((1, 0), (2, 0)):
        raise ValueError(f"{item.filename} has version {version}")
    shape, fortran, dtype = (npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0)(file)
    if dtype.hasobject or dtype.names:
        raise ValueError(f"{item.filename} holds objects, not numbers")
    if fortran and len(shape) > 1:
        raise ValueError(f"{item.filename} is in Fortran's order: save numpy.ascontiguousarray of it")
    if file.tell() + math.prod(shape) * dtype.itemsize != item.file_size:
        raise ValueError(f"{item.filename} is longer or shorter than its header says")
    return Header(shape, dtype)


def _line(problem: Exception) -> str:
    return str(problem).splitlines()[0] if str(problem) else type(problem).__name__
