"""Batches that the data cannot fill, and folders that do not tell what to train on.

The data modules say the same once they have read the images. See `rules`.
"""

from __future__ import annotations

from pathlib import Path

from forger.app.config.accepted import Findings, Select
from forger.app.config.device_rules import processes
from forger.app.config.facts import (
    DATA_SETS,
    FOLDER,
    batches_per_iteration,
    ours,
    target_of,
)
from forger.image_folders import FolderError, find_splits, walk

_LOOKED_AT = 20_000  # files and folders: more take too long for a check


def folders(select: Select) -> Findings:
    """Yields a folder of images that is not there, or that runs would write into."""
    root = select("data.root")
    if target_of(select, "data") != FOLDER:
        return
    if root is None:
        yield "data.root", "is needed; write data.root=<folder of images>"
        return
    if not isinstance(root, str):
        return
    path = Path(root).expanduser()
    if not path.is_dir():
        yield "data.root", "there is no such folder; write data.root=<folder of images>"
    for key in ("data.cache_dir", "paths.log_dir"):
        inside = select(key)
        if (
            isinstance(inside, str)
            and path.resolve() in Path(inside).expanduser().resolve().parents
        ):
            shown = key.replace("data.", "paths.")
            yield (
                "data.root",
                f"is never written to, and {shown}={inside} lies in it; write {shown}=<a folder "
                "elsewhere>, or data.root=<a folder of images alone>",
            )


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
    try:
        count = images(select)
    except FolderError as error:
        yield error.key, error.words
        return
    if count == 0:
        yield "data.test_fraction", "leaves no images to train on"
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


def images(select: Select) -> int | None:
    """Counts training images; `None` where the settings do not tell, or a folder is large.

    Raises:
        FolderError: the folder does not say which images are for training.
    """
    if not select.sound("data"):
        return None
    home, root = target_of(select, "data"), select("data.root")
    if home in DATA_SETS:
        return DATA_SETS[home].count
    if home != FOLDER or not isinstance(root, str) or not Path(root).expanduser().is_dir():
        return None
    try:
        found = walk(Path(root).expanduser(), most=_LOOKED_AT)
    except OSError:
        return None
    if found is None:
        return None
    named = (select("data.train_folder"), select("data.test_folder"))
    splits = find_splits(Path(root), found, *named)
    count = sum(len(found.images[folder]) for folder in splits.folders(found)[0])
    fraction = select("data.test_fraction")
    fraction = 0.1 if fraction is None else fraction
    held_out = max(1, round(count * fraction)) if splits.test is None and fraction > 0 else 0
    return max(0, count - held_out)
