"""The loader of images in memory, and the batches that it yields."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from forger.bounds import NonNegativeInt, PositiveInt
from forger.data.crops import crop_enlarged, draw_places
from forger.errors import ConfigError
from forger.seeds import Purpose, stream

_SOURCES = 1  # behind the seed and the number of a pass: orders of sources, not of images
_CROPS = 2  # behind these: places of crops, not flips
_CAPTIONS = 3  # behind the number of a pass: which caption of an image, not the order


class Pass(NamedTuple):
    """One pass over all rows of a member, in order: which they are, and what becomes of each."""

    order: Tensor
    flips: Tensor | None
    places: Tensor | None
    captions: Tensor | None

    def part(self, rows: slice) -> Pass:
        """Returns some of it."""
        flips = None if self.flips is None else self.flips[rows]
        places = None if self.places is None else self.places[rows]
        captions = None if self.captions is None else self.captions[rows]
        return Pass(self.order[rows], flips, places, captions)


class StoredBatch(NamedTuple):
    """What the loader yields: one process's share of a global batch, as stored."""

    members: dict[str, Tensor]  # B rows each; `image` and other images are uint8 (B, C, H, W)
    flip: Tensor | None  # bool (B,): which images to mirror once on the device
    source_flip: Tensor | None = None  # of unpaired sources; None: they are flipped as the images
    crop: Tensor | None = None  # int64 (B, 2): where crops of enlarged images begin, see `crops`
    source_crop: Tensor | None = None  # of unpaired sources
    crop_margin: int = 0

    def to(self, device: torch.device) -> StoredBatch:
        """Moves it as Lightning asks, without waiting where it lies in pinned memory."""
        return self.each(lambda tensor: tensor.to(device, non_blocking=True))

    def scaled(self) -> dict[str, Tensor]:
        """Returns all members, images flipped, cropped and in [-1, 1], others as they are."""
        return {
            name: self._scaled(name, one) if holds_images(one) else one
            for name, one in self.members.items()
        }

    def each(self, change: Callable[[Tensor], Tensor]) -> StoredBatch:
        """Changes each of the tensors."""
        members = {name: change(one) for name, one in self.members.items()}
        marks = {k: getattr(self, k) for k in ("flip", "source_flip", "crop", "source_crop")}
        changed: dict[str, Any] = {
            name: None if one is None else change(one) for name, one in marks.items()
        }
        return self._replace(members=members, **changed)

    def _scaled(self, name: str, images: Tensor) -> Tensor:
        flip, crop = self.flip, self.crop
        if is_of_sources(name):
            flip = flip if self.source_flip is None else self.source_flip
            crop = crop if self.source_crop is None else self.source_crop
        scaled = to_unit_range(images if flip is None else flip_some(images, flip))
        return scaled if crop is None else crop_enlarged(scaled, crop, self.crop_margin)


def is_of_sources(name: str) -> bool:
    """Tells whether a member belongs to what images are made from: `source`, `source_label`."""
    return name.startswith("source")


def holds_images(member: Tensor, size: torch.Size | None = None) -> bool:
    """Tells whether a tensor is images of a data set, uint8 `(N, C, H, W)`, of that `(H, W)`."""
    return member.dtype == torch.uint8 and member.ndim == 4 and size in (None, member.shape[2:])


def flip_some(images: Tensor, flip: Tensor) -> Tensor:
    """Mirrors those images `(B, C, H, W)` left to right for which `flip`, bool `(B,)`, is set."""
    # Gathering rows from both versions costs a quarter of torch.where, and unlike a boolean mask it
    # doesn't make a GPU wait.
    rows = torch.arange(len(images), device=images.device) + len(images) * flip
    return torch.cat((images, images.flip(-1))).index_select(0, rows)


def drawn_captions(captions: Tensor, drawn: Tensor) -> Tensor:
    """Returns one caption of each image.

    Args:
        captions: their numbers, int64 `(B, K)`, -1 behind those of an image with fewer.
        drawn: which, from 0 to 1, `(B,)`.
    """
    counts = (captions >= 0).sum(1)
    return captions.gather(1, (drawn * counts).long()[:, None])[:, 0]


def to_unit_range(images: Tensor) -> Tensor:
    """Scales uint8 to float32, `x / 127.5 - 1`: 0 gives exactly -1, and 255 exactly 1."""
    return images.to(torch.float32).div_(127.5).sub_(1)


class ResidentLoader:
    """Batches gathered by index from resident tensors, in an order fixed by (seed, epoch).

    Every epoch is one pass over a random permutation; its incomplete last batch is dropped. Process
    r of R gets `batch[r::R]` of each global batch, so that the processes together compute what one
    would. No worker processes, no global random state.

    Unpaired sources, of M rows, are drawn beside the images, pass after pass over all of them, each
    in an order fixed by (seed, pass) and over the ends of epochs: their place in a run is a number.

    Args:
        members: named tensors of N rows on one device, where batches are gathered; `image`, uint8
            `(N, C, H, W)`, may be memory-mapped.
        batch_size: the global batch, divided among `world_size` processes without a rest.
        seed: of the order and the flips.
        epoch: returns the number of the epoch; asked when its first batch is taken.
        flip: mirror each image with probability 1/2.
        crop_margin: pixels by which images are enlarged before a random part of their own size is
            cut out; 0: neither.
        paired: whether sources are row for row those of the images.
        pin: put batches into pinned memory, from where a GPU takes them while it computes.
    """

    def __init__(
        self,
        members: Mapping[str, Tensor],
        *,
        batch_size: PositiveInt,
        seed: NonNegativeInt,
        epoch: Callable[[], int],
        flip: bool = False,
        crop_margin: NonNegativeInt = 0,
        paired: bool = True,
        rank: NonNegativeInt = 0,
        world_size: PositiveInt = 1,
        pin: bool = False,
    ) -> None:
        if batch_size % world_size:
            raise ConfigError(
                f"data.batch_size={batch_size}: is the global batch and must be divisible by the "
                f"number of processes, {world_size}"
            )
        self.members = dict(members)
        self.batch_size, self.seed, self.epoch, self.flip = batch_size, seed, epoch, flip
        self.paired, self.rank, self.world_size, self.pin = paired, rank, world_size, pin
        self.crop_margin = crop_margin

    def __len__(self) -> int:
        return len(self.members["image"]) // self.batch_size

    def __iter__(self) -> Iterator[StoredBatch]:
        return self.from_batch(0)

    def from_batch(self, number: NonNegativeInt) -> Iterator[StoredBatch]:
        """Yields the epoch's batches from that number on, counted from 0."""
        epoch = self.epoch()
        images = self._pass_over("image", epoch)
        sources = images if self.paired else self._sources_of(epoch)
        for start in range(number * self.batch_size, len(self) * self.batch_size, self.batch_size):
            share = slice(start + self.rank, start + self.batch_size, self.world_size)
            own, of_sources = images.part(share), sources.part(share)
            members = {
                name: one.index_select(0, (of_sources if is_of_sources(name) else own).order)
                for name, one in self.members.items()
            }
            if own.captions is not None:
                members["caption"] = drawn_captions(members["caption"], own.captions)
            apart = (None, None) if self.paired else of_sources[1:3]
            marks = own.flips, apart[0], own.places, apart[1]
            batch = StoredBatch(members, *marks, crop_margin=self.crop_margin)
            yield batch.each(Tensor.pin_memory) if self.pin else batch

    def _sources_of(self, epoch: int) -> Pass:
        """Returns the unpaired sources that the batches of an epoch hold, in order."""
        rows, count = len(self) * self.batch_size, len(self.members["source"])
        first, begin = divmod(epoch * rows, count)
        numbers = range(first, (epoch * rows + rows) // count + 1)
        passes = [self._pass_over("source", number, _SOURCES) for number in numbers]
        columns = zip(*passes, strict=True)
        joined = (None if parts[0] is None else torch.cat(parts) for parts in columns)
        return Pass(*joined).part(slice(begin, begin + rows))  # type: ignore[arg-type]

    def _pass_over(self, name: str, *key: int) -> Pass:
        """Returns a pass over the rows of a member, of that key."""
        # Drawn on the CPU, so that it is the same everywhere, and all at once, so that any batch
        # can be had without those before it.
        device, count = self.members[name].device, len(self.members[name])
        order = torch.randperm(count, generator=stream(Purpose.ORDER, self.seed, *key))
        flips = places = captions = None
        if self.flip:
            flips = torch.rand(count, generator=stream(Purpose.FLIPS, self.seed, *key)) < 0.5
            flips = flips.to(device)
        if self.crop_margin:
            drawn = stream(Purpose.FLIPS, self.seed, *key, _CROPS)
            places = draw_places(count, self.crop_margin, drawn).to(device)
        if name == "image" and "caption" in self.members:
            drawn = stream(Purpose.ORDER, self.seed, *key, _CAPTIONS)
            captions = torch.rand(count, generator=drawn).to(device)
        return Pass(order.to(device), flips, places, captions)
