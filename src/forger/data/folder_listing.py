"""The images of a folder in order, with their splits, classes and labels; reads no pixels."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from hashlib import sha256
from itertools import compress
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from forger.data.folder_splits import Found, find_splits, left_out, walk
from forger.errors import DataError


@dataclass(frozen=True)
class Listing:
    """The images of a folder, training split first.

    Attributes:
        names: path of each image below the root.
        num_train: how many belong to the training split.
        num_test: how many are held out for tests.
        labels: index into `classes` of each image, or None.
        test_labelled: whether the labels of the test images mean something.
        classes: sorted names, or None.
        test_folder: where the test images lie; None: they are held out of the training folder.
        left_out: what in the folder is not used, by folder or type and number.
    """

    names: list[str]
    num_train: int
    num_test: int
    labels: NDArray[np.int64] | None
    test_labelled: bool
    classes: tuple[str, ...] | None
    test_folder: str | None
    left_out: tuple[str, ...]

    def without(self, unreadable: Collection[str]) -> Listing:
        """Returns the listing without some of its images."""
        kept = [name not in unreadable for name in self.names]
        num_train = sum(kept[: self.num_train])
        return replace(
            self,
            names=[*compress(self.names, kept)],
            num_train=num_train,
            num_test=sum(kept) - num_train,
            labels=None if self.labels is None else self.labels[kept],
        )


def list_images(
    root: Path,
    test_fraction: float,
    train_folder: str | None = None,
    test_folder: str | None = None,
) -> Listing:
    """Lists the images below `root`; see docs/data.md for how splits and classes are found.

    Raises:
        DataError: no folder, no images, no telling which are for tests, images both beside and
            inside class folders, or a class of the test images that the training images lack.
    """
    found = _walk(root)
    splits = find_splits(root, found, train_folder, test_folder)
    train, test = splits.folders(found)
    # Names are kept once, and little else of each: there may be a million.
    names, parent = _names(found, train), _class_folder(splits.train, train)
    _check_not_mixed(root, found, parent, train)
    known = sorted(_inside(parent, train))
    labels, test_classes = _labels(names, parent, known), {*known}
    if splits.test is None:
        num_train = len(names) - _num_held_out(len(names), test_fraction)
        order = _order(names, num_train)
        names, labels = [names[place] for place in order.tolist()], labels[order]
    else:
        num_train, held_out = len(names), _names(found, test)
        parent = _class_folder(splits.test, test, known)
        _check_not_mixed(root, found, parent, test)
        test_classes = _inside(parent, test)
        extra = sorted(test_classes - {*known})
        if known and extra:
            raise DataError(
                f"data.root={root}: the test images have the class {extra[0]!r}, which the training"
                " images lack"
            )
        names += held_out
        labels = np.concatenate((labels, _labels(held_out, parent, known)))
    return Listing(
        names=names,
        num_train=num_train,
        num_test=len(names) - num_train,
        labels=labels if known else None,
        test_labelled=bool(test_classes),
        classes=tuple(known) or None,
        test_folder=splits.test,
        left_out=(*left_out(found, splits),),
    )


def _walk(root: Path) -> Found:
    try:
        if not root.exists():
            raise DataError(f"data.root={root}: there is no such folder (looked in {Path.cwd()})")
        if not root.is_dir():
            raise DataError(f"data.root={root}: is a file; give the folder that holds the images")
        return walk(root)
    except OSError as error:
        reason = error.strerror or error
        raise DataError(f"data.root: {error.filename or root} cannot be read: {reason}") from None


def _class_folder(split: str, folders: list[str], known: Collection[str] = ()) -> str:
    """Returns the folder whose sub-folders are the classes of a split.

    A folder that holds a single folder and no image is passed through, as one class is no class;
    not so, of test images, one of the `known` classes.
    """
    while split not in folders and len(inside := _inside(split, folders)) == 1:
        (name,) = inside
        if name in known:
            break
        split += f"{name}/"
    return split


def _inside(parent: str, folders: list[str]) -> set[str]:
    """Returns the names of the sub-folders."""
    return {path[len(parent) :].partition("/")[0] for path in folders} - {""}


def _labels(names: list[str], parent: str, classes: list[str]) -> NDArray[np.int64]:
    """Returns the number of each image's class; 0 where there are none."""
    index = {name: number for number, name in enumerate(classes)}
    begin = len(parent)
    found = (index.get(name[begin:].partition("/")[0], 0) for name in names)
    return np.fromiter(found, np.int64, len(names))


def _names(found: Found, folders: list[str]) -> list[str]:
    """Lists the images of some folders in an order that is the same on every machine."""
    return sorted(folder + name for folder in folders for name in found.images[folder])


def _check_not_mixed(root: Path, found: Found, parent: str, folders: list[str]) -> None:
    inside = [path for path in folders if path != parent]
    if inside and parent in folders:
        loose, first = found.images[parent], min(inside)
        raise DataError(
            f"data.root: {root / parent} holds images both directly ({len(loose)}, such as "
            f"{min(loose)}) and in sub-folders (such as "
            f"{first[len(parent) :]}{min(found.images[first])}); "
            "sub-folders are classes, so move all images into class folders, or all out of them"
        )


def _num_held_out(images: int, fraction: float) -> int:
    count = max(1, round(images * fraction)) if fraction > 0 else 0
    if count >= images:
        raise DataError(
            f"data.test_fraction={fraction}: would hold out all of the {images} images; "
            "add images, or write data.test_fraction=0"
        )
    return count


def _order(names: list[str], num_train: int) -> NDArray[np.int64]:
    """Returns the numbers of the images, those held out moved to the end.

    It divides by a hash of the names: without a seed, and a new image moves hardly any other.
    """
    if num_train == len(names):
        return np.arange(num_train)
    hashes = (sha256(name.encode(errors="surrogateescape")).digest() for name in names)
    ranks = np.fromiter((int.from_bytes(found[:8], "big") for found in hashes), np.uint64)
    held_out = np.zeros(len(names), dtype=bool)
    held_out[np.argsort(ranks, kind="stable")[: len(names) - num_train]] = True
    return np.argsort(held_out, kind="stable")
