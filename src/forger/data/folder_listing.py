"""Which images a folder holds, their splits and classes. Reads names, never pixels."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import NoReturn

from torchvision.datasets.folder import IMG_EXTENSIONS

from forger.errors import DataError

_SKIPPED = "__MACOSX"  # what macOS leaves in archives, full of files that only look like images


@dataclass(frozen=True)
class Listing:
    """The images of a folder, training split first.

    Attributes:
        names: path of each image below the root, with `/` on every system.
        num_train: how many belong to the training split.
        labels: index into `classes` of each image, or None.
        classes: sorted names, or None.
    """

    names: list[str]
    num_train: int
    labels: list[int] | None
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


_Image = tuple[str, "str | None"]  # its name and its class


def _list(root: Path, test_fraction: float) -> Listing:
    divided = (root / "train").is_dir()
    train = _split(root, "train/" if divided else "")
    index = {name: i for i, name in enumerate(sorted({name for _, name in train if name}))}
    if divided and (root / "test").is_dir():
        test = _split(root, "test/")
        _check_same_classes(root, set(index), test)
    else:
        train, test = _hold_out(train, test_fraction)
    images = train + test
    return Listing(
        names=[name for name, _ in images],
        num_train=len(train),
        labels=[index[label] for _, label in images if label] if index else None,
        classes=tuple(index) or None,
    )


def _split(root: Path, prefix: str) -> list[_Image]:
    """Lists a split's images with their classes, in an order that is the same on every machine."""
    names = sorted(_walk(root / prefix))
    if not names:
        raise DataError(
            f"data.root: no images in {root / prefix} or its sub-folders; "
            f"they are known by their extensions, {', '.join(IMG_EXTENSIONS)}"
        )
    loose = [name for name in names if "/" not in name]
    if loose and len(loose) < len(names):
        inside = next(name for name in names if "/" in name)
        raise DataError(
            f"data.root: {root / prefix} holds images both directly ({len(loose)}, such as "
            f"{loose[0]}) and in sub-folders (such as {inside}); sub-folders are classes, so move "
            "all images into class folders, or all out of them"
        )
    return [(prefix + name, None if loose else name.split("/")[0]) for name in names]


def _walk(folder: Path) -> Iterator[str]:
    def stop(error: OSError) -> NoReturn:  # os.walk would skip the folder in silence
        raise error

    for parent, folders, names in os.walk(folder, followlinks=True, onerror=stop):
        folders[:] = [name for name in folders if not name.startswith(".") and name != _SKIPPED]
        for name in folders:
            _check_circle(Path(parent, name), folder)
        below = Path(parent).relative_to(folder).as_posix()
        for name in names:
            if name.lower().endswith(IMG_EXTENSIONS) and not name.startswith("."):
                yield name if below == "." else f"{below}/{name}"


def _check_circle(path: Path, folder: Path) -> None:
    """Raises `DataError` for a link to a folder that it lies in: images would be listed again."""
    if path.is_symlink():
        above = path.resolve()
        outer = path
        while outer != folder:
            outer = outer.parent
            if outer.resolve() == above:
                raise DataError(f"data.root: {path} is a link to a folder around it; remove it")


def _hold_out(images: list[_Image], fraction: float) -> tuple[list[_Image], list[_Image]]:
    """Divides by a hash of the names: without a seed, and a new image moves hardly any other."""
    count = max(1, round(len(images) * fraction)) if fraction > 0 else 0
    if count >= len(images):
        raise DataError(
            f"data.test_fraction={fraction}: would hold out all of the {len(images)} images; "
            "add images, or write data.test_fraction=0"
        )

    def rank(image: _Image) -> bytes:
        return sha256(image[0].encode(errors="surrogateescape")).digest()

    held_out = set(sorted(images, key=rank)[:count])
    return [i for i in images if i not in held_out], [i for i in images if i in held_out]


def _check_same_classes(root: Path, known: set[str], test: list[_Image]) -> None:
    found = {label for _, label in test}
    extra = sorted(label for label in found if label and label not in known)
    if extra:
        raise DataError(f"data.root={root}: test/ has the class {extra[0]!r}, which train/ lacks")
    if known and None in found:
        raise DataError(f"data.root={root}: train/ has class folders, and test/ has none")
