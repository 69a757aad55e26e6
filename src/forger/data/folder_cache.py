"""Decoded images in one file on disk. Owns the name of that file, its making and its mapping.

The name holds a hash of everything that the pixels depend on, and a file gets its name only when it
is whole; its checksum tells later damage, after which it is made again.
"""

from __future__ import annotations

import logging
import shutil
import stat
import time
from hashlib import sha256
from math import prod
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from torch import Tensor

from forger.array_files import DamagedError, array_writer, map_array
from forger.data.decoding import decoded
from forger.errors import DataError
from forger.whole_files import remove_leftovers, whole_file

log = logging.getLogger(__name__)

_VERSION = 2  # raise when the same files would give other pixels
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
    key = _key(root, names, shape)
    target = cache_dir / f"images-{shape[1]}px-{shape[0]}ch-{key}.npy"
    images = _load(target, len(names), shape)
    if images is None:
        _build(root, names, target, shape)
        images = _load(target, len(names), shape)
        if images is None:
            raise DataError(f"paths.cache_dir: {target} cannot be read after it was written")
    return images


def _load(target: Path, count: int, shape: tuple[int, int, int]) -> Tensor | None:
    """Maps the file; None where there is none, and with a warning where it is damaged."""
    try:
        return map_array(target, torch.uint8, (count, *shape))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except DamagedError as error:
        log.warning("%s is damaged (%s); decoding the images again", target, error)
        return None
    except OSError as error:
        raise DataError(
            f"paths.cache_dir: {target} cannot be read: {error.strerror or error}"
        ) from None


def _key(root: Path, names: list[str], shape: tuple[int, int, int]) -> str:
    """Hashes names, sizes and times of change, and what is made of them."""
    digest = sha256(repr((_VERSION, str(root.resolve()), shape)).encode())
    for name in names:
        path = root / name
        try:
            found = path.stat()
        except OSError as error:
            raise DataError(f"data.root: {path} cannot be read: {error.strerror}") from None
        if not stat.S_ISREG(found.st_mode):  # reading a pipe would wait for ever
            raise DataError(f"data.root: {path} is not a file; rename it or move it away")
        digest.update(repr((name, found.st_size, found.st_mtime_ns)).encode())
    return digest.hexdigest()[:20]


def _build(root: Path, names: list[str], target: Path, shape: tuple[int, int, int]) -> None:
    """Decodes all images into a file that takes its name when it is whole."""
    started = time.monotonic()
    try:
        remove_leftovers(target.parent, "images-*.npy")
        with whole_file(target) as file:
            _check_room(target.parent, len(names) * prod(shape))
            _write(file, [root / name for name in names], shape)
            if _key(root, names, shape) not in target.name:
                raise DataError(
                    f"data.root: images in {root} changed while they were decoded; "
                    "start again when nothing writes there any more"
                )
    except OSError as error:
        raise _refused(target.parent, error.strerror or str(error)) from None
    seconds = time.monotonic() - started
    log.info("decoded %d images in %.1f s into %s", len(names), seconds, target)


def _check_room(folder: Path, needed: int) -> None:
    """Finds out before hours of decoding, rather than after."""
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise _refused(folder, f"they need {needed:,} bytes, and {free:,} are free")


def _refused(folder: Path, reason: str) -> DataError:
    return DataError(f"paths.cache_dir: {folder} cannot take the decoded images: {reason}")


def _write(file: BinaryIO, paths: list[Path], shape: tuple[int, int, int]) -> None:
    faults: list[str] = []
    with array_writer(file, len(paths)) as write:
        for images, bad in decoded(paths, shape):
            faults += bad
            if not faults:
                write(np.stack(images))
        if faults:
            shown = "".join(f"\n  {fault}" for fault in faults[:_NAMED])
            rest = f"\n  and {len(faults) - _NAMED} more" if len(faults) > _NAMED else ""
            raise DataError(
                f"data.root: {len(faults)} of {len(paths)} images cannot be read; "
                f"mend or delete them{shown}{rest}"
            )
