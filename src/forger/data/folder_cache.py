"""Decoded images in one file on disk. Owns the name of that file, its making and its mapping.

The name holds a hash of everything that the pixels depend on, and a file gets its name only when it
is whole; its checksums tell later damage, after which it is made again, and how much of it a killed
build had made, after which the next goes on.
"""

from __future__ import annotations

import logging
import os
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

from forger.array_files import ArrayWriter, DamagedError, map_array
from forger.data.decoding import decoded
from forger.errors import DataError
from forger.whole_files import remove_leftovers, resumable_file

log = logging.getLogger(__name__)

_VERSION = 3  # raise when the same files would give other pixels, or another kind of file
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
    target = cache_file(root, names, cache_dir, shape)
    images = _load(target, len(names), shape)
    if images is None:
        _build(root, names, target, shape)
        images = _load(target, len(names), shape)
        if images is None:
            raise DataError(f"paths.cache_dir: {target} cannot be read after it was written")
    return images


def cache_file(root: Path, names: list[str], cache_dir: Path, shape: tuple[int, int, int]) -> Path:
    """Returns the file that holds or will hold the decoded images; arguments as above."""
    return cache_dir / f"images-{shape[1]}px-{shape[0]}ch-{_key(root, names, shape)}.npy"


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
    for name in names:  # a million times: without Path, which takes half of the time
        path = os.path.join(root, name)  # noqa: PTH118
        try:
            found = os.stat(path)  # noqa: PTH116
        except OSError as error:
            raise DataError(f"data.root: {path} cannot be read: {error.strerror}") from None
        if not stat.S_ISREG(found.st_mode):  # reading a pipe would wait for ever
            raise DataError(f"data.root: {path} is not a file; rename it or move it away")
        facts = f"{name}\0{found.st_size} {found.st_mtime_ns}\n"
        digest.update(facts.encode(errors="surrogateescape"))
    return digest.hexdigest()[:20]


def _build(root: Path, names: list[str], target: Path, shape: tuple[int, int, int]) -> None:
    """Decodes all images into a file that takes its name when it is whole."""
    started = time.monotonic()
    try:
        with resumable_file(target) as file:
            remove_leftovers(target.parent, "images-*.npy")
            done = _write(file, root, names, shape)
            if _key(root, names, shape) not in target.name:
                raise DataError(
                    f"data.root: images in {root} changed while they were decoded; "
                    "start again when nothing writes there any more"
                )
    except OSError as error:
        raise _refused(target.parent, error.strerror or str(error)) from None
    seconds = time.monotonic() - started
    log.info("decoded %d images in %.1f s into %s", len(names) - done, seconds, target)


def _check_room(folder: Path, needed: int) -> None:
    """Finds out before hours of decoding, rather than after."""
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise _refused(folder, f"they need {needed:,} bytes, and {free:,} are free")


def _refused(folder: Path, reason: str) -> DataError:
    return DataError(f"paths.cache_dir: {folder} cannot take the decoded images: {reason}")


def _write(file: BinaryIO, root: Path, names: list[str], shape: tuple[int, int, int]) -> int:
    """Decodes what an earlier build has not, and returns how many it had."""
    faults: list[str] = []
    writer = ArrayWriter(file, np.dtype(np.uint8), (len(names), *shape))
    done = writer.rows
    if done:
        log.info("going on after %d of %d images, decoded before", done, len(names))
    _check_room(Path(file.name).parent, (len(names) - done) * prod(shape))
    for images, bad in decoded(root, names, shape, done):
        faults += bad
        if not faults:
            writer.write(images)
    if faults:
        shown = "".join(f"\n  {fault}" for fault in faults[:_NAMED])
        rest = f"\n  and {len(faults) - _NAMED} more" if len(faults) > _NAMED else ""
        raise DataError(
            f"data.root: {len(faults)} of {len(names)} images cannot be read; "
            f"mend or delete them{shown}{rest}"
        )
    writer.seal()
    return done
