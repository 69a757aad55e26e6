"""Arrays on disk that tell whether they are undamaged: `.npy` files that end in a checksum.

Owns their format, which NumPy reads too; names, contents and what to do about damage are others'.
"""

from __future__ import annotations

import io
import struct
import warnings
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

_SEAL = struct.Struct("<8sI")  # comes last: a mark, and the CRC-32 of all before it
_MARK = b"\nCRC-32\n"
_BLOCK = 1 << 20  # bytes


class DamagedError(ValueError):
    """A file that is not as it was written; the message says what is wrong with it."""


@contextmanager
def array_writer(file: BinaryIO, count: int) -> Iterator[Callable[[NDArray[Any]], None]]:
    """Writes an array piece by piece, so that it need not fit into memory.

    Args:
        file: empty; what is written is whole only when the context has been left without an error.
        count: rows of the array, over all pieces.

    Yields:
        A function that writes the next rows, `(n, ...)`.
    """
    checksum, begun = 0, False

    def put(content: bytes | memoryview) -> None:
        nonlocal checksum
        # Plain writes in order, not a mapped file: a full disk is then an error and not a crash.
        file.write(content)
        checksum = zlib.crc32(content, checksum)

    def write(rows: NDArray[Any]) -> None:
        nonlocal begun
        if not begun:
            put(_header(rows.dtype, (count, *rows.shape[1:])))
            begun = True
        put(np.ascontiguousarray(rows).data)

    yield write
    file.write(_SEAL.pack(_MARK, checksum))


def map_array(path: Path, dtype: torch.dtype, shape: tuple[int | None, ...]) -> Tensor:
    """Maps an array into memory after comparing its checksum, which reads it through once.

    Args:
        path: written by `array_writer`.
        dtype: of its elements.
        shape: its dimensions; None: any size.

    Returns:
        The array, in read-only memory that stays valid when the file is deleted.

    Raises:
        DamagedError: it is not what was written, or of another type or shape.
        OSError: it is not there or cannot be read.
    """
    _check(path)
    with warnings.catch_warnings():
        # Nothing here writes to it, which is what torch warns of.
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        array = torch.from_numpy(np.load(path, mmap_mode="r", allow_pickle=False))
    fits = len(array.shape) == len(shape) and all(
        wanted in (None, size) for size, wanted in zip(array.shape, shape, strict=True)
    )
    if array.dtype != dtype or not fits:
        raise DamagedError(f"holds {array.dtype} {tuple(array.shape)}, not {dtype} {shape}")
    return array


def _check(path: Path) -> None:
    """Raises `DamagedError` unless the file ends in the checksum of the rest of it."""
    checksum, left = 0, path.stat().st_size - _SEAL.size
    with path.open("rb") as file:
        while left > 0 and (block := file.read(min(left, _BLOCK))):
            checksum = zlib.crc32(block, checksum)
            left -= len(block)
        seal = file.read()
    if len(seal) != _SEAL.size or not seal.startswith(_MARK):
        raise DamagedError("its end is missing")
    if seal != _SEAL.pack(_MARK, checksum):
        raise DamagedError("its checksum is wrong")


def _header(dtype: np.dtype[Any], shape: tuple[int, ...]) -> bytes:
    buffer = io.BytesIO()
    facts = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(buffer, facts)
    return buffer.getvalue()
