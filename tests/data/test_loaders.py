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
    """Image i is filled with i, its label is 10 i, and its text is the row (i, i + 0.5)."""
    images = torch.arange(N, dtype=torch.uint8).view(N, 1, 1, 1).expand(N, 3, 2, 2).contiguous()
    text = torch.arange(N).unsqueeze(1) + torch.tensor([0, 0.5])
    members = {"image": images, "label": torch.arange(N) * 10, "text": text}
    settings: dict[str, Any] = {"batch_size": 8, "seed": 0, "epoch": lambda: 0}
    return ResidentLoader(**{"members": members} | settings | changes)


def numbers(batch: StoredBatch) -> Tensor:
    """Which images a batch holds; checks that all else in it is theirs."""
    found = batch.members["image"][:, 0, 0, 0]
    assert torch.equal(batch.members["label"], found.long() * 10)
    assert torch.equal(batch.members["text"], found.unsqueeze(1) + torch.tensor([0, 0.5]))
    return found


def seen(loader: ResidentLoader) -> Tensor:
    return torch.cat([numbers(batch) for batch in loader])


def test_an_epoch_is_one_pass_without_repeats_and_without_the_incomplete_batch() -> None:
    loader = make()
    assert len(loader) == len(list(loader)) == N // 8
    assert seen(loader).unique().numel() == (N // 8) * 8
    for batch in loader:
        images = batch.members["image"]
        assert (images.shape, images.dtype) == ((8, 3, 2, 2), torch.uint8)


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
    assert torch.equal(numbers(next(iterator)), numbers(next(iter(make(epoch=lambda: 5)))))


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
            share = shares[rank][step]
            assert torch.equal(numbers(batch)[rank::world], numbers(share))
            assert batch.flip is not None
            assert share.flip is not None
            assert torch.equal(batch.flip[rank::world], share.flip)
    with pytest.raises(ConfigError, match=r"data\.batch_size=8: .*number of processes, 3"):
        make(world_size=3)


def test_batches_are_gathered_where_the_images_are() -> None:
    members = {name: one.to("meta") for name, one in make().members.items()}
    for batch in make(members=members, flip=True):
        assert batch.flip is not None
        assert all(one.device.type == "meta" for one in (*batch.members.values(), batch.flip))


def test_scale_hits_both_ends_exactly() -> None:
    images = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16)
    scaled = to_unit_range(images)
    assert scaled.dtype == torch.float32
    assert (scaled.min(), scaled.max()) == (-1, 1)
    assert torch.equal(((scaled + 1) * 127.5).round().to(torch.uint8), images)
    assert images.dtype == torch.uint8


def test_only_the_marked_images_are_flipped_left_to_right_and_all_of_their_row() -> None:
    images = torch.randint(0, 256, (5, 3, 4, 6), dtype=torch.uint8)
    members = {
        "image": images,
        "source": images[:, :1, 1:],
        "label": torch.arange(5),
        "mask": images.long(),  # no bytes, no image
        "tokens": images[:, 0, 0],  # not of 4 dimensions
    }
    flip = torch.tensor([True, False, True, False, False])
    flipped, plain = (StoredBatch(members, marks).scaled() for marks in (flip, None))
    assert list(flipped) == list(members)
    for name in ("image", "source"):
        assert torch.equal(plain[name], to_unit_range(members[name]))
        assert torch.equal(flipped[name][flip], plain[name][flip].flip(-1))
        assert torch.equal(flipped[name][~flip], plain[name][~flip])
    for name in ("label", "mask", "tokens"):
        assert flipped[name] is plain[name] is members[name]


@pytest.mark.parametrize("rank", [0, 1])
def test_a_resume_in_mid_epoch_goes_on_with_the_images_and_labels_that_come_next(rank: int) -> None:
    whole, resumed = (GroupedLoader(make(flip=True, rank=rank, world_size=2), 2) for _ in range(2))
    resumed.resume(1, None, None)
    for expected, found in zip([*whole][1:], [*resumed], strict=True):
        for ours, theirs in zip(expected, found, strict=True):
            assert torch.equal(numbers(ours), numbers(theirs))
            assert torch.equal(ours.flip, theirs.flip)


def make_unpaired(**changes: Any) -> ResidentLoader:
    """Sources of 21 rows, whose labels are 10 times their pixels, beside the 50 images."""
    values = torch.arange(21)
    images = values.to(torch.uint8).view(-1, 1, 1, 1).repeat(1, 1, 1, 2)
    images[..., 1] = 255
    members = make().members | {"source": images, "source_label": values * 10}
    return make(**{"members": members, "paired": False} | changes)


def sources(batch: StoredBatch) -> list[int]:
    found = batch.members["source"][:, 0, 0, 0]
    assert torch.equal(batch.members["source_label"], found.long() * 10)
    return found.tolist()


def test_unpaired_sources_go_in_passes_of_their_own_over_the_ends_of_epochs() -> None:
    drawn: list[int] = []
    for epoch in range(4):  # of 48 rows
        loader = make_unpaired(epoch=lambda epoch=epoch: epoch)  # type: ignore[misc]
        drawn += [value for batch in loader for value in sources(batch)]
        assert torch.equal(seen(loader), seen(make(epoch=lambda epoch=epoch: epoch)))  # type: ignore[misc]
    passes = [drawn[begin : begin + 21] for begin in range(0, 4 * 48 - 20, 21)]
    assert len(passes) == 9
    assert all(sorted(one) == list(range(21)) for one in passes)
    assert len({tuple(one) for one in passes}) == 9
    assert sources(next(iter(make_unpaired(seed=1)))) != drawn[:8]


def test_unpaired_sources_are_flipped_by_themselves() -> None:
    batches = [*make_unpaired(flip=True)]
    flips = torch.cat([torch.stack((one.flip, one.source_flip)) for one in batches], 1)  # type: ignore[arg-type]
    assert 0.25 < (flips[0] == flips[1]).float().mean() < 0.75
    for batch in batches:
        right = batch.scaled()["source"][:, 0, 0, 1]
        assert torch.equal(right != 1, batch.source_flip)
    assert all(batch.source_flip is None for batch in make(flip=True))  # as their images


def test_unpaired_sources_resume_and_divide_as_images_do() -> None:
    settings: dict[str, Any] = {"flip": True, "epoch": lambda: 1}
    whole = [*make_unpaired(**settings)]
    for place, batch in enumerate(make_unpaired(**settings).from_batch(3), 3):
        assert sources(batch) == sources(whole[place])
        assert torch.equal(batch.source_flip, whole[place].source_flip)
    for rank in range(2):
        share = [*make_unpaired(**settings, rank=rank, world_size=2)]
        for own, batch in zip(share, whole, strict=True):
            assert sources(own) == sources(batch)[rank::2]
            assert torch.equal(own.source_flip, batch.source_flip[rank::2])  # type: ignore[index]


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


@pytest.mark.parametrize("flip", [torch.tensor([True, False]), None])
def test_lightning_moves_parts_and_keeps_their_types(flip: torch.Tensor | None) -> None:
    members = {"image": torch.zeros(2, 1, 2, 2), "label": torch.tensor([1, 2])}
    parts = IterationBatches([StoredBatch(members, flip), (torch.ones(2),)])
    moved = move_data_to_device(parts, torch.device("meta"))
    assert (type(moved), type(moved[0])) == (IterationBatches, StoredBatch)
    assert {name: one.device.type for name, one in moved[0].members.items()} == {
        "image": "meta",
        "label": "meta",
    }
    assert moved[1][0].device.type == "meta"
    assert moved[0].flip is None if flip is None else moved[0].flip.device.type == "meta"
