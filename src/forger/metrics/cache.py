"""What is computed once from a data set: its hash, and the features of its splits on disk.

A file's name holds a hash of all that its contents depend on; a damaged one is made again.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from hashlib import sha256
from pathlib import Path
from typing import TypeVar
from weakref import WeakKeyDictionary

import torch
from rich.console import Console
from rich.progress import track

from forger.array_files import DamagedError, array_writer, map_array
from forger.errors import DataError
from forger.metrics.extractor import HASH_DIGITS, FeatureExtractor, Features, ImageData
from forger.metrics.settings import Split, images_of
from forger.sampling.sampler import CHUNK  # the last bits of features depend on it
from forger.whole_files import remove_leftovers

log = logging.getLogger(__name__)

_FORMAT = 1  # raise when the same data would be hashed otherwise
_LAYOUT = 4  # raise when the same extractor and images would be stored otherwise
_ROWS = 1000  # images hashed at a time, so that a memory-mapped folder is never loaded as a whole

_CPU = torch.device("cpu")
Step = TypeVar("Step")
_hashes: WeakKeyDictionary[ImageData, str] = WeakKeyDictionary()


def data_hash(data: ImageData) -> str:
    """Hashes pixels and labels of both splits, and the names of the classes, once for `data`."""
    if data not in _hashes:
        digest = sha256(repr((_FORMAT, data.classes)).encode())
        for images, labels in (
            (data.train_images, data.train_labels),
            (data.test_images, data.test_labels),
        ):
            digest.update(repr((tuple(images.shape), labels is None)).encode())
            for rows in (*torch.split(images, _ROWS), *(() if labels is None else (labels,))):
                digest.update(rows.contiguous().numpy().data)
        _hashes[data] = digest.hexdigest()[:HASH_DIGITS]
    return _hashes[data]


@contextmanager
def written_to(cache_dir: Path, contents: str) -> Iterator[None]:
    """Makes a `DataError` that names `contents` of what keeps files from being written inside."""
    remove_leftovers(cache_dir, "*")
    try:
        yield
    except OSError as error:
        reason = error.strerror or error
        raise DataError(f"paths.cache_dir: {cache_dir} cannot take {contents}: {reason}") from None


def cached_features(
    extractor: FeatureExtractor,
    data: ImageData,
    split: Split,
    cache_dir: Path,
    device: torch.device = _CPU,
) -> Features:
    """Maps the features of a whole split into memory, extracting them first if that wasn't done.

    Args:
        extractor: prepared; it is moved to `device`, whose type the last bits depend on.
        data: the real images.
        split: which of them.
        cache_dir: is made where it is missing; `DataError` where it cannot be read or written.
        device: where features are extracted.
    """
    images = images_of(data, split)
    facts = (_LAYOUT, CHUNK, data_hash(data), split, extractor.fingerprint, device.type)
    name = sha256(repr(facts).encode()).hexdigest()[:HASH_DIGITS]
    targets = cache_dir / f"features-{name}.npy", cache_dir / f"logits-{name}.npy"
    found = _load(targets, len(images))
    if found is None:
        log.info("extracting features of %s %s images; then cached", f"{len(images):,}", split)
        extractor = extractor.to(device)
        chunks = torch.split(images, CHUNK)
        with written_to(cache_dir, "features"), ExitStack() as stack:
            writers = [stack.enter_context(array_writer(target)) for target in targets]
            for chunk in progress(chunks, f"features of {split} images", len(chunks)):
                for write, values in zip(writers, extractor(chunk.to(device)), strict=True):
                    write(values.cpu().numpy())
        found = _load(targets, len(images))
        assert found is not None
    return found


def _load(targets: tuple[Path, Path], count: int) -> Features | None:
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
    return Features(*tensors)


def progress(steps: Iterable[Step], what: str, total: int) -> Iterable[Step]:
    """Returns the steps of a loop, which show on a terminal how many of `total` are done."""
    console = Console(stderr=True)
    silent = not console.is_terminal or console.is_dumb_terminal
    return track(steps, what, total, console=console, transient=True, disable=silent)
