"""Stacked MNIST: a digit in each of three channels, which makes a thousand classes to be missed."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from forger.bounds import NonNegativeInt, PositiveInt, check_bounds
from forger.data.module import Residence, Split
from forger.data.torchvision_sets import MNIST

_SEEDS: dict[Split, int] = {"train": 0, "test": 1}  # of the choice of digits, whatever the run's
_TEST_IMAGES = 25_600  # as many as the published measure generates


class StackedMNIST(MNIST):
    """Images of three random MNIST digits, one in each channel, `(3, 28, 28)`; 1,000 classes.

    Class "259" has a 2 in the first channel, a 5 and a 9 in the others, and the label 259. Training
    images are made of training digits, the 25,600 test images of test digits, the same in every
    run. From arXiv:1611.02163, section 3.3.1: a measure of how many modes a generator reaches.

    Reads what `MNIST` reads; images are put together in memory, in a fraction of a second.

    Args:
        root: as in `TorchvisionSet`, as all but `count`.
        count: number of training images.

    Raises:
        ConfigError: a value is out of range.
        DataError: files are damaged, or missing and not to be had.
    """

    native_shape = (3, 28, 28)
    classes = tuple(f"{number:03d}" for number in range(1000))
    num_fake: ClassVar[int | None] = 25_600

    def __init__(
        self,
        *,
        root: str | Path,
        download: bool = True,
        count: PositiveInt = 60_000,
        image_size: PositiveInt | None = None,
        batch_size: PositiveInt = 64,
        flip: bool = False,
        seed: NonNegativeInt = 0,
        device: Residence = "auto",
    ) -> None:
        super().__init__(
            root=root,
            download=download,
            image_size=image_size,
            batch_size=batch_size,
            flip=flip,
            seed=seed,
            device=device,
        )
        check_bounds(count, PositiveInt, "data.count")
        self.count = count

    @cached_property
    def channels_from(self) -> MNIST:
        """MNIST, whose digits the channels show."""
        return MNIST(root=self.root, download=self.download, image_size=self.image_size)

    def read(self, split: Split) -> dict[str, Tensor]:
        """Puts the images and labels of one split together."""
        digits = super().read(split)
        # RandomState: its numbers are promised to stay the same in all versions of NumPy.
        random = np.random.RandomState(_SEEDS[split])
        shape = (self.count if split == "train" else _TEST_IMAGES, 3)
        chosen = torch.from_numpy(random.randint(len(digits["label"]), size=shape))
        label = digits["label"][chosen] @ torch.tensor([100, 10, 1])
        return {"image": digits["image"][chosen].squeeze(2), "label": label}
