"""Finds the images below a folder, and tells by names which are for training and for tests."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from forger.errors import DataError
from forger.image_files import image_endings

# What systems put beside files: folders of notes and thumbnails that look like images
_OF_SYSTEMS = {"__MACOSX", "@eaDir", "$RECYCLE.BIN", "System Volume Information", "lost+found"}

_NAMES = {
    "train": ("train", "training", "trainset", "trainval"),
    "test": ("test", "testing", "testset"),
    "val": ("val", "valid", "validation", "valset", "eval", "evaluation", "dev", "holdout"),
}
SPLIT_OF = {name: split for split, names in _NAMES.items() for name in names}
# A name by itself, or before the A and B of two domains
_NAME = re.compile(rf"(?<![a-z])({'|'.join(SPLIT_OF)})(?:(?![a-z])|(?=[ab]$))")
# What may stand beside it in a name that says nothing but the split, as in `test_images2`
_BESIDE = re.compile(r"(set|split|data|images?|imgs?|photos?|pictures?|[a-d])?\d*")


@dataclass
class Found:
    """What lies below a folder."""

    # The names of the images in each folder; a folder's path ends in "/", the root's is ""
    images: dict[str, list[str]] = field(default_factory=dict)
    # How many files are no images, by their extension, or "hidden"
    other: Counter[str] = field(default_factory=Counter)

    def below(self, folder: str) -> list[str]:
        """Returns the sub-folders of a folder that hold images at any depth, sorted."""
        inside = (path[len(folder) :] for path in self.images if path.startswith(folder))
        return sorted({path.partition("/")[0] for path in inside} - {""})


def walk(root: Path) -> Found:
    """Finds all images below a folder; hidden files and folders are skipped.

    Raises:
        OSError: a folder cannot be read.
        DataError: a link leads in a circle.
    """

    def stop(error: OSError) -> None:
        raise error

    found, endings = Found(), image_endings()
    for folder, subfolders, files in os.walk(root, onerror=stop, followlinks=True):
        parent = folder[len(str(root)) :].lstrip("/")
        parent += "/" if parent else ""
        for name in list(subfolders):
            if name.startswith(".") or name in _OF_SYSTEMS:
                subfolders.remove(name)
                found.other["hidden" if name.startswith(".") else name] += 1
            elif (link := Path(folder, name)).is_symlink():
                around = (path.resolve() for path in link.parents if path.is_relative_to(root))
                if link.resolve() in around:
                    raise DataError(f"data.root={root}: {link} is a link to a folder around it")
        for name in files:
            if name.startswith("."):
                found.other["hidden"] += 1
            elif name.lower().endswith(endings):
                found.images.setdefault(parent, []).append(name)
            else:
                found.other[Path(name).suffix.lower() or "no extension"] += 1
    return found


def find_splits(
    root: Path, found: Found, train: str | None, test: str | None
) -> tuple[str, str | None]:
    """Tells in which folders the training images and the test images lie, below the root.

    `train` and `test` are the folders that the user named, if any; "." is `root`.

    Returns:
        Two folders as `Found` has them; the second may lie in the first. None: there is none.

    Raises:
        DataError: there are no images, or the names of the folders do not tell.
    """
    if not found.images:
        there = ", ".join(f"{number:,} {kind}" for kind, number in found.other.most_common(5))
        raise DataError(
            f"data.root={root}: holds no images, which are known by their extensions; it has"
            f" {there or 'nothing'}"
        )
    if train is not None:
        own = _folder(root, found, "data.train_folder", train)
        return own, None if test is None else _folder(root, found, "data.test_folder", test)
    if test is not None:
        raise DataError(f"data.test_folder={test}: needs data.train_folder beside it")
    base = ""  # a folder that is alone in the root is passed through
    while base not in found.images and len(inside := found.below(base)) == 1:
        if any(_split_folders(inside).values()):
            break
        base += f"{inside[0]}/"
    splits = _told_by_names(root, found, base)
    _check_no_test_inside(root, found, splits[0])
    return splits


def _folder(root: Path, found: Found, key: str, value: str) -> str:
    """Returns a folder below the root as `Found` has it."""
    parts = [part for part in value.split("/") if part not in ("", ".")]
    path = "".join(f"{part}/" for part in parts)
    below = any(folder.startswith(path) for folder in found.images)
    if value.startswith("/") or ".." in parts or not below:
        there = ", ".join(f"{name}/" for name in found.below("")[:6]) or "no sub-folders"
        raise DataError(
            f"{key}={value}: must be a sub-folder of data.root={root} that holds images; there are"
            f" {there}"
        )
    return path


def _split_folders(names: Iterable[str]) -> dict[str, list[str]]:
    """Returns those names that mean a split, by split.

    `train`, `Test`, `val2017` and `trainA` do by themselves; `seg_train` only beside a `seg_test`,
    since `bullet_train` may be a class.
    """
    matched: list[tuple[str, str, str]] = []
    splits_beside: dict[str, set[str]] = {}
    for name in names:
        spaced = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).lower()
        match = _NAME.search(spaced)
        if match is not None:
            rest = re.sub(r"[^a-z0-9]", "", spaced[: match.start()] + spaced[match.end() :])
            matched.append((name, SPLIT_OF[match[1]], rest))
            splits_beside.setdefault(rest, set()).add(SPLIT_OF[match[1]])
    found: dict[str, list[str]] = {split: [] for split in _NAMES}
    for name, split, rest in matched:
        paired = "train" in splits_beside[rest] and len(splits_beside[rest]) > 1
        if paired or _BESIDE.fullmatch(rest):
            found[split].append(name)
    return found


def _told_by_names(root: Path, found: Found, base: str) -> tuple[str, str | None]:
    """Takes the one folder for training, and the one for tests or else for validation."""
    inside = found.below(base)
    named = _split_folders(inside)
    train, tests = named["train"], named["test"] or named["val"]
    if not (train or tests):
        return base, None
    if len(train) == 1 and (len(tests) == 1 or inside == train):
        return f"{base}{train[0]}/", f"{base}{tests[0]}/" if tests else None
    here = base.rstrip("/") or "."
    first = f"{base}{train[0]}" if train else here
    test = f" data.test_folder={base}{tests[0]}" if tests else ""
    shown = ", ".join(f"{base}{name}/" for name in inside[:6]) + ", ..." * (len(inside) > 6)
    raise DataError(
        f"data.root={root}: the names do not tell one folder for training and one for tests:"
        f" {shown}; write for example data.train_folder={first}{test},"
        f" or data.train_folder={here} where all of them are classes"
    )


def _check_no_test_inside(root: Path, found: Found, train: str) -> None:
    """Raises `DataError` where a folder among the training images is named as if for tests."""
    inside: dict[str, set[str]] = {}  # the sub-folders of each folder
    for path in found.images:
        while path != train and path.startswith(train):
            parent = path[: path.rfind("/", 0, -1) + 1]
            inside.setdefault(parent, set()).add(path[len(parent) : -1])
            path = parent
    for folder in sorted(inside):
        named = _split_folders(sorted(inside[folder]))
        for name in named["test"] + named["val"]:
            raise DataError(
                f"data.root={root}: would train on {folder}{name}/, which is named as if for tests;"
                " write data.train_folder=<folder> data.test_folder=<folder>, or"
                f" data.train_folder={train.rstrip('/') or '.'} where it is a class"
            )
