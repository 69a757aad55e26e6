"""What is computed once from a data set. Owns its hash, and the cached features of its splits.

A file's name holds a hash of everything that its contents depend on, and a file gets its name only
when it is whole; its checksum tells later damage, after which it is made again.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import ExitStack
from hashlib import sha256
from pathlib import Path
from typing import Literal
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from forger.array_files import DamagedError, map_array
from forger.errors import DataError
from forger.metrics.extractor import FeatureExtractor, Features, ImageData
from forger.metrics.files import array_writer
from forger.metrics.fingerprint import DIGITS
from forger.metrics.waiting import shown
from forger.sampling.sampler import CHUNK  # the last bits of features depend on it

log = logging.getLogger(__name__)

_FORMAT = 1  # raise when the same data would be hashed otherwise
_LAYOUT = 4  # raise when the same extractor and images would be stored otherwise
_ROWS = 1000  # images hashed at a time, so that a memory-mapped folder is never loaded as a whole
_PATIENCE = 3.0  # seconds of work that are announced

_hashes: WeakKeyDictionary[ImageData, str] = WeakKeyDictionary()


def data_hash(data: ImageData) -> str:
    """Hashes both splits: pixels and labels; and the names of the classes.

    Args:
        data: is remembered, so that it is read through once.

    Returns:
        Hex digits, equal where the contents are, on any machine.

    Raises:
        DataError: a split is missing or cannot be read.
    """
    if data not in _hashes:
        digest = sha256(repr((_FORMAT, data.classes)).encode())
        for images, labels in (
            (data.train_images, data.train_labels),
            (data.test_images, data.test_labels),
        ):
            digest.update(repr((tuple(images.shape), labels is None)).encode())
            for rows in torch.split(images, _ROWS):
                digest.update(_bytes(rows))
            if labels is not None:
                digest.update(_bytes(labels))
        _hashes[data] = digest.hexdigest()[:DIGITS]
    return _hashes[data]


def _bytes(tensor: Tensor) -> memoryview:
    return tensor.contiguous().numpy().data


class RealFeatures:
    """The features and logits of a split, memory-mapped: only what is used is read.

    Attributes:
        features: float32 `(N, D)`, read-only memory.
        logits: float32 `(N, K)`, read-only memory.
    """

    def __init__(self, features: Tensor, logits: Tensor) -> None:
        self.features, self.logits = features, logits

    def __len__(self) -> int:
        return len(self.features)

    def batches(self, indices: Tensor | None = None) -> Iterator[Features]:
        """Yields copies of at most `CHUNK` rows at a time.

        Args:
            indices: int64 `(M,)`, the rows in the order wanted; None: all of them in order.
        """
        chosen = torch.arange(len(self)) if indices is None else indices.cpu()
        for rows in torch.split(chosen, CHUNK):
            yield Features(self.features.index_select(0, rows), self.logits.index_select(0, rows))


def cached_features(
    extractor: FeatureExtractor,
    data: ImageData,
    split: Literal["train", "test"],
    cache_dir: Path,
    device: torch.device | str = "cpu",
) -> RealFeatures:
    """Maps the features of a whole split into memory, extracting them first if that wasn't done.

    Args:
        extractor: prepared; it is moved to `device`.
        data: the real images.
        split: which of them.
        cache_dir: is made where it is missing.
        device: where features are extracted; they are kept apart by its type, since their last
            bits depend on it.

    Raises:
        DataError: the split cannot be read, or the cache not be written.
    """
    images = data.train_images if split == "train" else data.test_images
    device = torch.device(device)
    facts = (_LAYOUT, CHUNK, data_hash(data), split, extractor.fingerprint, device.type)
    name = sha256(repr(facts).encode()).hexdigest()[:DIGITS]
    targets = cache_dir / f"features-{name}.npy", cache_dir / f"logits-{name}.npy"
    found = _load(targets, len(images))
    if found is None:
        _extract(extractor.to(device), images, f"{split} images", targets, device)
        found = _load(targets, len(images))
        if found is None:
            raise DataError(f"paths.cache_dir: {targets[0]} cannot be read after it was written")
    return found


def _load(targets: tuple[Path, Path], count: int) -> RealFeatures | None:
    """Maps both files; None where one is missing, and with a warning where one is damaged."""
    tensors = []
    for target in targets:
        try:
            tensors.append(map_array(target, torch.float32, (count, None)))
        except (FileNotFoundError, NotADirectoryError):
            return None
        except DamagedError as error:
            log.warning("%s is damaged (%s); extracting the features again", target, error)
            return None
        except OSError as error:
            raise DataError(
                f"paths.cache_dir: {target} cannot be read: {error.strerror or error}"
            ) from None
    return RealFeatures(*tensors)


def _extract(
    extractor: FeatureExtractor,
    images: Tensor,
    what: str,
    targets: tuple[Path, Path],
    device: torch.device,
) -> None:
    """Writes chunk by chunk, so that memory does not grow with the number of images."""
    started = time.monotonic()
    with ExitStack() as stack:
        writers = [stack.enter_context(array_writer(target, "features")) for target in targets]
        chunks = torch.split(images, CHUNK)
        step = stack.enter_context(shown(f"features of {what}", len(chunks)))
        for number, chunk in enumerate(chunks):
            for write, values in zip(writers, extractor(chunk.to(device)), strict=True):
                write(values.cpu().numpy())
            step()
            expected = (time.monotonic() - started) * len(images) / CHUNK
            if number == 0 and expected > _PATIENCE:
                log.info(
                    "extracting features of %s %s; once, then cached", f"{len(images):,}", what
                )
