"""Arrays on disk that tell whether they are undamaged: `.npy` files that end in checksums.

Owns how they are written and mapped; their bytes are `forger.array_format`'s, and names, contents
and what to do about damage are others'.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from forger.array_format import DamagedError, Seal, checksum, header_of

__all__ = ["ArrayWriter", "DamagedError", "array_writer", "map_array"]


class ArrayWriter:
    """Writes the rows of an array in order, so that it need not fit into memory.

    The checksum of a block is written, at its place behind the array, as soon as the block is: what
    a killed writer leaves tells how much of it is good.

    Args:
        file: empty, or what an earlier writer of the same array left, where it can be read too.
        dtype: of the elements.
        shape: of the whole array.

    Attributes:
        rows: how many were written; at first those that an earlier writer left undamaged.
    """

    def __init__(self, file: BinaryIO, dtype: np.dtype[Any], shape: tuple[int, ...]) -> None:
        self._file, self._header = file, header_of(dtype, shape)
        self._seal = Seal.planned(self._header, dtype, shape)
        self._sums = self._found() if file.readable() else b""
        self._blocks = self._seal.good_blocks(file, self._sums) if self._sums else 0
        self._sums = self._sums[: self._blocks * len(checksum(b""))]
        self._waiting = bytearray()  # less than a block
        rows_in_block = self._seal.block_size * shape[0] // max(1, self._seal.array_size)
        self.rows = min(shape[0], self._blocks * rows_in_block)

    def write(self, rows: NDArray[Any]) -> None:
        """Writes the next rows, `(n, ...)`, as whole blocks; the rest waits in memory."""
        self._waiting += np.ascontiguousarray(rows).tobytes()
        self.rows += len(rows)
        size = self._seal.block_size
        whole = len(self._waiting) // size * size
        for begin in range(0, whole, size):
            self._put(self._waiting[begin : begin + size])
        del self._waiting[:whole]

    def seal(self) -> None:
        """Makes the file whole, after the last row."""
        if self._waiting:
            self._put(self._waiting)
        assert self._blocks == self._seal.blocks, "rows are missing"
        self._seal.write(self._file, self._header, self._sums)

    def _put(self, block: bytearray) -> None:
        # Plain writes, not a mapped file: a full disk is then an error and not a crash.
        if self._blocks == 0:
            self._file.seek(0)
            self._file.write(self._header)
        place, place_of_sum = self._seal.places(self._blocks)
        self._file.seek(place)
        self._file.write(block)
        self._file.seek(place_of_sum)
        self._file.write(checksum(block))
        self._sums += checksum(block)
        self._blocks += 1

    def _found(self) -> bytes:
        """Returns the checksums that an earlier writer of the same array left."""
        self._file.seek(0)
        if self._file.read(len(self._header)) != self._header:
            return b""
        self._file.seek(self._seal.sums_begin)
        return self._file.read(self._seal.sums_size)


@contextmanager
def array_writer(file: BinaryIO, count: int) -> Iterator[Callable[[NDArray[Any]], None]]:
    """Writes an array piece by piece, of the type and shape that the first piece has.

    Args:
        file: empty; what is written is whole only when the context has been left without an error.
        count: rows of the array, over all pieces.

    Yields:
        A function that writes the next rows, `(n, ...)`.
    """
    writer: ArrayWriter | None = None

    def write(rows: NDArray[Any]) -> None:
        nonlocal writer
        if writer is None:
            writer = ArrayWriter(file, rows.dtype, (count, *rows.shape[1:]))
        writer.write(rows)

    yield write
    if writer is not None:
        writer.seal()


def map_array(path: Path, dtype: torch.dtype, shape: tuple[int | None, ...]) -> Tensor:
    """Maps an array into memory, without reading it where it was not written to since it was good.

    A file that is cut off or longer than it was, or whose header or checksums are damaged, is found
    always. The array is compared with its checksums, which reads it through, where the file is not
    the one that was last found good, as a copy is not, or was written to since; its number on the
    file system (inode) and its time of change tell. So damage that changes neither of them, as by a
    failing disk, is not found.

    Args:
        path: written by `array_writer` or `ArrayWriter`.
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
    """Raises `DamagedError` where damage is found, and seals a good copy as its own file."""
    with path.open("rb") as file:
        seal, header, sums = Seal.read(file)
        found = os.fstat(file.fileno())
        if seal.is_of(found):
            return
        if seal.good_blocks(file, sums) != seal.blocks:
            raise DamagedError("its checksum is wrong")
    with suppress(OSError), path.open("r+b") as file:  # else it is read through every time
        now = os.fstat(file.fileno())
        if (now.st_ino, now.st_mtime_ns) == (found.st_ino, found.st_mtime_ns):
            seal.write(file, header, sums)
