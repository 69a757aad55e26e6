"""The bytes of a sealed array file. Owns where everything is in it; reads and writes no arrays.

A file is a header as NumPy writes it, the array, the CRC-32 of each of its blocks, and a seal.
"""

from __future__ import annotations

import io
import os
import struct
import time
import zlib
from collections.abc import Iterator
from dataclasses import astuple, dataclass, replace
from math import prod
from typing import Any, BinaryIO, ClassVar

import numpy as np

_BLOCK = 1 << 20  # bytes of a block, about: it is a whole number of rows
_MARK = b"\nCRC-32B"
_SUM = struct.Struct("<I")


class DamagedError(ValueError):
    """A file that is not as it was written; the message says what is wrong with it."""


def header_of(dtype: np.dtype[Any], shape: tuple[int, ...]) -> bytes:
    """Returns what a `.npy` file begins with."""
    buffer = io.BytesIO()
    facts = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(buffer, facts)
    return buffer.getvalue()


def checksum(block: bytes | bytearray) -> bytes:
    """Returns the checksum of a block as it stands in the file."""
    return _SUM.pack(zlib.crc32(block))


@dataclass(frozen=True)
class Seal:
    """The end of a file. It covers itself, the header and the blocks' checksums by another CRC-32.

    Attributes:
        header_size: in bytes.
        array_size: in bytes.
        block_size: in bytes; the last block may be shorter.
        inode: the file's number on its file system, when it was sealed.
        changed: its time of change then, in ns since 1970.
    """

    header_size: int
    array_size: int
    block_size: int
    inode: int = 0
    changed: int = 0

    FORMAT: ClassVar = struct.Struct(f"<{len(_MARK)}sQQQQqI")

    @classmethod
    def planned(cls, header: bytes, dtype: np.dtype[Any], shape: tuple[int, ...]) -> Seal:
        """Returns that of an array that is yet to be written."""
        row = dtype.itemsize * prod(shape[1:])
        rows_in_block = max(1, _BLOCK // max(1, row))
        return cls(len(header), row * shape[0], max(1, row * rows_in_block))

    @classmethod
    def read(cls, file: BinaryIO) -> tuple[Seal, bytes, bytes]:
        """Reads and checks all but the array itself.

        Returns:
            The seal, the header and the blocks' checksums.

        Raises:
            DamagedError: they are not what was written.
        """
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - cls.FORMAT.size))
        end = file.read()
        if len(end) != cls.FORMAT.size or not end.startswith(_MARK):
            raise DamagedError("its end is missing")
        seal = cls(*cls.FORMAT.unpack(end)[1:-1])
        if seal.block_size == 0 or seal.sums_begin + seal.sums_size + len(end) != size:
            raise DamagedError("its checksum is wrong")
        file.seek(0)
        header = file.read(seal.header_size)
        file.seek(seal.sums_begin)
        sums = file.read(seal.sums_size)
        if seal._packed(header, sums) != end:
            raise DamagedError("its checksum is wrong")
        return seal, header, sums

    def write(self, file: BinaryIO, header: bytes, sums: bytes) -> None:
        """Writes the end of a file whose array is undamaged, and sets its time of change."""
        # Even seconds: every file system keeps them as they are, and hardly a later write hits one.
        changed = int(time.time()) // 2 * 2 * 10**9
        inode = os.fstat(file.fileno()).st_ino
        file.seek(self.sums_begin + self.sums_size)
        file.write(replace(self, inode=inode, changed=changed)._packed(header, sums))
        file.truncate()  # what an earlier writer of something longer left
        file.flush()
        os.utime(file.fileno(), ns=(changed, changed))

    def is_of(self, found: os.stat_result) -> bool:
        """Tells whether a file is the one that was sealed, and was not written to since."""
        return (self.inode, self.changed) == (found.st_ino, found.st_mtime_ns)

    def good_blocks(self, file: BinaryIO, sums: bytes) -> int:
        """Reads the array, and counts the blocks before the first that differs from its checksum.

        Args:
            file: where blocks and checksums may be missing at the end.
            sums: the blocks' checksums.
        """
        return sum(1 for _ in self._good_blocks(file, sums))

    def _good_blocks(self, file: BinaryIO, sums: bytes) -> Iterator[None]:
        file.seek(self.header_size)
        left = self.array_size
        for begin in range(0, len(sums), _SUM.size):
            size = min(left, self.block_size)
            block = file.read(size)
            if len(block) != size or checksum(block) != sums[begin : begin + _SUM.size]:
                return
            left -= size
            yield

    @property
    def blocks(self) -> int:
        """Number of blocks."""
        return -(-self.array_size // self.block_size)

    @property
    def sums_begin(self) -> int:
        """Where the blocks' checksums begin."""
        return self.header_size + self.array_size

    @property
    def sums_size(self) -> int:
        """Bytes of the blocks' checksums."""
        return self.blocks * _SUM.size

    def places(self, block: int) -> tuple[int, int]:
        """Returns where a block begins, and where its checksum does."""
        return self.header_size + block * self.block_size, self.sums_begin + block * _SUM.size

    def _packed(self, header: bytes, sums: bytes) -> bytes:
        content = self.FORMAT.pack(_MARK, *astuple(self), 0)[: -_SUM.size]
        return content + _SUM.pack(zlib.crc32(content, zlib.crc32(sums, zlib.crc32(header))))
