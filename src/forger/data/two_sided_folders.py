"""The user's own images of two sides, A and B, in pairs or without."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import ClassVar, Literal, TypeAlias

from torch import Tensor

from forger.bounds import (
    FractionBelowOne,
    NonNegativeInt,
    PositiveInt,
    check_bounds,
    check_choice,
)
from forger.data.folder import ImageFolder
from forger.data.folder_cache import FolderCache
from forger.data.folder_listing import Listing
from forger.data.folder_sides import Side, check_sizes, list_pairs, list_unpaired
from forger.data.module import Residence, Split

Direction: TypeAlias = Literal["a_to_b", "b_to_a"]


class TwoSidedFolder(ImageFolder):
    """What `PairedFolder` and `UnpairedFolder` share: images of one side, sources of the other.

    Args:
        root: the folder; required.
        cache_dir: where decoded images are kept.
        direction: which side is made from which.
        image_size: side of the square images in pixels, or (height, width), of both sides.
        channels: 1 (grey) or 3 (colour).
        source_channels: the same of the sources; None: as `channels`.
        train_folder, test_folder, test_fraction, value_range, skip_unreadable: as in `ImageFolder`,
            folders without the name of the side: `train` for `trainA` and `trainB`. Of a pair both
            images are left out where one cannot be read.
        crop_margin: pixels by which training images are enlarged before a random part of their
            own size is cut out, of both images of a pair alike (30 in pix2pix and CycleGAN).
        batch_size, flip, seed, device, train_limit: as in `ImageDataModule`.

    Raises:
        ConfigError: `root` is not given or a value is out of range.
        DataError: the folder is missing, empty or ambiguous, an image cannot be read, or the two
            sides do not fit each other.
    """

    def __init__(
        self,
        *,
        root: str | Path | None = None,
        cache_dir: str | Path,
        direction: Direction = "a_to_b",
        image_size: PositiveInt | tuple[PositiveInt, PositiveInt] = 256,
        channels: Literal[1, 3] = 3,
        source_channels: Literal[1, 3] | None = None,
        train_folder: str | None = None,
        test_folder: str | None = None,
        test_fraction: FractionBelowOne = 0.1,
        value_range: tuple[float, float] | None = None,
        skip_unreadable: bool = False,
        batch_size: PositiveInt = 1,
        flip: bool = True,
        crop_margin: NonNegativeInt = 0,
        seed: NonNegativeInt = 0,
        device: Residence = "auto",
        train_limit: PositiveInt | None = None,
    ) -> None:
        check_choice("data.direction", direction, Direction)
        check_bounds(crop_margin, NonNegativeInt, "data.crop_margin")
        super().__init__(
            root=root,
            cache_dir=cache_dir,
            image_size=image_size,
            channels=channels,
            train_folder=train_folder,
            test_folder=test_folder,
            test_fraction=test_fraction,
            value_range=value_range,
            skip_unreadable=skip_unreadable,
            batch_size=batch_size,
            flip=flip,
            seed=seed,
            device=device,
            train_limit=train_limit,
        )
        self.direction, self.crop_margin = direction, crop_margin
        self._targets = replace(self._target, channels=source_channels or channels), self._target

    @abstractmethod
    def list_sides(self) -> tuple[Side, Side]:
        """Lists the images of A and of B."""

    @property
    def native_source_shape(self) -> tuple[int, int, int]:
        """Shape of the sources as they are cached."""
        return self._targets[0].shape

    @cached_property
    def _sides(self) -> tuple[Side, Side]:
        """The sources, and the images."""
        a, b = self.list_sides()
        return (a, b) if self.direction == "a_to_b" else (b, a)

    @cached_property
    def _listing(self) -> Listing:
        return self._sides[1].listing

    @cached_property
    def _images(self) -> Tensor:
        return self._both[1]

    @cached_property
    def _both(self) -> tuple[Tensor, Tensor]:
        return self._load()

    def _load(self) -> tuple[Tensor, Tensor]:
        """Returns the decoded sources and images; those that cannot be read leave the sides."""
        caches = [
            FolderCache(self.root, side.paths, self.cache_dir, replace(target, part=side.part))
            for side, target in zip(self._sides, self._targets, strict=True)
        ]
        if self.paired and not all(cache.path.exists() for cache in caches):
            check_sizes(self.root, *self._sides)
        (sources, left_out), (images, others) = (
            cache.load_or_build(self.skip_unreadable) for cache in caches
        )
        if left_out or others:
            self._leave_out(left_out, others)
            return self._load()
        return sources, images

    def _leave_out(self, *names: set[str]) -> None:
        """Takes images that cannot be read out of the sides; of a pair, both."""
        rows = [
            {row for row, path in enumerate(side.paths) if path in left_out}
            for side, left_out in zip(self._sides, names, strict=True)
        ]
        if self.paired:
            rows = [rows[0] | rows[1]] * 2
        source, image = self._sides
        self._sides = source.without(rows[0]), image.without(rows[1])
        self._listing = self._sides[1].listing
        told = f"{len(rows[1])} pairs" if self.paired else f"{len(rows[0])} and {len(rows[1])}"
        self._unreadable = [f"left out as unreadable: {told}"]

    def read(self, split: Split) -> dict[str, Tensor]:
        """Maps the decoded sources and images of one split into memory."""
        members, listing = super().read(split), self._sides[0].listing
        members["source"] = self._both[0][listing.rows(split)]
        labels = listing.labels_of(split)
        if not self.paired and labels is not None and listing.classes == self.classes:
            members["source_label"] = labels
        return members


class PairedFolder(TwoSidedFolder):
    """Pairs of images: A and B side by side in one file, or two folders with the same names.

    Side by side, A is the left half. Folders are `A` and `B`, beside, above or below those of the
    splits, or `trainA trainB testA testB`. Splits and classes are found as in `ImageFolder`.
    Arguments and errors: see `TwoSidedFolder`.
    """

    def list_sides(self) -> tuple[Side, Side]:
        """Lists the images of A and, in the same order, those of B."""
        return list_pairs(self.root, self.test_fraction, self.train_folder, self.test_folder)

    def describe(self) -> list[str]:
        """Says in words which images are for what, and which are pairs, for the plan."""
        source, image = (side.paths[0] for side in self._sides)
        if source == image:
            source, image = (f"{side.part} half of {side.paths[0]}" for side in self._sides)
        return [f"first pair: {source} -> {image}", *super().describe()]


class UnpairedFolder(TwoSidedFolder):
    """Images of two sides without pairs, in folders `trainA trainB testA testB`, or `A` and `B`.

    Splits and classes are found in both as in `ImageFolder`; sources have labels where both sides
    have the same classes. Arguments and errors: see `TwoSidedFolder`.
    """

    paired: ClassVar[bool] = False

    def list_sides(self) -> tuple[Side, Side]:
        """Lists the images of A and those of B."""
        return list_unpaired(self.root, self.test_fraction, self.train_folder, self.test_folder)

    def describe(self) -> list[str]:
        """Says in words which images and sources are for what, for the plan."""
        listing = self._sides[0].listing
        sources = f"{listing.num_train:,} training and {listing.num_test:,} test sources"
        return [f"{sources}, such as {self._sides[0].paths[0]}", *super().describe()]
