from __future__ import annotations

import torch

from forger.data import pixels
from forger.data.pixels import flip_some, resize, to_unit_range


def test_scale_hits_both_ends_exactly() -> None:
    images = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16)
    scaled = to_unit_range(images)
    assert scaled.dtype == torch.float32
    assert (scaled.min(), scaled.max()) == (-1, 1)
    assert torch.equal(((scaled + 1) * 127.5).round().to(torch.uint8), images)
    assert images.dtype == torch.uint8


def test_flips_only_the_marked_images_left_to_right() -> None:
    images = torch.randint(0, 256, (5, 3, 4, 6), dtype=torch.uint8)
    flip = torch.tensor([True, False, True, False, False])
    flipped = flip_some(images, flip)
    assert torch.equal(flipped[flip], images[flip].flip(-1))
    assert torch.equal(flipped[~flip], images[~flip])


def test_resize_keeps_the_mean_and_does_not_depend_on_chunks(monkeypatch) -> None:  # type: ignore[no-untyped-def]
    images = torch.randint(0, 256, (7, 3, 28, 28), dtype=torch.uint8)
    whole = resize(images, 14)
    assert whole.shape == (7, 3, 14, 14)
    assert whole.dtype == torch.uint8
    assert abs(whole.float().mean() - images.float().mean()) < 2
    monkeypatch.setattr(pixels, "_CHUNK", 2)
    assert torch.equal(resize(images, 14), whole)


def test_resize_to_the_same_size_is_no_copy() -> None:
    images = torch.zeros(2, 1, 8, 8, dtype=torch.uint8)
    assert resize(images, 8) is images
