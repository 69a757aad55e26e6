from __future__ import annotations

import pytest
import torch
from torch import Tensor

from forger.data.resident import ResidentLoader, StoredBatch, to_unit_range
from forger.errors import ConfigError

N = 50


def make(**changes: object) -> ResidentLoader:
    images = torch.arange(N, dtype=torch.uint8).view(N, 1, 1, 1).expand(N, 3, 2, 2).contiguous()
    settings: dict[str, object] = {"batch_size": 8, "seed": 0, "epoch": lambda: 0, **changes}
    return ResidentLoader(images, torch.arange(N) * 10, **settings)  # type: ignore[arg-type]


def seen(loader: ResidentLoader) -> Tensor:
    return torch.cat([batch.images[:, 0, 0, 0] for batch in loader])


def test_one_pass_without_repeats_and_without_the_incomplete_batch() -> None:
    loader = make()
    assert len(loader) == len(list(loader)) == N // 8
    assert seen(loader).unique().numel() == (N // 8) * 8
    for batch in loader:
        assert batch.images.shape == (8, 3, 2, 2)
        assert batch.images.dtype == torch.uint8
        assert batch.labels is not None
        assert torch.equal(batch.labels, batch.images[:, 0, 0, 0].long() * 10)


def test_order_depends_on_seed_and_epoch_alone() -> None:
    first = seen(make())
    torch.manual_seed(123)
    before = torch.get_rng_state()
    assert torch.equal(first, seen(make(flip=True)))
    assert torch.equal(before, torch.get_rng_state())
    assert not torch.equal(first, seen(make(seed=1)))
    assert not torch.equal(first, seen(make(epoch=lambda: 1)))
    # (seed, epoch) is no sum: neighbours don't share orders.
    assert not torch.equal(seen(make(seed=1)), seen(make(epoch=lambda: 1)))


def test_epoch_is_asked_when_its_first_batch_is_taken() -> None:
    epoch = 0
    loader = make(epoch=lambda: epoch)
    iterator = iter(loader)
    epoch = 5
    assert torch.equal(next(iterator).images, next(iter(make(epoch=lambda: 5))).images)


def test_about_half_are_flipped() -> None:
    flips = torch.cat([batch.flip for batch in make(flip=True) if batch.flip is not None])
    assert flips.dtype == torch.bool
    assert 0.2 < flips.float().mean() < 0.8
    others = torch.cat([b.flip for b in make(flip=True, seed=1) if b.flip is not None])
    assert not torch.equal(flips, others)


@pytest.mark.parametrize("world", [2, 4])
def test_slices_of_the_processes_interleave_to_the_global_batch(world: int) -> None:
    whole = list(make(flip=True))
    shares = [list(make(flip=True, rank=rank, world_size=world)) for rank in range(world)]
    for step, batch in enumerate(whole):
        for rank in range(world):
            part = shares[rank][step]
            for ours, theirs in zip(batch, part, strict=True):
                assert ours is not None
                assert theirs is not None
                assert torch.equal(ours[rank::world], theirs)


def test_a_batch_size_that_does_not_fit_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"data\.batch_size=51: .* 50 training images"):
        make(batch_size=51)
    assert len(make(batch_size=50)) == 1
    with pytest.raises(ConfigError, match=r"data\.batch_size=8: .*number of processes, 3"):
        make(world_size=3)


def test_batches_are_gathered_where_the_images_are() -> None:
    here = make(flip=True)
    there = ResidentLoader(
        here.images.to("meta"), here.labels, batch_size=8, seed=0, epoch=lambda: 0, flip=True
    )
    for batch in there:
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
