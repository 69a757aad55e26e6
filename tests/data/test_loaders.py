"""Batches of images in memory, and groups of any loader's batches."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count, islice
from typing import Any

import pytest
import torch
from lightning.fabric.utilities.apply_func import move_data_to_device
from torch import Tensor
from torch.utils.data import DataLoader, DistributedSampler, IterableDataset

from forger.data import GroupedLoader, IterationBatches
from forger.data.loaders import ResidentLoader, StoredBatch, to_unit_range
from forger.errors import ConfigError

N = 50


def make(**changes: Any) -> ResidentLoader:
    """Image i is filled with i, and its label is 10 i."""
    images = torch.arange(N, dtype=torch.uint8).view(N, 1, 1, 1).expand(N, 3, 2, 2).contiguous()
    settings: dict[str, Any] = {"images": images, "batch_size": 8, "seed": 0, "epoch": lambda: 0}
    return ResidentLoader(labels=torch.arange(N) * 10, **settings | changes)


def seen(loader: ResidentLoader) -> Tensor:
    return torch.cat([batch.images[:, 0, 0, 0] for batch in loader])


def test_an_epoch_is_one_pass_without_repeats_and_without_the_incomplete_batch() -> None:
    loader = make()
    assert len(loader) == len(list(loader)) == N // 8
    assert seen(loader).unique().numel() == (N // 8) * 8
    for batch in loader:
        assert (batch.images.shape, batch.images.dtype) == ((8, 3, 2, 2), torch.uint8)
        assert batch.labels is not None
        assert torch.equal(batch.labels, batch.images[:, 0, 0, 0].long() * 10)


def test_order_depends_on_seed_and_epoch_alone() -> None:
    first = seen(make())
    torch.manual_seed(123)
    before = torch.get_rng_state()
    assert torch.equal(first, seen(make(flip=True)))
    assert torch.equal(before, torch.get_rng_state())
    other_seed, other_epoch = seen(make(seed=1)), seen(make(epoch=lambda: 1))
    assert not torch.equal(first, other_seed)
    assert not torch.equal(first, other_epoch)
    assert not torch.equal(other_seed, other_epoch)  # (seed, epoch) is no sum


def test_epoch_is_asked_when_its_first_batch_is_taken() -> None:
    epoch = 0
    iterator = iter(make(epoch=lambda: epoch))
    epoch = 5
    assert torch.equal(next(iterator).images, next(iter(make(epoch=lambda: 5))).images)


def test_about_half_are_flipped() -> None:
    flips, others = (
        torch.cat([batch.flip for batch in make(flip=True, seed=seed) if batch.flip is not None])
        for seed in (0, 1)
    )
    assert flips.dtype == torch.bool
    assert 0.2 < flips.float().mean() < 0.8
    assert not torch.equal(flips, others)


@pytest.mark.parametrize("world", [2, 4])
def test_slices_of_the_processes_interleave_to_the_global_batch(world: int) -> None:
    shares = [list(make(flip=True, rank=rank, world_size=world)) for rank in range(world)]
    for step, batch in enumerate(make(flip=True)):
        for rank in range(world):
            for ours, theirs in zip(batch, shares[rank][step], strict=True):
                assert ours is not None
                assert theirs is not None
                assert torch.equal(ours[rank::world], theirs)
    with pytest.raises(ConfigError, match=r"data\.batch_size=8: .*number of processes, 3"):
        make(world_size=3)


def test_batches_are_gathered_where_the_images_are() -> None:
    for batch in make(images=make().images.to("meta"), flip=True):
        assert all(tensor.device.type == "meta" for tensor in batch)


def test_scale_hits_both_ends_exactly() -> None:
    images = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16)
    scaled = to_unit_range(images)
    assert scaled.dtype == torch.float32
    assert (scaled.min(), scaled.max()) == (-1, 1)
    assert torch.equal(((scaled + 1) * 127.5).round().to(torch.uint8), images)
    assert images.dtype == torch.uint8


def test_only_the_marked_images_are_flipped_left_to_right() -> None:
    images = torch.randint(0, 256, (5, 3, 4, 6), dtype=torch.uint8)
    flip = torch.tensor([True, False, True, False, False])
    (flipped,), (plain,) = (StoredBatch(images, None, marks).scaled() for marks in (flip, None))
    assert torch.equal(flipped[flip], plain[flip].flip(-1))
    assert torch.equal(flipped[~flip], plain[~flip])


def test_consecutive_batches_are_grouped_and_the_rest_is_dropped() -> None:
    grouped = GroupedLoader([1, 2, 3, 4, 5], 2)
    for _ in range(2):
        assert list(grouped) == [IterationBatches((1, 2)), IterationBatches((3, 4))]
    assert len(grouped) == 2
    assert all(type(group) is IterationBatches for group in grouped)


def test_a_loader_without_a_length_is_grouped_too() -> None:
    class Stream(IterableDataset[int]):
        def __iter__(self) -> Iterator[int]:
            return iter(range(8))

    for loader in ((i for i in count()), DataLoader(Stream())):
        grouped = GroupedLoader(loader, 3)
        assert list(islice(grouped, 2)) == [(0, 1, 2), (3, 4, 5)]
        with pytest.raises(TypeError):
            len(grouped)


def test_the_sampler_is_that_of_the_loader_and_only_where_there_is_one() -> None:
    sampler = DistributedSampler(range(8), num_replicas=2, rank=0)
    grouped = GroupedLoader(DataLoader(range(8), sampler=sampler), 2)  # type: ignore[arg-type]
    assert grouped.sampler is grouped.batch_sampler.sampler is sampler
    assert not hasattr(GroupedLoader([1], 1), "sampler")
    assert not hasattr(GroupedLoader([1], 1), "batch_sampler")


@pytest.mark.parametrize("labels", [torch.tensor([1, 2]), None])
def test_lightning_moves_parts_and_keeps_their_types(labels: torch.Tensor | None) -> None:
    parts = IterationBatches([StoredBatch(torch.zeros(2, 1, 2, 2), labels, None), (torch.ones(2),)])
    moved = move_data_to_device(parts, torch.device("meta"))
    assert (type(moved), type(moved[0])) == (IterationBatches, StoredBatch)
    assert moved[0].images.device.type == moved[1][0].device.type == "meta"
    assert moved[0].flip is None
    assert (moved[0].labels is None) == (labels is None)
