"""Keeps the decoded images of a folder in one file on disk, which later runs map into memory."""

from __future__ import annotations

import logging
import os
import shutil
import stat
import time
import warnings
from contextlib import closing
from hashlib import sha256
from math import prod
from pathlib import Path

import torch
from torch import Tensor

from forger.array_files import DamagedError, array_writer, map_array
from forger.data.decoding import decode_in_parallel
from forger.errors import DataError
from forger.image_files import ImageFormat, decode_all, largest_of_16_bits
from forger.whole_files import remove_leftovers, write_whole

log = logging.getLogger(__name__)

_VERSION = 5  # raise when the same files would give other pixels, or another kind of file
_NAMED = 5  # unreadable images named in the message
_LOOKED_AT = 32  # images looked at before all are decoded
_DIM = 1 << 12  # of 16 bits: images with no value as high would come out nearly black

Faults = list[tuple[str, str]]
"""Paths of images that cannot be read, each with the reason."""


class FolderCache:
    """The decoded images of a folder, in a file whose name holds a hash of all they depend on.

    Attributes:
        path: of the decoded images.
        unreadable: text file that names the images which cannot be read; missing if there are none.
    """

    def __init__(self, root: Path, names: list[str], cache_dir: Path, target: ImageFormat) -> None:
        self.root, self.names, self.target = root, names, target
        self._key = self._hash()
        self.path = cache_dir / f"images-{target.size}px-{target.channels}ch-{self._key}.npy"
        self.unreadable = self.path.with_suffix(".unreadable.txt")

    def load_or_build(self, skip_unreadable: bool = False) -> tuple[Tensor, set[str]]:
        """Maps the images into memory, decoding them first if that wasn't done yet.

        Returns:
            uint8 `(N, C, S, S)` in the order of `names`, in read-only memory; and the names of
            those that cannot be read, which it lacks.

        Raises:
            DataError: images cannot be read, or the cache cannot be read or written.
        """
        with warnings.catch_warnings():
            # Pillow warns of large images without naming them; twice as large ones it refuses.
            warnings.simplefilter("ignore")
            left_out = self._known_unreadable()
            if left_out and not skip_unreadable:
                # What was wrong may lie elsewhere, and be mended.
                if faults := decode_all([*map(self._join, left_out)], self.target)[1]:
                    raise self._error(faults)
                left_out = []
            images = self._load(len(left_out))
            if images is None:
                left_out = self._build(skip_unreadable)
                images = self._load(len(left_out))
        if images is None:
            raise DataError(f"paths.cache_dir: {self.path} cannot be read after it was written")
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
        except OSError as error:
            raise _cannot_read(self.path, error) from None

    def _build(self, skip_unreadable: bool) -> list[str]:
        """Decodes all images into the file, and returns the names of those that it lacks."""
        started, folder, faults = time.monotonic(), self.path.parent, Faults()
        try:
            folder.mkdir(parents=True, exist_ok=True)
            remove_leftovers(folder, "images-*")
            self._check_room()
            self._check_depth()
            with array_writer(self.path) as write:
                with closing(decode_in_parallel(self.root, self.names, self.target)) as decoded:
                    for images, bad in decoded:
                        faults += bad
                        if skip_unreadable or not faults:
                            write(images)
                self._tell(faults, skip_unreadable)
                if self._hash() != self._key:
                    raise DataError(
                        f"data.root: images in {self.root} changed while they were decoded; "
                        "start again when nothing writes there any more"
                    )
        except OSError as error:
            raise _cannot_write(folder, error.strerror or str(error)) from None
        seconds = time.monotonic() - started
        log.info("decoded %d images in %.1f s into %s", len(self.names), seconds, self.path)
        return self._names({path for path, _ in faults})

    def _tell(self, faults: Faults, skip_unreadable: bool) -> None:
        """Names in a file what cannot be read; raises `DataError` unless that may be skipped."""
        if not faults:
            self.unreadable.unlink(missing_ok=True)
            return
        lines = "".join(f"{path}\t{reason}\n" for path, reason in faults)
        write_whole(self.unreadable, lines.encode(errors="surrogateescape"))
        if not skip_unreadable or len(faults) == len(self.names):
            raise self._error(faults)

    def _known_unreadable(self) -> list[str]:
        """Returns the names of the images that an earlier build could not read."""
        try:
            content = self.unreadable.read_text(encoding="utf-8", errors="surrogateescape")
        except (FileNotFoundError, NotADirectoryError):
            return []
        except OSError as error:
            raise _cannot_read(self.unreadable, error) from None
        return self._names({line.partition("\t")[0] for line in content.splitlines()})

    def _error(self, faults: Faults) -> DataError:
        shown = [f"{path}: {reason}" for path, reason in faults[:_NAMED]]
        if len(faults) > _NAMED:
            shown.append(f"and {len(faults) - _NAMED} more")
        return DataError(
            f"data.root: {len(faults)} of {len(self.names)} images cannot be read; all are named in"
            f" {self.unreadable}; mend or delete them, or write data.skip_unreadable=true to go on"
            " without them" + "".join(f"\n  {line}" for line in shown)
        )

    def _names(self, paths: set[str]) -> list[str]:
        return [name for name in self.names if self._join(name) in paths] if paths else []

    def _join(self, name: str) -> str:
        return os.path.join(self.root, name)  # noqa: PTH118  (a million; Path takes twice as long)

    def _check_depth(self) -> None:
        """Looks at a few images: raises `DataError` if all have 16 bits and use little of them."""
        some = self.names[:: max(1, len(self.names) // _LOOKED_AT)]
        largest = [largest_of_16_bits(self._join(name)) for name in some]
        deep = [value for value in largest if value is not None]
        if not deep or self.target.value_range is not None:
            return
        if 0 < max(deep) < _DIM:
            full = (1 << max(deep).bit_length()) - 1
            raise DataError(
                f"data.root: {len(deep)} 16-bit images looked at hold no value above {max(deep)} of"
                f" 65535, and would come out nearly black; write data.value_range=[0,{full}] where"
                " they are grey, save colours with 8 bits, or write [0,65535] to have them so"
            )
        log.info("16-bit pixels: 0 becomes black and 65535 white, see data.value_range")

    def _check_room(self) -> None:
        """Finds out before hours of decoding, rather than after."""
        needed = len(self.names) * prod(self.target.shape)
        free = shutil.disk_usage(self.path.parent).free
        if needed > free:
            reason = f"they need {needed:,} bytes, and {free:,} are free"
            raise _cannot_write(self.path.parent, reason)

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


def _cannot_read(path: Path, error: OSError) -> DataError:
    return DataError(f"paths.cache_dir: {path} cannot be read: {error.strerror or error}")


def _cannot_write(folder: Path, reason: str) -> DataError:
    return DataError(f"paths.cache_dir: {folder} cannot take the decoded images: {reason}")
