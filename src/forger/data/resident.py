"""A loader of images in memory, in an order that is a function of (seed, epoch)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from forger.bounds import NonNegativeInt, PositiveInt, check_bounds
from forger.errors import ConfigError
from forger.seeds import Purpose, stream


class StoredBatch(NamedTuple):
    """What the loader yields: one process's share of a global batch, as stored.

    Attributes:
        images: uint8 `(B, C, H, W)`.
        labels: int64 `(B,)`, or None.
        flip: bool `(B,)`, which images to mirror once on the device; None: no flipping at all.
    """

    images: Tensor
    labels: Tensor | None
    flip: Tensor | None

    def to(self, device: torch.device) -> StoredBatch:
        """Moves it as Lightning asks, without waiting where it lies in pinned memory."""
        return self._each(lambda tensor: tensor.to(device, non_blocking=True))

    def pinned(self) -> StoredBatch:
        """Copies it to pinned memory."""
        return self._each(Tensor.pin_memory)

    def scaled(self) -> tuple[Tensor, ...]:
        """Returns the images, flipped and in [-1, 1], and the labels if there are any."""
        images = self.images if self.flip is None else flip_some(self.images, self.flip)
        floats = to_unit_range(images)
        return (floats,) if self.labels is None else (floats, self.labels)

    def _each(self, change: Callable[[Tensor], Tensor]) -> StoredBatch:
        labels, flip = (x if x is None else change(x) for x in (self.labels, self.flip))
        return StoredBatch(change(self.images), labels, flip)


def flip_some(images: Tensor, flip: Tensor) -> Tensor:
    """Mirrors those images `(B, C, H, W)` left to right for which `flip`, bool `(B,)`, is set."""
    # Gathering rows from both versions costs a quarter of torch.where, and unlike a boolean mask it
    # doesn't make a GPU wait.
    rows = torch.arange(len(images), device=images.device) + len(images) * flip
    return torch.cat((images, images.flip(-1))).index_select(0, rows)


def to_unit_range(images: Tensor) -> Tensor:
    """Scales uint8 to float32, `x / 127.5 - 1`: 0 gives exactly -1, and 255 exactly 1."""
    return images.to(torch.float32).div_(127.5).sub_(1)


class ResidentLoader:
    """Batches gathered by index from resident tensors, in an order fixed by (seed, epoch).

    Every epoch is one pass over a random permutation; its incomplete last batch is dropped. Process
    r of R gets `batch[r::R]` of each global batch, so that the processes together compute what one
    would. No worker processes, no global random state.

    Args:
        images: uint8 `(N, C, H, W)`, possibly memory-mapped; batches are gathered on their device.
        labels: int64 `(N,)`, or None.
        batch_size: the global batch, divided among `world_size` processes.
        seed: of the order and the flips.
        epoch: returns the number of the epoch; asked when its first batch is taken.
        flip: mirror each image with probability 1/2.
        pin: put batches into pinned memory, from where a GPU takes them while it computes.

    Raises:
        ConfigError: `batch_size` exceeds N or is not divisible by `world_size`.
    """

    def __init__(
        self,
        images: Tensor,
        labels: Tensor | None,
        *,
        batch_size: PositiveInt,
        seed: NonNegativeInt,
        epoch: Callable[[], int],
        flip: bool = False,
        rank: NonNegativeInt = 0,
        world_size: PositiveInt = 1,
        pin: bool = False,
    ) -> None:
        check_bounds(batch_size, PositiveInt, "data.batch_size")
        if batch_size > len(images):
            raise ConfigError(
                f"data.batch_size={batch_size}: must not exceed the {len(images)} training images"
            )
        if batch_size % world_size:
            raise ConfigError(
                f"data.batch_size={batch_size}: is the global batch and must be divisible by the "
                f"number of processes, {world_size}"
            )
        self.images = images
        self.labels = None if labels is None else labels.to(images.device)
        self.batch_size, self.seed, self.epoch, self.flip = batch_size, seed, epoch, flip
        self.rank, self.world_size, self.pin = rank, world_size, pin

    def __len__(self) -> int:
        return len(self.images) // self.batch_size

    def __iter__(self) -> Iterator[StoredBatch]:
        return self.from_batch(0)

    def from_batch(self, number: NonNegativeInt) -> Iterator[StoredBatch]:
        """Yields the epoch's batches from that number on, counted from 0."""
        order, flips = self._plan(self.epoch())
        for start in range(number * self.batch_size, len(self) * self.batch_size, self.batch_size):
            places = slice(start + self.rank, start + self.batch_size, self.world_size)
            index = order[places]
            batch = StoredBatch(
                self.images.index_select(0, index),
                None if self.labels is None else self.labels.index_select(0, index),
                None if flips is None else flips[places],
            )
            yield batch.pinned() if self.pin else batch

    def _plan(self, epoch: int) -> tuple[Tensor, Tensor | None]:
        """Returns the order `(N,)` of an epoch's images and, in that order, which to flip."""
        order = torch.randperm(len(self.images), generator=stream(Purpose.ORDER, self.seed, epoch))
        # All at once, so that any batch of the epoch can be had without drawing those before it.
        flips = None
        if self.flip:
            generator = stream(Purpose.FLIPS, self.seed, epoch)
            flips = torch.rand(len(order), generator=generator) < 0.5
        device = self.images.device  # drawn on the CPU, so that the order is the same everywhere
        return order.to(device), None if flips is None else flips.to(device)
