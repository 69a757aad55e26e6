"""The user's own images, of any size, in a folder."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from math import inf
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from forger.bounds import (
    FractionBelowOne,
    NonNegativeInt,
    PositiveInt,
    check_bounds,
)
from forger.data.folder_cache import FolderCache
from forger.data.folder_listing import Listing, list_images
from forger.data.module import ImageDataModule, Pixels, Residence, Split, check_flag
from forger.errors import ConfigError, DataError
from forger.image_files import ImageFormat


class ImageFolder(ImageDataModule):
    """Images from a folder, each cut to its central square and resized, `(channels, S, S)`.

    Sub-folders named `train` and `test` (or `val`, in any spelling that docs/data.md lists) are the
    splits; sub-folders of a split are its classes. Where there is no folder for tests, a fixed
    choice of `test_fraction` of the images, by a hash of their names, is held out. What cannot be
    told from the names is refused. The decoded images are cached as one file that later runs map
    into memory; a change to any image, to `root` or to a setting below builds another.

    Args:
        root: the folder; required.
        cache_dir: where decoded images are kept.
        image_size: side S of the square images in pixels.
        channels: 1 (grey) or 3 (colour).
        train_folder: sub-folder of `root` to train on, "." being `root` itself; None: by its name.
        test_folder: sub-folder held out for tests; needs `train_folder`.
        test_fraction: share held out for tests where there is no folder for them; 0: none.
        value_range: values of pixels of more than 8 bits that become black and white; None: 0 and
            65535 for 16 bits, and a refusal for 32-bit and floating-point pixels.
        skip_unreadable: go on without images that cannot be read.
        batch_size: images per batch of all processes together.
        flip: mirror each training image with probability 1/2.
        seed: of the order of the images and of the flips; not of what is held out.
        device: where the training images stay, as in `ImageDataModule`.

    Raises:
        ConfigError: `root` is not given or a value is out of range.
        DataError: the folder is missing, empty or ambiguous, or an image cannot be read.
    """

    mapped = True

    def __init__(
        self,
        *,
        root: str | Path | None = None,
        cache_dir: str | Path,
        image_size: PositiveInt = 64,
        channels: Literal[1, 3] = 3,
        train_folder: str | None = None,
        test_folder: str | None = None,
        test_fraction: FractionBelowOne = 0.1,
        value_range: tuple[float, float] | None = None,
        skip_unreadable: bool = False,
        batch_size: PositiveInt = 64,
        flip: bool = False,
        seed: NonNegativeInt = 0,
        device: Residence = "auto",
    ) -> None:
        if root is None:
            raise ConfigError(
                "data.root: data=image_folder needs the folder of your images, "
                "as in data.root=path/to/images"
            )
        check_bounds(image_size, PositiveInt, "data.image_size")
        check_bounds(test_fraction, FractionBelowOne, "data.test_fraction")
        if channels not in (1, 3) or isinstance(channels, bool):
            raise ConfigError(f"data.channels={channels!r}: must be 1 (grey) or 3 (colour)")
        check_flag(skip_unreadable, "data.skip_unreadable")
        super().__init__(
            image_size=image_size, batch_size=batch_size, flip=flip, seed=seed, device=device
        )
        self.root, self.cache_dir = Path(root).expanduser(), Path(cache_dir).expanduser()
        self.channels, self.test_fraction = channels, test_fraction
        self.train_folder, self.test_folder = train_folder, test_folder
        self.value_range = _checked(value_range)
        self.skip_unreadable = skip_unreadable
        self._mapped: Tensor | None = None
        self._unreadable: tuple[Path, int] | None = None

    @cached_property
    def _listing(self) -> Listing:
        return list_images(self.root, self.test_fraction, self.train_folder, self.test_folder)

    @property
    def native_shape(self) -> tuple[int, int, int]:
        """Shape of the images as they are cached."""
        assert self.image_size is not None
        return (self.channels, self.image_size, self.image_size)

    @property
    def classes(self) -> tuple[str, ...] | None:
        """Names of the training split's sub-folders, sorted; None where there are none."""
        return self._listing.classes

    def prepare_data(self) -> None:
        """Lists the images and decodes them unless they are cached."""
        self._pixels()

    def read(self, split: Split) -> Pixels:
        """Maps the decoded images of one split into memory."""
        listing = self._listing
        if split == "test" and listing.num_test == 0:
            raise DataError(
                f"data.root={self.root}: has no test images; add a folder test/ beside train/, "
                "or hold some out with data.test_fraction=0.1"
            )
        images = self._pixels()
        own = slice(listing.num_train) if split == "train" else slice(listing.num_train, None)
        if listing.labels is None or (split == "test" and not listing.test_labelled):
            return images[own], None
        return images[own], torch.from_numpy(listing.labels[own])

    def describe(self) -> list[str]:
        """Says in words which images are for what, and what is left out, for the plan."""
        listing = self._listing
        where = listing.test_folder or "held out of them: data.test_fraction"
        lines = [f"{listing.num_test:,} test images ({where})"]
        if listing.classes is not None:
            shown = ", ".join(listing.classes[:10]) + ", ..." * (len(listing.classes) > 10)
            lines.append(f"{len(listing.classes)} classes: {shown}")
        left_out = ", ".join(listing.left_out)
        if left_out:
            lines.append(f"left out: {left_out}")
        if self._unreadable is not None:
            path, count = self._unreadable
            lines.append(f"left out: {count:,} unreadable, named in {path}")
        return lines

    def _pixels(self) -> Tensor:
        if self._mapped is None:
            assert self.image_size is not None
            target = ImageFormat(self.channels, self.image_size, self.value_range)
            cache = FolderCache(self.root, self._listing.names, self.cache_dir, target)
            self._mapped, left_out = cache.load_or_build(self.skip_unreadable)
            if left_out:
                self._listing = self._listing.without(left_out)
                self._unreadable = cache.unreadable, len(left_out)
            self._listing.names.clear()  # of a million images, 90 MB that nothing needs any more
        return self._mapped


def _checked(value_range: Sequence[float] | None) -> tuple[float, float] | None:
    """Returns the range as two numbers.

    Raises:
        ConfigError: it is none.
    """
    if value_range is None:
        return None
    numbers = [v for v in value_range if isinstance(v, (int, float)) and not isinstance(v, bool)]
    if len(value_range) != 2 or len(numbers) != 2 or not -inf < numbers[0] < numbers[1] < inf:
        raise ConfigError(
            f"data.value_range={[*value_range]}: must be two numbers, the values that become black"
            " and white, the smaller first"
        )
    return float(numbers[0]), float(numbers[1])
