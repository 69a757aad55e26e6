"""Which images a folder holds, their splits and classes. Reads names, never pixels."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from itertools import compress
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torchvision.datasets.folder import IMG_EXTENSIONS

from forger.errors import DataError

_SKIPPED = "__MACOSX"  # what macOS leaves in archives, full of files that only look like images


@dataclass(frozen=True)
class Listing:
    """The images of a folder, training split first.

    Attributes:
        names: path of each image below the root, with `/` on every system.
        num_train: how many belong to the training split.
        num_test: how many are held out for tests.
        labels: index into `classes` of each image, or None.
        classes: sorted names, or None.
    """

    names: list[str]
    num_train: int
    num_test: int
    labels: NDArray[np.int64] | None
    classes: tuple[str, ...] | None


def list_images(root: Path, test_fraction: float) -> Listing:
    """Lists the images below `root`; see `forger.data.ImageFolder` for the layouts.

    Args:
        root: the user's folder.
        test_fraction: share of the images to hold out where there is no test split.

    Raises:
        DataError: no folder, no images, images both beside and inside class folders, or a class of
            the test split that the training split lacks.
    """
    try:
        if not root.exists():
            raise DataError(f"data.root={root}: there is no such folder (looked in {Path.cwd()})")
        if not root.is_dir():
            raise DataError(f"data.root={root}: is a file; give the folder that holds the images")
        return _list(root, test_fraction)
    except OSError as error:
        reason = error.strerror or error
        raise DataError(f"data.root: {error.filename or root} cannot be read: {reason}") from None


def _list(root: Path, test_fraction: float) -> Listing:
    # Names are kept once, and nothing else of each: there may be a million.
    divided = (root / "train").is_dir()
    depth = 1 if divided else 0  # of the classes
    names = _split(root, "train/" if divided else "")
    known = _classes(names, depth)
    if divided and (root / "test").is_dir():
        num_train = len(names)
        test = _split(root, "test/")
        _check_same_classes(root, known, _classes(test, depth))
        names += test
    else:
        names, num_train = _hold_out(names, test_fraction)
    classes = tuple(sorted(known))
    index = {name: number for number, name in enumerate(classes)}
    labels = (index[name.split("/", depth + 1)[depth]] for name in names)
    return Listing(
        names=names,
        num_train=num_train,
        num_test=len(names) - num_train,
        labels=np.fromiter(labels, np.int64, len(names)) if classes else None,
        classes=classes or None,
    )


def _split(root: Path, prefix: str) -> list[str]:
    """Lists a split's images in an order that is the same on every machine."""
    names = sorted(_walk(root, prefix))
    if not names:
        raise DataError(
            f"data.root: no images in {root / prefix} or its sub-folders; "
            f"they are known by their extensions, {', '.join(IMG_EXTENSIONS)}"
        )
    loose = [name for name in names if "/" not in name[len(prefix) :]]
    if loose and len(loose) < len(names):
        inside = next(name for name in names if "/" in name[len(prefix) :])
        raise DataError(
            f"data.root: {root / prefix} holds images both directly ({len(loose)}, such as "
            f"{loose[0][len(prefix) :]}) and in sub-folders (such as {inside[len(prefix) :]}); "
            "sub-folders are classes, so move all images into class folders, or all out of them"
        )
    return names


def _classes(names: list[str], depth: int) -> set[str]:
    """Returns the folders at a depth of the names; none, where the images lie there."""
    parts = (name.split("/", depth + 1) for name in names)
    return {part[depth] for part in parts if len(part) > depth + 1}


def _walk(root: Path, prefix: str) -> Iterator[str]:
    """Yields the images of a split by their names below `root`."""
    below = [prefix]  # folders to look into, with a slash behind each
    while below:
        parent = below.pop()
        with os.scandir(root / parent) as entries:
            for entry in entries:
                name = entry.name
                if name.startswith("."):
                    continue
                if _is_folder(entry):
                    if name != _SKIPPED:
                        _check_circle(root / parent / name, root / prefix)
                        below.append(f"{parent}{name}/")
                elif name.lower().endswith(IMG_EXTENSIONS):
                    yield parent + name


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that leads in a circle; reading it will tell
        return False


def _check_circle(path: Path, folder: Path) -> None:
    """Raises `DataError` for a link to a folder that it lies in: images would be listed again."""
    if path.is_symlink():
        above = path.resolve()
        outer = path
        while outer != folder:
            outer = outer.parent
            if outer.resolve() == above:
                raise DataError(f"data.root: {path} is a link to a folder around it; remove it")


def _hold_out(names: list[str], fraction: float) -> tuple[list[str], int]:
    """Moves those held out to the end, and returns how many are left before them.

    It divides by a hash of the names: without a seed, and a new image moves hardly any other.
    """
    count = max(1, round(len(names) * fraction)) if fraction > 0 else 0
    if count >= len(names):
        raise DataError(
            f"data.test_fraction={fraction}: would hold out all of the {len(names)} images; "
            "add images, or write data.test_fraction=0"
        )
    if count == 0:
        return names, len(names)
    hashes = (sha256(name.encode(errors="surrogateescape")).digest() for name in names)
    ranks = np.fromiter((int.from_bytes(found[:8], "big") for found in hashes), np.uint64)
    held_out = np.zeros(len(names), dtype=bool)
    held_out[np.argsort(ranks, kind="stable")[:count]] = True
    kept = [*compress(names, (~held_out).tolist())]
    return [*kept, *compress(names, held_out.tolist())], len(kept)


def _check_same_classes(root: Path, known: set[str], found: set[str]) -> None:
    extra = sorted(found - known)
    if extra:
        raise DataError(f"data.root={root}: test/ has the class {extra[0]!r}, which train/ lacks")
    if known and not found:
        raise DataError(f"data.root={root}: train/ has class folders, and test/ has none")
