"""Arrays as plain `.npy` files, each with a checksum in a file beside it."""

from __future__ import annotations

import json
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

from forger.whole_files import whole_file, write_json


class DamagedError(ValueError):
    """An array that is not as it was written; the message says what is wrong with it."""


def checksum_file(path: Path) -> Path:
    """Returns the file beside an array that holds its checksum."""
    return path.with_suffix(".json")


@contextmanager
def array_writer(path: Path) -> Iterator[Callable[[NDArray[Any]], None]]:
    """Yields a function that appends rows `(n, ...)` of one type and shape, at least once.

    The array appears under its name when the context is left without an error, and only when it is
    whole; its checksum follows. In between a kill leaves what `map_array` calls damaged.
    """
    count, header = 0, dict[str, Any]()
    with whole_file(path) as file:

        def write(rows: NDArray[Any]) -> None:
            nonlocal count
            count += len(rows)
            descr = np.lib.format.dtype_to_descr(rows.dtype)
            header.update(descr=descr, fortran_order=False, shape=(count, *rows.shape[1:]))
            if file.tell() == 0:  # the header is of one size whatever the count
                np.lib.format.write_array_header_1_0(file, header)
            # Not a mapped file: a full disk is then an error and not a crash.
            file.write(np.ascontiguousarray(rows).tobytes())

        yield write
        file.seek(0)
        np.lib.format.write_array_header_1_0(file, header)
    write_json(checksum_file(path), {**_state(path), "sha256": _sha256(path)})


def map_array(path: Path, dtype: torch.dtype, shape: tuple[int | None, ...]) -> Tensor:
    """Maps an array into read-only memory, which stays valid when the file is deleted.

    It is read through and compared with its checksum only where its size, time of change or inode
    are not those of the file that was found good last.

    Args:
        path: of the array.
        dtype: that it must have.
        shape: that it must have; None stands for any size.

    Raises:
        DamagedError: it is not what was written, or of another type or shape.
        OSError: it is not there or cannot be read.
    """
    _check(path)
    with warnings.catch_warnings():
        # Nothing here writes to it, which is what torch warns of.
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        array = torch.from_numpy(np.load(path, mmap_mode="r", allow_pickle=False))
    fits = all(a in (None, b) for a, b in zip(shape, array.shape, strict=False))
    if array.dtype != dtype or len(shape) != array.ndim or not fits:
        raise DamagedError(f"holds {array.dtype} {tuple(array.shape)}, not {dtype} {shape}")
    return array


def _check(path: Path) -> None:
    """Raises `DamagedError` where the array differs from its checksum."""
    state = _state(path)
    try:
        known = json.loads(checksum_file(path).read_bytes())
        expected = known["sha256"]
    except FileNotFoundError:
        raise DamagedError("its checksum is missing") from None
    except (ValueError, TypeError, KeyError):
        raise DamagedError("its checksum cannot be read") from None
    if known == {"sha256": expected, **state}:
        return
    if _sha256(path) != expected:
        raise DamagedError("its checksum is wrong")
    with suppress(OSError):  # else it is read through every time
        write_json(checksum_file(path), {"sha256": expected, **state})


def _state(path: Path) -> dict[str, int]:
    found = path.stat()
    return {"bytes": found.st_size, "changed_ns": found.st_mtime_ns, "inode": found.st_ino}


def _sha256(path: Path) -> str:
    digest = sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 22):
            digest.update(block)
    return digest.hexdigest()
