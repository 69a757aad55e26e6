"""What can be wrong with a data file. Each check returns it in words, or None for a good file."""

from __future__ import annotations

import gzip
import hashlib
import math
import struct
import zlib
from pathlib import Path
from typing import IO


def md5_fault(path: Path, expected: str) -> str | None:
    """Compares a file's md5 sum with the one published."""
    with path.open("rb") as file:
        found = _md5(file)
    if found == expected:
        return None
    return f"damaged or incomplete ({path.stat().st_size:,} bytes, md5 {found}, not {expected})"


def idx_fault(path: Path, shape: tuple[int, ...]) -> str | None:
    """Checks an IDX file of bytes: its magic number, its dimensions and its exact size.

    Args:
        path: starts with the bytes 0, 0, 8 (unsigned bytes) and the number of dimensions, then each
            dimension as a big-endian 32-bit number.
        shape: the dimensions that it must have.
    """
    expected = struct.pack(f">4B{len(shape)}I", 0, 0, 8, len(shape), *shape)
    with path.open("rb") as file:
        header = file.read(len(expected))
    if header != expected:
        return f"is not a file of unsigned bytes of shape {shape}"
    size, expected_size = path.stat().st_size, len(expected) + math.prod(shape)
    return None if size == expected_size else f"has {size:,} bytes, not {expected_size:,}"


def gzip_fault(path: Path, packed: Path, expected: str) -> str | None:
    """Checks a file against the compressed one beside it, whose md5 sum is published."""
    fault = md5_fault(packed, expected)
    if fault is not None:
        return f"cannot be verified, because {packed.name} beside it is {fault}; delete that too"
    try:
        with gzip.open(packed) as file:
            unpacked = _md5(file)
    except (EOFError, zlib.error) as error:  # the sum was right, so this is a bad disk
        return f"cannot be verified, because {packed.name} beside it cannot be unpacked: {error}"
    with path.open("rb") as file:
        same = _md5(file) == unpacked
    return None if same else f"differs from what is in {packed.name} beside it"


def _md5(file: IO[bytes] | gzip.GzipFile) -> str:
    digest = hashlib.md5(usedforsecurity=False)
    while block := file.read(1 << 20):
        digest.update(block)
    return digest.hexdigest()
