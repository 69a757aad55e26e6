"""The images of a folder in order, with their splits, classes and labels; reads no pixels."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, replace
from hashlib import sha256
from itertools import compress
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from forger.data.folder_splits import Found, find_splits, walk
from forger.data.module import Split
from forger.errors import DataError


@dataclass(frozen=True)
class Listing:
    """The images of a folder, training split first."""

    names: list[str]  # path of each image below the root
    num_train: int
    labels: NDArray[np.int64] | None  # index into `classes` of each image
    test_labelled: bool  # whether the labels of the test images mean something
    classes: tuple[str, ...] | None  # sorted
    test_folder: str | None  # None: test images are held out of the training folder
    left_out: list[str]  # what in the folder is not used, by folder or type and number

    @property
    def num_test(self) -> int:
        """How many images are held out."""
        return len(self.names) - self.num_train

    def rows(self, split: Split) -> slice:
        """Returns where the images of a split are."""
        return slice(self.num_train) if split == "train" else slice(self.num_train, None)

    def labels_of(self, split: Split) -> Tensor | None:
        """Returns the labels of a split, int64 `(N,)`, if it has any."""
        if self.labels is None or (split == "test" and not self.test_labelled):
            return None
        return torch.from_numpy(self.labels[self.rows(split)])

    def without(self, unreadable: Collection[str]) -> Listing:
        """Returns the listing without some of its images."""
        kept = [name not in unreadable for name in self.names]
        return replace(
            self,
            names=[*compress(self.names, kept)],
            num_train=sum(kept[: self.num_train]),
            labels=None if self.labels is None else self.labels[kept],
        )


def list_images(
    root: Path,
    test_fraction: float,
    train_folder: str | None = None,
    test_folder: str | None = None,
    found: Found | None = None,
) -> Listing:
    """Lists the images below `root`; see docs/data.md for how splits and classes are found.

    `found` are these images, where they have been looked for.

    Raises:
        DataError: no folder, no images, no telling which are for tests, images both beside and
            inside class folders, or a class of the test images that the training images lack.
    """
    found = found or find_images(root)
    train, test = find_splits(root, found, train_folder, test_folder)
    held_out = [path for path in found.images if test is not None and path.startswith(test)]
    apart = {*held_out}
    folders = [path for path in found.images if path.startswith(train) and path not in apart]
    if not folders:
        raise DataError(f"data.test_folder={test_folder}: leaves no images to train on")
    names, labels, classes = _labelled(root, found, train, folders)
    if test is None:
        chosen = _hold_out(names, test_fraction)
        order = np.argsort(chosen, kind="stable")
        num_train, test_classes = int(np.count_nonzero(~chosen)), classes
        names, labels = [names[index] for index in order.tolist()], labels[order]
    else:
        num_train = len(names)
        others, own, test_classes = _labelled(root, found, test, held_out, classes)
        names, labels = names + others, np.concatenate((labels, own))
    return Listing(
        names=names,
        num_train=num_train,
        labels=labels if classes else None,
        test_labelled=bool(test_classes),
        classes=tuple(classes) or None,
        test_folder=test,
        left_out=_left_out(found, train, {*folders, *held_out}),
    )


def find_images(root: Path) -> Found:
    """Finds all images below a folder.

    Raises:
        DataError: there is no folder, or one in it cannot be read.
    """
    try:
        if not root.is_dir():
            there = "it is a file" if root.exists() else f"there is none (looked in {Path.cwd()})"
            raise DataError(f"data.root={root}: must be the folder that holds the images; {there}")
        return walk(root)
    except OSError as error:
        reason = error.strerror or error
        raise DataError(f"data.root: {error.filename or root} cannot be read: {reason}") from None


def _left_out(found: Found, train: str, used: Collection[str]) -> list[str]:
    """Says which images and other files are not used, by folder or type and number."""
    depth = max(1, train.count("/"))
    images: Counter[str] = Counter()
    for path, names in found.images.items():
        if path not in used:
            images["/".join(path.split("/")[:depth]) or "."] += len(names)
    lines = [f"{number:,} images in {path}/" for path, number in images.items()]
    return sorted(lines) + [f"{n:,} {kind}" for kind, n in sorted(found.other.items())]


def _labelled(
    root: Path, found: Found, split: str, folders: list[str], known: Collection[str] = ()
) -> tuple[list[str], NDArray[np.int64], list[str]]:
    """Lists the images of a split, with labels, and its classes, the sub-folders of its folder.

    Labels count the `known` classes, of test images, or else its own.
    """
    parent = split
    while parent not in folders and len(inside := _inside(parent, folders)) == 1:
        if inside[0] in known:
            break
        parent += f"{inside[0]}/"  # passed through, as one class is none
    classes = _inside(parent, folders)
    if classes and parent in folders:
        loose, first = found.images[parent], min(path for path in folders if path != parent)
        raise DataError(
            f"data.root: {root / parent} holds images both directly ({len(loose)}, such as"
            f" {min(loose)}) and in sub-folders (such as {first[len(parent) :]}); sub-folders are"
            " classes, so move all images into class folders, or all out of them"
        )
    if known and (extra := [name for name in classes if name not in known]):
        raise DataError(
            f"data.root={root}: the test images have the class {extra[0]!r}, which the training"
            f" images lack; they have {', '.join(list(known)[:10])}{', ...' * (len(known) > 10)}."
            " Give both the same class folders, or take that one away from the test images"
        )
    # The same order on every machine
    names = sorted(folder + name for folder in folders for name in found.images[folder])
    index = {name: number for number, name in enumerate(known or classes)}
    labels = (index.get(name[len(parent) :].partition("/")[0], 0) for name in names)
    return names, np.fromiter(labels, np.int64, len(names)), classes


def _inside(parent: str, folders: list[str]) -> list[str]:
    """Returns the names of the sub-folders, sorted."""
    return sorted({path[len(parent) :].partition("/")[0] for path in folders} - {""})


def _hold_out(names: list[str], fraction: float) -> NDArray[np.bool_]:
    """Marks the images that are held out for tests.

    It divides by a hash of the names: without a seed, and a new image moves hardly any other.
    """
    count = max(1, round(len(names) * fraction)) if fraction > 0 else 0
    if count >= len(names):
        raise DataError(
            f"data.test_fraction={fraction}: would hold out all of the {len(names)} images; "
            "add images, or write data.test_fraction=0"
        )
    hashes = [sha256(name.encode(errors="surrogateescape")).digest() for name in names]
    chosen = np.zeros(len(names), dtype=bool)
    chosen[sorted(range(len(names)), key=hashes.__getitem__)[:count]] = True
    return chosen
