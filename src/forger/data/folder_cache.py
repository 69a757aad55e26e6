"""Decoded images in one file on disk: its name, its making and its mapping.

The name holds a hash of everything that the pixels depend on, and a file gets its name only when it
is whole; its checksums tell later damage, after which it is made again, and how much of it a killed
build had made, after which the next goes on. Images that cannot be read are named in a file beside.
"""

from __future__ import annotations

import logging
import os
import shutil
import stat
import time
from collections.abc import Callable
from hashlib import sha256
from math import prod
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from torch import Tensor

from forger.array_files import ArrayWriter, DamagedError, map_array
from forger.data.decode import Form, largest_of_16_bits
from forger.data.decoders import here
from forger.data.decoding import decoded
from forger.errors import DataError
from forger.whole_files import remove_leftovers, resumable_file, write_whole

log = logging.getLogger(__name__)

_VERSION = 4  # raise when the same files would give other pixels, or another kind of file
_NAMED = 5  # unreadable images named in the message
_LOOKED_AT = 32  # images looked at before all are decoded
_MANY = 1000  # images, above which decoding all takes long enough to try a few first
_DIM = 1 << 12  # of 16 bits: images with no value as high would come out nearly black

_Faults = dict[str, str]  # what is wrong with an image, by its name


def load_or_build(
    root: Path, names: list[str], cache_dir: Path, form: Form, skip_unreadable: bool = False
) -> tuple[Tensor, Path | None, set[str]]:
    """Maps decoded images into memory, decoding them first if that wasn't done yet.

    Args:
        root: the user's folder; never written to.
        names: image files below `root`.
        cache_dir: is made where it is missing.
        form: of each image.
        skip_unreadable: go on without images that cannot be read.

    Returns:
        uint8 `(N, C, S, S)` in the order of `names`, in read-only memory; the file that names the
        images which are left out, or None; and their names.

    Raises:
        DataError: images cannot be read, or the cache cannot be written.
    """
    key = _key(root, names, form)

    def is_unchanged() -> bool:
        return _key(root, names, form) == key

    target = cache_file(cache_dir, form, key)
    listed = target.with_suffix(".unreadable.txt")
    try:
        faults = _still_unreadable(root, names, listed, form)
        if not faults:
            return _mapped(root, names, target, form, is_unchanged), None, set()
    except _UnreadableError as error:
        faults = error.faults
        _write_list(root, listed, faults)
    if not skip_unreadable or len(faults) == len(names):
        raise _unreadable(root, faults, len(names), listed)
    good = [name for name in names if name not in faults]
    rest = "\n".join([key, *faults]).encode(errors="surrogateescape")
    target = cache_file(cache_dir, form, sha256(rest).hexdigest()[:20])
    try:
        return _mapped(root, good, target, form, is_unchanged), listed, set(faults)
    except _UnreadableError as error:  # meanwhile
        raise _unreadable(root, error.faults, len(names), listed) from None


class _UnreadableError(Exception):
    """Images that cannot be read; `faults` says why, by their names."""

    def __init__(self, faults: dict[str, str]) -> None:
        super().__init__(faults)
        self.faults = faults


def _mapped(
    root: Path, names: list[str], target: Path, form: Form, is_unchanged: Callable[[], bool]
) -> Tensor:
    """Maps the images into memory, decoding them first where that wasn't done yet."""
    images = _load(target, len(names), form[0])
    if images is None:
        _build(root, names, target, form, is_unchanged)
        images = _load(target, len(names), form[0])
        if images is None:
            raise DataError(f"paths.cache_dir: {target} cannot be read after it was written")
    return images


def cache_file(cache_dir: Path, form: Form, key: str) -> Path:
    """Returns the file that holds or will hold the decoded images."""
    channels, size, _ = form[0]
    return cache_dir / f"images-{size}px-{channels}ch-{key}.npy"


def _still_unreadable(root: Path, names: list[str], listed: Path, form: Form) -> dict[str, str]:
    """Returns what is wrong with those images that an earlier build could not read."""
    try:
        lines = listed.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except OSError as error:
        reason = error.strerror or error
        raise DataError(f"paths.cache_dir: {listed} cannot be read: {reason}") from None
    paths = {line.partition("\t")[0] for line in lines}
    with here(form) as decode:
        _, faults = decode([path for name in names if (path := _join(root, name)) in paths])
    return _by_name(root, faults)


def _write_list(root: Path, listed: Path, faults: dict[str, str]) -> None:
    lines = "".join(f"{_join(root, name)}\t{reason}\n" for name, reason in faults.items())
    try:
        write_whole(listed, lines.encode(errors="surrogateescape"))
    except OSError as error:
        raise _refused(listed.parent, error.strerror or str(error)) from None


def _unreadable(root: Path, faults: dict[str, str], count: int, listed: Path) -> DataError:
    shown = [f"{_join(root, name)}: {reason}" for name, reason in [*faults.items()][:_NAMED]]
    if len(faults) > _NAMED:
        shown.append(f"and {len(faults) - _NAMED} more")
    return DataError(
        f"data.root: {len(faults)} of {count} images cannot be read; all are named in {listed}; "
        "mend or delete them, or write data.skip_unreadable=true to go on without them"
        + "".join(f"\n  {line}" for line in shown)
    )


def _join(root: Path, name: str) -> str:
    return os.path.join(root, name)  # noqa: PTH118  (a million times; Path takes twice as long)


def _by_name(root: Path, faults: list[tuple[str, str]]) -> dict[str, str]:
    begin = len(_join(root, ""))
    return {path[begin:]: reason for path, reason in faults}


def _look_at_some(root: Path, names: list[str], form: Form) -> None:
    """Looks at a few images spread over all, to tell at once what is wrong with every one.

    Raises:
        DataError: none can be read, or all have 16 bits and use little of their range.
    """
    paths = [_join(root, name) for name in names[:: max(1, len(names) // _LOOKED_AT)]]
    if len(names) > _MANY:
        with here(form) as decode:
            images, faults = decode(paths)
        if not len(images):
            shown = "".join(f"\n  {path}: {reason}" for path, reason in faults[:_NAMED])
            raise DataError(f"data.root: none of {len(paths)} images looked at can be read{shown}")
    deep = [value for path in paths if (value := largest_of_16_bits(path)) is not None]
    if not deep or form[1] is not None:
        return
    if 0 < max(deep) < _DIM:
        full = (1 << max(deep).bit_length()) - 1
        raise DataError(
            f"data.root: {len(deep)} 16-bit images looked at hold no value above {max(deep)} of "
            f"65535, and would come out nearly black; write data.value_range=[0,{full}] where they "
            "are grey, save colours with 8 bits, or write [0,65535] to have them so"
        )
    log.info("16-bit pixels: 0 becomes black and 65535 white, see data.value_range")


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


def _key(root: Path, names: list[str], form: Form) -> str:
    """Hashes names, sizes and times of change, and what is made of them."""
    digest = sha256(repr((_VERSION, str(root.resolve()), form)).encode())
    for name in names:
        path = _join(root, name)
        try:
            found = os.stat(path)  # noqa: PTH116
        except OSError as error:
            raise DataError(f"data.root: {path} cannot be read: {error.strerror}") from None
        if not stat.S_ISREG(found.st_mode):  # reading a pipe would wait for ever
            raise DataError(f"data.root: {path} is not a file; rename it or move it away")
        facts = f"{name}\0{found.st_size} {found.st_mtime_ns}\n"
        digest.update(facts.encode(errors="surrogateescape"))
    return digest.hexdigest()[:20]


def _build(
    root: Path, names: list[str], target: Path, form: Form, is_unchanged: Callable[[], bool]
) -> None:
    """Decodes all images into a file that takes its name when it is whole."""
    started = time.monotonic()
    try:
        with resumable_file(target) as file:
            remove_leftovers(target.parent, "images-*.npy")
            done = _write(file, root, names, form)
            if not is_unchanged():
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


def _write(file: BinaryIO, root: Path, names: list[str], form: Form) -> int:
    """Decodes what an earlier build has not, and returns how many it had."""
    faults: list[tuple[str, str]] = []
    writer = ArrayWriter(file, np.dtype(np.uint8), (len(names), *form[0]))
    done = writer.rows
    if done:
        log.info("going on after %d of %d images, decoded before", done, len(names))
    _check_room(Path(file.name).parent, (len(names) - done) * prod(form[0]))
    _look_at_some(root, names, form)
    for images, bad in decoded(root, names, form, done):
        faults += bad
        if not faults:
            writer.write(images)
    if faults:
        raise _UnreadableError(_by_name(root, faults))
    writer.seal()
    return done
