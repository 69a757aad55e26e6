"""The user's own images, of any size, in a folder. Owns the data module alone."""

from __future__ import annotations

from functools import cached_property
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
from forger.data.folder_cache import load_or_build
from forger.data.folder_listing import Listing, list_images
from forger.data.module import ImageDataModule, Pixels, Split
from forger.data.placement import Residence
from forger.errors import ConfigError, DataError


class ImageFolder(ImageDataModule):
    """Images from a folder, each cut to its central square and resized, `(channels, S, S)`.

    `root/train` and `root/test` are the splits where there is a `train`; anything else beside them
    is left alone. Without `train` all of `root` is divided, and without `test` all of `train`: a
    fixed choice of `test_fraction` of the files, by a hash of their names, is held out. Sub-folders
    of a split are its classes. Hidden files and folders, and files without an image's extension,
    are skipped. The decoded images are cached as one file that later runs map into memory; a
    change to any image or to `root` builds another.

    Args:
        root: the folder; required.
        cache_dir: where decoded images are kept.
        image_size: side S of the square images in pixels.
        channels: 1 (grey) or 3 (colour).
        test_fraction: share held out for tests where there is no `test` folder; 0: none.
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
        test_fraction: FractionBelowOne = 0.1,
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
        super().__init__(
            image_size=image_size, batch_size=batch_size, flip=flip, seed=seed, device=device
        )
        self.root, self.cache_dir = Path(root).expanduser(), Path(cache_dir).expanduser()
        self.channels, self.test_fraction = channels, test_fraction
        self._mapped: Tensor | None = None

    @cached_property
    def _listing(self) -> Listing:
        return list_images(self.root, self.test_fraction)

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
        if listing.labels is None:
            return images[own], None
        return images[own], torch.from_numpy(listing.labels[own])

    def _pixels(self) -> Tensor:
        if self._mapped is None:
            self._mapped = load_or_build(
                self.root, self._listing.names, self.cache_dir, self.native_shape
            )
            self._listing.names.clear()  # of a million images, 90 MB that nothing needs any more
        return self._mapped
