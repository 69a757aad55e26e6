"""The user's own images, of any size, in a folder."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from math import isfinite
from pathlib import Path
from typing import Literal

from torch import Tensor

from forger.bounds import FractionBelowOne, NonNegativeInt, PositiveInt, check_bounds
from forger.data.folder_cache import FolderCache
from forger.data.folder_listing import Listing, list_images
from forger.data.module import ImageDataModule, Residence, Split
from forger.errors import ConfigError, DataError
from forger.image_files import ImageFormat


class ImageFolder(ImageDataModule):
    """Images from a folder, their centres cut out and resized to one size, `(channels, H, W)`.

    Sub-folders named `train` and `test` (or `val`, in any spelling that docs/data.md lists) are the
    splits; sub-folders of a split are its classes. Where there is no folder for tests, a fixed
    choice of `test_fraction` of the images, by a hash of their names, is held out. What cannot be
    told from the names is refused. The decoded images are cached as one file that later runs map
    into memory; a change to any image, to `root` or to a setting below builds another.

    Args:
        root: the folder; required.
        cache_dir: where decoded images are kept.
        image_size: side of the square images in pixels, or (height, width).
        channels: 1 (grey) or 3 (colour).
        train_folder: sub-folder of `root` to train on, "." being `root` itself; None: by its name.
        test_folder: sub-folder held out for tests; needs `train_folder`.
        test_fraction: share held out for tests where there is no folder for them; 0: none.
        value_range: values of pixels of more than 8 bits that become black and white; None: 0 and
            65535 for 16 bits, and a refusal for 32-bit and floating-point pixels.
        skip_unreadable: go on without images that cannot be read.
        batch_size, flip, seed, device, train_limit: as in `ImageDataModule`; `seed` does not
            change what is held out.

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
        image_size: PositiveInt | tuple[PositiveInt, PositiveInt] = 64,
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
        train_limit: PositiveInt | None = None,
    ) -> None:
        if root is None:
            raise ConfigError(
                "data.root: this data set needs the folder of your images, as in"
                " data.root=path/to/images"
            )
        sides = image_size if isinstance(image_size, Sequence) else (image_size, image_size)
        for side in sides:
            check_bounds(side, PositiveInt, "data.image_size")
        check_bounds(test_fraction, FractionBelowOne, "data.test_fraction")
        if value_range is not None:
            black, white = value_range
            if not black < white or not isfinite(white - black):
                raise ConfigError(
                    f"data.value_range=[{black},{white}]: must be two numbers, the values that"
                    " become black and white, the smaller first"
                )
            value_range = float(black), float(white)
        super().__init__(
            batch_size=batch_size,
            flip=flip,
            seed=seed,
            device=device,
            train_limit=train_limit,
        )
        self.root, self.cache_dir = Path(root).expanduser(), Path(cache_dir).expanduser()
        self.test_fraction, self.train_folder = test_fraction, train_folder
        self.test_folder, self.skip_unreadable = test_folder, skip_unreadable
        size = sides[0] if sides[0] == sides[1] else (sides[0], sides[1])
        self._target = ImageFormat(channels, size, value_range)
        self._unreadable: list[str] = []

    @cached_property
    def _listing(self) -> Listing:
        return list_images(self.root, self.test_fraction, self.train_folder, self.test_folder)

    @cached_property
    def _images(self) -> Tensor:
        cache = FolderCache(self.root, self._listing.names, self.cache_dir, self._target)
        images, left_out = cache.load_or_build(self.skip_unreadable)
        if left_out:
            self._listing = self._listing.without(left_out)
            count = f"{len(left_out):,} unreadable"
            self._unreadable = [f"left out: {count}, named in {cache.unreadable}"]
        return images

    @property
    def native_shape(self) -> tuple[int, int, int]:
        """Shape of the images as they are cached."""
        return self._target.shape

    @property
    def classes(self) -> tuple[str, ...] | None:
        """Names of the training split's sub-folders, sorted; None where there are none."""
        return self._listing.classes

    def prepare_data(self) -> None:
        """Lists the images and decodes them unless they are cached."""
        _ = self._images

    def read(self, split: Split) -> dict[str, Tensor]:
        """Maps the decoded images of one split into memory."""
        images, listing = self._images, self._listing
        if split == "test" and listing.num_test == 0:
            raise DataError(
                f"data.root={self.root}: has no test images; add a folder test/ beside train/, "
                "or hold some out with data.test_fraction=0.1"
            )
        image, label = images[listing.rows(split)], listing.labels_of(split)
        return {"image": image} if label is None else {"image": image, "label": label}

    def describe(self) -> list[str]:
        """Says in words which images are for what, and what is left out, for the plan."""
        listing = self._listing
        where = listing.test_folder or "held out of them: data.test_fraction"
        if listing.classes is not None and not listing.test_labelled:
            where += ", without classes"
        lines = [f"{listing.num_test:,} test images ({where})"]
        if listing.classes is not None:
            shown = ", ".join(listing.classes[:10]) + ", ..." * (len(listing.classes) > 10)
            lines.append(f"{len(listing.classes)} classes: {shown}")
        if listing.left_out:
            lines.append(f"left out: {', '.join(listing.left_out)}")
        return lines + self._unreadable
