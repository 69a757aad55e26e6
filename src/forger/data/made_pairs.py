"""Pairs made of images that are there: their edges, their grey, or what a hole leaves of them."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torchvision.transforms.v2 import functional

from forger.data.folder import ImageFolder
from forger.data.module import Split
from forger.data.torchvision_sets import CIFAR10, MNIST
from forger.errors import ConfigError

_CHUNK = 4096  # images changed at a time: bounds the copies that this makes
_INK = 127  # a brighter pixel of a digit is ink
_HOLE = 128  # the grey of a hole
_SEEDS: dict[Split, int] = {"train": 0, "test": 1}  # of the places of holes, whatever the run's


class EdgesToDigits(MNIST):
    """MNIST digits, and as sources the outlines around their ink. Arguments and errors: `MNIST`."""

    native_source_shape = (1, 28, 28)

    def read(self, split: Split) -> dict[str, Tensor]:
        """Reads the digits of one split and draws their outlines."""
        members = super().read(split)
        return members | {"source": outlines_of(members["image"])}


class GreyToColour(CIFAR10):
    """CIFAR-10's photographs, and as sources the same in grey. Arguments and errors: `CIFAR10`."""

    native_source_shape = (1, 32, 32)

    def read(self, split: Split) -> dict[str, Tensor]:
        """Reads the photographs of one split and makes them grey."""
        members = super().read(split)
        return members | {"source": grey_of(members["image"])}


class GreyToColourFolder(ImageFolder):
    """Colour images of a folder, and as sources the same in grey, which are kept in memory.

    Arguments and errors: see `ImageFolder`; `channels` must be 3.
    """

    @property
    def native_source_shape(self) -> tuple[int, int, int]:
        """Shape of the grey images.

        Raises:
            ConfigError: the images are grey themselves.
        """
        channels, height, width = self.native_shape
        if channels != 3:
            raise ConfigError(f"data.channels={channels}: must be 3, to make colour from grey")
        return (1, height, width)

    def read(self, split: Split) -> dict[str, Tensor]:
        """Maps the images of one split into memory and makes them grey."""
        members = super().read(split)
        return members | {"source": grey_of(members["image"])}


class MaskedToWhole(CIFAR10):
    """CIFAR-10's photographs, and as sources the same with a hole.

    The hole is grey, half as high and as wide as the image, and for each image at another place,
    the same in every run. Arguments and errors: see `CIFAR10`.
    """

    native_source_shape = CIFAR10.native_shape

    def read(self, split: Split) -> dict[str, Tensor]:
        """Reads the photographs of one split and puts holes into them."""
        members = super().read(split)
        return members | {"source": with_holes(members["image"], _SEEDS[split])}


class MaskedToWholeFolder(ImageFolder):
    """Images of a folder, and as sources the same with a hole, as in `MaskedToWhole`.

    Sources are kept in memory. Arguments and errors: see `ImageFolder`.
    """

    @property
    def native_source_shape(self) -> tuple[int, int, int]:
        """Shape of the images, with holes and without."""
        return self.native_shape

    def read(self, split: Split) -> dict[str, Tensor]:
        """Maps the images of one split into memory and puts holes into copies."""
        members = super().read(split)
        return members | {"source": with_holes(members["image"], _SEEDS[split])}


def outlines_of(images: Tensor) -> Tensor:
    """Returns in white the pixels around the ink of images, uint8 `(N, C, H, W)`.

    That is the outer morphological gradient: the ink, dilated by a cross of 3 by 3, without itself.
    """
    ink = images > _INK
    grown = ink.clone()
    grown[..., 1:, :] |= ink[..., :-1, :]
    grown[..., :-1, :] |= ink[..., 1:, :]
    grown[..., 1:] |= ink[..., :-1]
    grown[..., :-1] |= ink[..., 1:]
    return (grown & ~ink).to(torch.uint8) * 255


def grey_of(images: Tensor) -> Tensor:
    """Returns the luma (ITU-R 601) of colour images, uint8 `(N, 1, H, W)`."""
    grey = functional.rgb_to_grayscale  # type: ignore[attr-defined]
    return torch.cat([grey(chunk) for chunk in torch.split(images, _CHUNK)])


def with_holes(images: Tensor, seed: int) -> Tensor:
    """Returns a copy of images, uint8 `(N, C, H, W)`, with a grey hole in each."""
    height, width = images.shape[-2:]
    hole_height, hole_width = (height + 1) // 2, (width + 1) // 2
    # RandomState: its numbers are promised to stay the same in all versions of NumPy.
    free = (height - hole_height + 1, width - hole_width + 1)
    places = torch.from_numpy(np.random.RandomState(seed).randint(free, size=(len(images), 2)))
    down, right = torch.arange(height).view(1, -1, 1), torch.arange(width)
    chunks = []
    for chunk, place in zip(torch.split(images, _CHUNK), torch.split(places, _CHUNK), strict=True):
        top, left = place.view(-1, 2, 1, 1).unbind(1)
        inside = (down >= top) & (down < top + hole_height)
        inside = inside & (right >= left) & (right < left + hole_width)
        chunks.append(chunk.masked_fill(inside.unsqueeze(1), _HOLE))
    return torch.cat(chunks)
