"""Finds the two sides A and B of a folder, of images in pairs or without."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Literal

from forger.data.folder_listing import Listing, find_images, list_images
from forger.data.folder_splits import SPLIT_OF, Found
from forger.errors import DataError
from forger.image_files import upright_size

_SIDE = re.compile(r"(.*?)[_-]?([AB])")  # A, trainA, test_B
_NAMED = 3  # images named in a message


@dataclass(frozen=True)
class Side:
    """The images of a side."""

    listing: Listing  # in folders whose names don't say the side: `train/1.png` for `trainA/1.png`
    paths: list[str]  # of these images below the root
    part: Literal["whole", "left", "right"] = "whole"  # of each image

    def without(self, rows: Collection[int]) -> Side:
        """Returns the side without some of its images."""
        names = {self.listing.names[row] for row in rows}
        paths = [path for row, path in enumerate(self.paths) if row not in rows]
        return Side(self.listing.without(names), paths, self.part)


@dataclass
class _Folders:
    """Where the images of a side lie: folders without its name in theirs, with their own."""

    own: dict[str, str] = field(default_factory=dict)
    found: Found = field(default_factory=Found)

    def path(self, name: str) -> str:
        """Returns the path below the root of an image that the listing has by another name."""
        folder = name[: name.rfind("/") + 1]
        return self.own[folder] + name[len(folder) :]

    def names(self) -> dict[str, list[str]]:
        """Returns all names, by what is before their extensions."""
        names: dict[str, list[str]] = {}
        for folder, files in self.found.images.items():
            for file in files:
                names.setdefault(folder + PurePosixPath(file).stem, []).append(folder + file)
        return names


def list_pairs(
    root: Path, test_fraction: float, train_folder: str | None, test_folder: str | None
) -> tuple[Side, Side]:
    """Lists the images of A and, in the same order, those of B.

    They are the halves of each image where no folder is named for a side, or else those of the same
    name but for the extension.

    Raises:
        DataError: an image has no partner, besides what `list_images` raises.
    """
    found = find_images(root)
    a, b = _sides_of(root, found)
    if not (a.own or b.own):
        listing = list_images(root, test_fraction, train_folder, test_folder, found)
        return Side(listing, listing.names, "left"), Side(listing, listing.names, "right")
    _check_same_splits(root, a, b)
    partners = _partners(root, a, b)
    listing = list_images(root, test_fraction, train_folder, test_folder, a.found)
    others = [b.path(partners[name]) for name in listing.names]
    return Side(listing, [*map(a.path, listing.names)]), Side(listing, others)


def list_unpaired(
    root: Path, test_fraction: float, train_folder: str | None, test_folder: str | None
) -> tuple[Side, Side]:
    """Lists the images of A and those of B.

    Raises:
        DataError: a side has none, besides what `list_images` raises.
    """
    found = find_images(root)
    folders = _sides_of(root, found)
    if not any(one.own for one in folders):
        there = ", ".join(f"{name}/" for name in found.below("")[:6]) or "no sub-folders"
        raise DataError(
            f"data.root={root}: must hold folders of two sides, such as trainA trainB testA testB,"
            f" or A and B; there are {there}"
        )
    _check_same_splits(root, *folders)
    given = root, test_fraction, train_folder, test_folder
    listings = [list_images(*given, one.found) for one in folders]
    a, b = (
        Side(listing, [*map(one.path, listing.names)])
        for listing, one in zip(listings, folders, strict=True)
    )
    return a, b


def check_sizes(root: Path, a: Side, b: Side) -> None:
    """Raises `DataError` unless the two images of each pair are of one size."""
    for ours, theirs in zip(a.paths, b.paths, strict=True):
        sizes = upright_size(root / ours), upright_size(root / theirs)
        if None not in sizes and sizes[0] != sizes[1]:
            told = " and ".join(
                f"{path} is {size[0]}x{size[1]}"
                for path, size in zip((ours, theirs), sizes, strict=True)
                if size is not None
            )
            raise DataError(
                f"data.root={root}: both images of a pair must be of one size, since they are cut"
                f" and resized alike; {told}"
            )


def _sides_of(root: Path, found: Found) -> tuple[_Folders, _Folders]:
    """Parts the folders of A from those of B; what lies in neither is left out, and told."""
    a, b = _Folders(), _Folders()
    a.found.other = Counter(found.other)
    for folder, names in found.images.items():
        name, rest = _without_side(folder)
        if not name:
            a.found.other[f"images in {folder or '.'}, of neither side"] += len(names)
            continue
        side = a if name == "A" else b
        if rest in side.own:
            raise DataError(
                f"data.root={root}: {side.own[rest]} and {folder} both seem to hold the images of"
                f" {name} for the same use; rename one of them"
            )
        side.own[rest], side.found.images[rest] = folder, names
    return a, b


def _without_side(folder: str) -> tuple[str, str]:
    """Returns A or B, or nothing, and the folder without it: `train/x/` for `trainA/x/`."""
    parts = folder.split("/")
    for place, part in enumerate(parts):
        match = _SIDE.fullmatch(part)
        if match is not None and (not match[1] or match[1].lower() in SPLIT_OF):
            parts[place : place + 1] = filter(None, [match[1]])
            return match[2], "/".join(parts)
    return "", folder


def _check_same_splits(root: Path, a: _Folders, b: _Folders) -> None:
    """Raises `DataError` where a side lacks the images of a split that the other has."""
    splits_a, splits_b = _splits(a.own), _splits(b.own)
    for name, missing in (("A", splits_b - splits_a), ("B", splits_a - splits_b)):
        own = a.own if name == "A" else b.own
        if missing or not own:
            which = f" for {min(missing)}" if missing else ""
            there = ", ".join(sorted([*a.own.values(), *b.own.values()])[:6])
            raise DataError(
                f"data.root={root}: the side {name} has no images{which}, and the other side has;"
                f" there are images in {there}"
            )


def _splits(folders: Mapping[str, str]) -> set[str]:
    return {part for folder in folders for part in folder.split("/") if part.lower() in SPLIT_OF}


def _partners(root: Path, a: _Folders, b: _Folders) -> dict[str, str]:
    """Returns for each name of A that of B."""
    names_a, names_b = a.names(), b.names()
    for side, names in ((a, names_a), (b, names_b)):
        if twice := [both for both in names.values() if len(both) > 1]:
            told = " and ".join(map(side.path, twice[0]))
            raise DataError(f"data.root={root}: {told} have one name; give each its own")
    alone_a, alone_b = names_a.keys() - names_b.keys(), names_b.keys() - names_a.keys()
    if alone_a or alone_b:
        alone = [a.path(names_a[name][0]) for name in sorted(alone_a)]
        alone += [b.path(names_b[name][0]) for name in sorted(alone_b)]
        raise DataError(
            f"data.root={root}: the images of a pair must have the same name, in a folder of A and"
            f" in one of B; A has {len(names_a)} images and B {len(names_b)}, and"
            f" {len(alone)} have no partner: {_shown(alone)}"
        )
    return {name: names_b[stem][0] for stem, (name,) in names_a.items()}


def _shown(paths: Iterable[str]) -> str:
    first = list(paths)
    return ", ".join(first[:_NAMED]) + ", ..." * (len(first) > _NAMED)
