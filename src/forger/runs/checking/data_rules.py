"""Batches that the data cannot fill. Owns the count of images, and of the files of a folder.

The data modules say the same once they have read the images. See `rules`.
"""

from __future__ import annotations

import ast
import os
from collections.abc import Iterator
from functools import cache
from itertools import islice
from pathlib import Path

from forger.runs.checking.accepted import Findings, Select
from forger.runs.checking.device_rules import processes
from forger.runs.checking.facts import (
    DATA_SETS,
    FOLDER,
    batches_per_iteration,
    ours,
    target_of,
)
from forger.runs.checking.modules import find_module


def folders(select: Select) -> Findings:
    """Yields a folder of images that is not there."""
    root = select("data.root")
    if target_of(select, "data") != FOLDER:
        return
    if root is None:
        yield "data.root", "is needed; write data.root=<folder of images>"
    elif isinstance(root, str) and not Path(root).expanduser().is_dir():
        yield "data.root", "there is no such folder; write data.root=<folder of images>"


def shares(select: Select) -> Findings:
    """Yields a batch that processes cannot share evenly."""
    size, count = select("data.batch_size"), processes(select)
    if isinstance(size, int) and count and size % count:
        below = size // count * count
        fitting = [str(fit) for fit in (below, below + count) if fit > 0]
        yield (
            "data.batch_size",
            f"is shared evenly by {count} processes; write {' or '.join(fitting)}",
        )


def enough(select: Select) -> Findings:
    """Yields an iteration that needs more images than there are."""
    size = select("data.batch_size") or 64
    batches = batches_per_iteration(select)
    count = images(select, batches * size)
    if count == 0:
        yield "data.root", "holds no images that could be trained on"
    elif count is not None and count < batches * size:
        if count < batches:
            yield (
                "loss.n_critic",
                f"one iteration takes {batches} batches, and there are {count} training images; "
                "write less of it or of model.accumulate",
            )
            return
        takes = f"one iteration takes {batches} batches, {batches * size} images, and "
        yield (
            "data.batch_size",
            f"{takes if batches > 1 else ''}there are {count} training images; write "
            f"data.batch_size={count // batches} or less",
        )
    elif count is not None:
        yield from _shares_of_an_epoch(select, count // size // batches)


def _shares_of_an_epoch(select: Select, iterations: int) -> Findings:
    """Yields shares of an epoch that hold no iteration; Lightning would refuse them too."""
    if target_of(select, "data") == FOLDER:
        return  # not all of its files have been counted
    for key in ("trainer.limit_train_batches", "trainer.overfit_batches"):
        share = select(key)
        if isinstance(share, float) and 0 < share < 1 and share * iterations < 1:
            yield key, f"an epoch has {iterations} iterations; write 1 for one of them"


def loaders(select: Select) -> Findings:
    """Yields flags for other loaders than those of our data sets."""
    if ours(select):
        for key in ("trainer.use_distributed_sampler", "trainer.reload_dataloaders_every_n_epochs"):
            if select(key) is not None:
                yield (
                    key,
                    "changes nothing: this data set shares its images among processes and draws "
                    "their order anew in each epoch; leave it out",
                )


def images(select: Select, wanted: int) -> int | None:
    """Counts training images; `None` where the settings do not tell, or there are enough.

    Args:
        select: the settings.
        wanted: how many are enough: the files of a folder are counted no further.
    """
    if not select.sound("data"):
        return None
    home = target_of(select, "data")
    if home in DATA_SETS:
        return DATA_SETS[home].count
    root = select("data.root")
    if home != FOLDER or not isinstance(root, str):
        return None
    fraction = select("data.test_fraction")
    return _in_folder(Path(root).expanduser(), 0.1 if fraction is None else fraction, wanted)


def _in_folder(root: Path, fraction: float, wanted: int) -> int | None:
    """Counts a folder's training images, the held-out ones left off; `None`: enough or unreadable.

    Args:
        root: as `forger.data.ImageFolder` takes it.
        fraction: held out where there is no test split.
        wanted: where to stop.
    """
    if not root.is_dir():
        return None
    divided = (root / "train").is_dir()
    if divided and (root / "test").is_dir():
        fraction = 0.0
    enough = int(wanted / (1 - fraction)) + 2
    try:
        total = sum(1 for _ in islice(_files(root / "train" if divided else root), enough))
    except OSError:
        return None
    held_out = max(1, round(total * fraction)) if fraction > 0 else 0
    return max(0, total - held_out) if total < enough else None


def _files(folder: Path) -> Iterator[str]:
    """Yields the images below a folder, hidden ones left out, in no order."""
    endings = _image_endings()
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith(".") or entry.name == "__MACOSX":
                continue
            if entry.is_dir():
                yield from _files(Path(entry.path))
            elif entry.name.lower().endswith(endings):
                yield entry.name


@cache
def _image_endings() -> tuple[str, ...]:
    """Reads the endings of image files from torchvision's source; all files where it has none."""
    module = find_module("torchvision.datasets.folder")
    value = module.bindings.get("IMG_EXTENSIONS") if module is not None else None
    return tuple(ast.literal_eval(value)) if isinstance(value, ast.Tuple) else ("",)
