"""Decodes the images of a folder into one file on disk, which later runs map into memory."""

from __future__ import annotations

import logging
import os
import shutil
import stat
import time
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from hashlib import sha256
from math import prod
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from torch import Tensor

from forger.array_files import DamagedError, array_writer, map_array
from forger.errors import DataError
from forger.hardware import core_count
from forger.image_files import (
    ImageFormat,
    largest_of_16_bits,
    start_decoding_process,
    try_decode,
)
from forger.whole_files import remove_leftovers, write_whole
from forger.worker_signals import signals_held_back

log = logging.getLogger(__name__)

_VERSION = 5  # raise when the same files would give other pixels, or another kind of file
_NAMED = 5  # unreadable images named in the message
_BLOCK, _BLOCK_BYTES = 64, 1 << 24  # images that wait in memory: so many, or more if they fit
_MANY = 8192  # images, above which processes have started before threads would be done
_MOST = 32  # processes: one feeds them all, and each takes some 40 MB
_LOOKED_AT = 32  # images looked at before all are decoded
_DIM = 1 << 12  # of 16 bits: images with no value as high would come out nearly black


class FolderCache:
    """The decoded images of a folder, in a file whose name holds a hash of all they depend on.

    Beside it lies a text file `unreadable` that names the images which cannot be read, if any.
    """

    def __init__(self, root: Path, names: list[str], cache_dir: Path, target: ImageFormat) -> None:
        self.root, self.names, self.target = root, names, target
        self._key = self._hash()
        channels, height, width = target.shape
        size = f"{height}" if height == width else f"{height}x{width}"
        self.path = cache_dir / f"images-{size}px-{channels}ch-{self._key}.npy"
        self.unreadable = self.path.with_suffix(".unreadable.txt")

    def load_or_build(self, skip_unreadable: bool = False) -> tuple[Tensor, set[str]]:
        """Maps the images into memory, decoding them first if that wasn't done yet.

        Returns:
            uint8 `(N, C, H, W)` in the order of `names`, in read-only memory; and the names of
            those that cannot be read, which it lacks.

        Raises:
            DataError: images cannot be read, or the cache cannot be read or written.
        """
        try:
            left_out = self._known_unreadable()
            if left_out and not skip_unreadable:
                # What was wrong may lie elsewhere, and be mended.
                if faults := self._decode(left_out, lambda _: None):
                    raise self._error(faults)
                left_out = []
            images = self._load(len(left_out))
            if images is None:
                left_out = self._build(skip_unreadable)
                images = self._load(len(left_out))
        except OSError as error:
            raise DataError(
                f"paths.cache_dir: {error.filename or self.path.parent} cannot be read or written:"
                f" {error.strerror or error}"
            ) from None
        assert images is not None
        return images, set(left_out)

    def _load(self, left_out: int) -> Tensor | None:
        """Maps the file; None where there is none, and with a warning where it is damaged."""
        shape = (len(self.names) - left_out, *self.target.shape)
        try:
            return map_array(self.path, torch.uint8, shape)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except DamagedError as error:
            log.warning("%s is damaged (%s); decoding the images again", self.path, error)
            return None

    def _build(self, skip_unreadable: bool) -> list[str]:
        """Decodes all images into the file, and returns the names of those that it lacks."""
        started, folder = time.monotonic(), self.path.parent
        folder.mkdir(parents=True, exist_ok=True)
        remove_leftovers(folder, "images-*")
        needed, free = len(self.names) * prod(self.target.shape), shutil.disk_usage(folder).free
        if needed > free:  # found out before hours of decoding, rather than after
            raise OSError(f"the images need {needed:,} bytes, and {free:,} are free")
        self._check_depth()
        with array_writer(self.path) as write:
            faults = self._decode(self.names, write, skip_unreadable)
            if not faults:
                self.unreadable.unlink(missing_ok=True)
            else:
                lines = (f"{self._join(name)}\t{reason}\n" for name, reason in faults.items())
                write_whole(self.unreadable, "".join(lines).encode(errors="surrogateescape"))
                if not skip_unreadable or len(faults) == len(self.names):
                    raise self._error(faults)
            if self._hash() != self._key:
                raise DataError(
                    f"data.root: images in {self.root} changed while they were decoded; "
                    "start again when nothing writes there any more"
                )
        seconds = time.monotonic() - started
        log.info("decoded %d images in %.1f s into %s", len(self.names), seconds, self.path)
        return [*faults]

    def _decode(
        self, names: list[str], write: Callable[[NDArray[Any]], None], skip_unreadable: bool = False
    ) -> dict[str, str]:
        """Decodes images in threads or, if they are many, in processes; returns what is wrong.

        They are written one by one, in order; none after one that cannot be read, unless skipped.
        """
        faults: dict[str, str] = {}
        block = max(_BLOCK, _BLOCK_BYTES // prod(self.target.shape))
        console, blocks = Console(stderr=True), range(0, len(names), block)
        hidden = not console.is_terminal
        shown = track(blocks, "decoding images", console=console, transient=True, disable=hidden)
        workers = min(core_count(), _MOST)
        decode, chunk = partial(try_decode, target=self.target), max(1, block // (4 * workers))
        with _pool(workers, len(names)) as pool, warnings.catch_warnings():
            # Pillow warns of large images without naming them; twice as large ones it refuses.
            warnings.simplefilter("ignore")
            for begin in shown:
                some = names[begin : begin + block]
                with signals_held_back():  # a process may start
                    decoded = pool.map(decode, map(self._join, some), chunksize=min(64, chunk))
                for name, found in zip(some, _or_killed(decoded), strict=True):
                    if isinstance(found, str):
                        faults[name] = found
                    elif skip_unreadable or not faults:
                        write(found[None])
        return faults

    def _check_depth(self) -> None:
        """Looks at a few images: raises `DataError` if all have 16 bits and use little of them."""
        if self.target.value_range is not None:
            return
        some = self.names[:: max(1, len(self.names) // _LOOKED_AT)]
        largest = [largest_of_16_bits(self._join(name)) for name in some]
        deep = [value for value in largest if value is not None]
        if deep and 0 < max(deep) < _DIM:
            full = (1 << max(deep).bit_length()) - 1
            raise DataError(
                f"data.root: {len(deep)} 16-bit images looked at hold no value above {max(deep)} of"
                f" 65535, and would come out nearly black; write data.value_range=[0,{full}] where"
                " they are grey, save colours with 8 bits, or write [0,65535] to have them so"
            )

    def _known_unreadable(self) -> list[str]:
        """Returns the names of the images that an earlier build could not read."""
        try:
            content = self.unreadable.read_text(encoding="utf-8", errors="surrogateescape")
        except (FileNotFoundError, NotADirectoryError):
            return []
        paths = {line.partition("\t")[0] for line in content.splitlines()}
        return [name for name in self.names if self._join(name) in paths]

    def _error(self, faults: dict[str, str]) -> DataError:
        shown = [f"{self._join(name)}: {reason}" for name, reason in faults.items()][:_NAMED]
        if len(faults) > _NAMED:
            shown.append(f"and {len(faults) - _NAMED} more")
        return DataError(
            f"data.root: {len(faults)} of {len(self.names)} images cannot be read; all are named in"
            f" {self.unreadable}; mend or delete them, or write data.skip_unreadable=true to go on"
            " without them" + "".join(f"\n  {line}" for line in shown)
        )

    def _join(self, name: str) -> str:
        return os.path.join(self.root, name)  # noqa: PTH118  (a million; Path takes twice as long)

    def _hash(self) -> str:
        """Hashes names, sizes and times of change, and what is made of them."""
        digest = sha256(repr((_VERSION, str(self.root.resolve()), self.target)).encode())
        for name in self.names:
            path = self._join(name)
            try:
                found = os.stat(path)  # noqa: PTH116
            except OSError as error:
                raise DataError(f"data.root: {path} cannot be read: {error.strerror}") from None
            if not stat.S_ISREG(found.st_mode):  # reading a pipe would wait for ever
                raise DataError(f"data.root: {path} is not a file; rename it or move it away")
            facts = f"{name}\0{found.st_size} {found.st_mtime_ns}\n"
            digest.update(facts.encode(errors="surrogateescape"))
        return digest.hexdigest()[:20]


def _pool(workers: int, images: int) -> Executor:
    """Returns threads, in which Pillow decodes beside Python, or processes for many small files."""
    if images < _MANY:
        return ThreadPoolExecutor(workers)
    context = get_context("spawn")  # forking a process with threads may hang
    return ProcessPoolExecutor(workers, context, start_decoding_process)


def _or_killed(decoded: Iterator[Any]) -> Iterator[Any]:
    """Yields what is decoded; raises `DataError` where a process that decoded was killed."""
    try:
        yield from decoded
    except BrokenProcessPool:
        raise DataError(
            "data.root: a process that decoded images was killed, perhaps for want of memory"
        ) from None
