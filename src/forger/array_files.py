"""Arrays as plain `.npy` files, each with a checksum in a file beside it."""

from __future__ import annotations

import io
import json
import os
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from forger.whole_files import whole_file, write_whole

_BLOCK = 1 << 22  # bytes read at a time


class DamagedError(ValueError):
    """An array that is not as it was written; the message says what is wrong with it."""


def checksum_file(path: Path) -> Path:
    """Returns the file beside an array that holds its checksum."""
    return path.with_suffix(".json")


@contextmanager
def array_writer(path: Path) -> Iterator[Callable[[NDArray[Any]], None]]:
    """Writes an array row by row, so that it need not fit into memory.

    It appears under its name when the context is left without an error, and only when it is whole;
    its checksum follows. A writer killed in between leaves an array that `map_array` calls damaged.

    Yields:
        A function that appends rows, `(n, ...)`: at least once, always of one type and one shape
        behind the first dimension.

    Raises:
        OSError: the array cannot be written.
    """
    count, header = 0, b""
    with whole_file(path) as file:

        def write(rows: NDArray[Any]) -> None:
            nonlocal count, header
            count += len(rows)
            header = _header(rows.dtype, (count, *rows.shape[1:]))
            if file.tell() == 0:
                file.write(header)  # of the same size whatever the count, which is not known yet
            # Not a mapped file: a full disk is then an error and not a crash.
            file.write(np.ascontiguousarray(rows).tobytes())

        yield write
        file.seek(0)
        file.write(header)
    # Even seconds: every file system keeps them as they are, and hardly a later write hits one.
    changed = int(time.time()) // 2 * 2 * 10**9
    os.utime(path, ns=(changed, changed))
    state = _state(path)
    _write_checksum(path, _sha256(path), state)


def map_array(path: Path, dtype: torch.dtype, shape: tuple[int | None, ...]) -> Tensor:
    """Maps an array into memory.

    It is compared with its checksum, for which it is read through, only where it is not the file
    that was found good last, as a copy is not, or was written to since: its size, its time of
    change and its number on the file system (inode) tell. Damage that changes none of them, as by a
    failing disk, is not found.

    Returns:
        The array, in read-only memory that stays valid when the file is deleted; None in `shape`
        stands for any size.

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
    """Raises `DamagedError` where the array differs from its checksum."""
    state = _state(path)
    try:
        known = json.loads(checksum_file(path).read_bytes())
    except FileNotFoundError:
        raise DamagedError("its checksum is missing") from None
    except ValueError:
        raise DamagedError("its checksum cannot be read") from None
    expected = known.get("sha256") if isinstance(known, dict) else None
    if known == {"sha256": expected, **state}:
        return
    if _sha256(path) != expected:
        raise DamagedError("its checksum is wrong")
    with suppress(OSError):  # else it is read through every time
        _write_checksum(path, str(expected), state)


def _write_checksum(path: Path, checksum: str, state: dict[str, int]) -> None:
    content = {"sha256": checksum, **state}
    write_whole(checksum_file(path), json.dumps(content, indent=2).encode())


def _state(path: Path) -> dict[str, int]:
    found = path.stat()
    return {"bytes": found.st_size, "changed_ns": found.st_mtime_ns, "inode": found.st_ino}


def _sha256(path: Path) -> str:
    digest = sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def _header(dtype: np.dtype[Any], shape: tuple[int, ...]) -> bytes:
    """Returns what a `.npy` file begins with."""
    buffer = io.BytesIO()
    facts = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(buffer, facts)
    return buffer.getvalue()
