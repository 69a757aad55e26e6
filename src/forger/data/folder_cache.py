"""Decoded images in one file on disk. Owns the name of that file, its making and its mapping.

The name holds a hash of everything that the pixels depend on, and a file gets its name only when it
is whole: what has the right name can be used, whoever made it.
"""

from __future__ import annotations

import logging
import os
import time
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import BinaryIO, TypeAlias
from uuid import uuid4

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import UnidentifiedImageError
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor

from forger.data.decode import decode
from forger.errors import DataError

_Decoded: TypeAlias = tuple[list[NDArray[np.uint8]], list[str]]  # images, and faults in words

log = logging.getLogger(__name__)

_VERSION = 1  # raise when the same files would give other pixels
_TASK = 64  # images that a thread decodes at a time
_AHEAD = 32  # tasks whose images may wait in memory
_TINY = 8192  # bytes of a file, below which a second thread makes decoding slower
_PATIENCE = 2.0  # seconds before a progress bar appears
_NAMED = 5  # unreadable images named in the message


def load_or_build(
    root: Path, names: list[str], cache_dir: Path, shape: tuple[int, int, int]
) -> Tensor:
    """Maps decoded images into memory, decoding them first if that wasn't done yet.

    Args:
        root: the user's folder; never written to.
        names: image files below `root`.
        cache_dir: is made where it is missing.
        shape: `(C, S, S)` of each image.

    Returns:
        uint8 `(N, C, S, S)` in the order of `names`; read-only memory.

    Raises:
        DataError: images cannot be read, or the cache cannot be written.
    """
    target = cache_dir / f"images-{shape[1]}px-{shape[0]}ch-{_key(root, names, shape)}.npy"
    if not target.is_file():
        _build([root / name for name in names], target, shape)
    array = np.load(target, mmap_mode="r")
    with warnings.catch_warnings():
        # Nothing here writes to the images, which is what torch warns of.
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return torch.from_numpy(array)


def _key(root: Path, names: list[str], shape: tuple[int, int, int]) -> str:
    """Hashes names, sizes and times of change, and what is made of them."""
    digest = sha256(repr((_VERSION, str(root.resolve()), shape)).encode())
    for name in names:
        path = root / name
        try:
            stat = path.stat()
        except OSError as error:
            raise DataError(f"data.root: {path} cannot be read: {error.strerror}") from None
        digest.update(repr((name, stat.st_size, stat.st_mtime_ns)).encode())
    return digest.hexdigest()[:20]


def _build(paths: list[Path], target: Path, shape: tuple[int, int, int]) -> None:
    """Writes to a temporary file that takes the final name when whole."""
    try:
        started = time.monotonic()
        target.parent.mkdir(parents=True, exist_ok=True)
        scratch = target.with_name(f"{target.stem}-{uuid4().hex}.tmp")
        try:
            with scratch.open("xb") as file:
                _write(file, paths, shape)
            scratch.replace(target)
            seconds = time.monotonic() - started
            log.info("decoded %d images in %.1f s into %s", len(paths), seconds, target)
        finally:
            scratch.unlink(missing_ok=True)
    except OSError as error:
        reason = error.strerror or error
        raise DataError(
            f"paths.cache_dir: {target.parent} cannot take the decoded images: {reason}"
        ) from None


def _write(file: BinaryIO, paths: list[Path], shape: tuple[int, int, int]) -> None:
    header = {"descr": "|u1", "fortran_order": False, "shape": (len(paths), *shape)}
    np.lib.format.write_array_header_1_0(file, header)
    faults: list[str] = []
    # Plain writes in order, not a mapped file: a full disk is then an error and not a crash.
    for images, bad in _decoded(paths, shape):
        faults += bad
        if not faults:
            file.write(np.stack(images).tobytes())
    if faults:
        shown = "".join(f"\n  {fault}" for fault in faults[:_NAMED])
        rest = f"\n  and {len(faults) - _NAMED} more" if len(faults) > _NAMED else ""
        raise DataError(
            f"data.root: {len(faults)} of {len(paths)} images cannot be read; mend or delete them"
            f"{shown}{rest}"
        )


def _decoded(paths: list[Path], shape: tuple[int, int, int]) -> Iterator[_Decoded]:
    """Yields the images in order, task by task, with a progress bar when it takes long."""
    started, shown = time.monotonic(), False
    progress = Progress(
        *(TextColumn("decoding images"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()),
        transient=True,
    )
    bar = progress.add_task("", total=len(paths))
    tasks = [paths[begin : begin + _TASK] for begin in range(0, len(paths), _TASK)]
    with ThreadPoolExecutor(_workers(paths)) as pool:
        try:
            for begin in range(0, len(tasks), _AHEAD):
                for result in pool.map(partial(_decode_all, shape), tasks[begin : begin + _AHEAD]):
                    yield result
                    progress.advance(bar, _TASK)
                    if not shown and time.monotonic() - started > _PATIENCE:
                        progress.start()
                        shown = True
        finally:
            progress.stop()


def _workers(paths: list[Path]) -> int:
    """Counts the threads that help: tiny images are mostly Python, which runs one at a time."""
    some = paths[:: max(1, len(paths) // 100)]
    mean_bytes = sum(path.stat().st_size for path in some) / len(some)
    return 1 if mean_bytes < _TINY else os.cpu_count() or 1


def _decode_all(shape: tuple[int, int, int], paths: list[Path]) -> _Decoded:
    images, faults = [], []
    for path in paths:
        try:
            images.append(decode(path, channels=shape[0], size=shape[1]))
        except UnidentifiedImageError:
            faults.append(f"{path}: not an image, or its beginning is damaged")
        except Exception as error:  # Pillow's plugins raise many kinds for a damaged file
            faults.append(f"{path}: {error}")
    return images, faults
