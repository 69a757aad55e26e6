from __future__ import annotations

import logging
from collections import UserDict, namedtuple
from dataclasses import dataclass
from typing import Any

import pytest
import torch

from forger.batches import IterationBatches, RealImages, images_of
from forger.errors import DataError

IMAGES = torch.rand(4, 3, 8, 8) * 2 - 1
LABELS = torch.arange(4)


@dataclass
class Item:
    label: Any
    image: Any


Pair = namedtuple("Pair", "label img")
Nameless = namedtuple("Nameless", "x y")


@pytest.mark.parametrize(
    "batch",
    [
        IMAGES,
        (IMAGES, LABELS),
        ((IMAGES, LABELS), LABELS),
        {"label": LABELS, "image": IMAGES},
        {"labels": LABELS, "pixel_values": IMAGES},
        {"image": (IMAGES, LABELS)},
        UserDict({"img": IMAGES}),
        [{"image": IMAGES}, LABELS],
        Item(LABELS, IMAGES),
        Pair(LABELS, IMAGES),
        Nameless(IMAGES, LABELS),
    ],
)
def test_where_a_batch_holds_its_images(batch: Any) -> None:
    assert images_of(batch) is IMAGES
    assert RealImages(2)(IterationBatches((batch, batch)))[1] is IMAGES


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        ({"x": IMAGES, "y": LABELS}, r"under the name 'image', .*; it has 'x', 'y'\. Rename them"),
        ((), "it has nothing"),
        ("image.png", r"must be a tensor \(B, C, H, W\) of .*, not str; "),
        ((IMAGES * 127).byte(), r"not uint8 .*; write images\.float\(\) / 127\.5 - 1"),
        (IMAGES[0], r"not float32 \(3, 8, 8\)"),
        (IMAGES[:0], r"not float32 \(0, 3, 8, 8\)"),
        (IMAGES.permute(0, 2, 3, 1), r"channels last; write images\.permute\(0, 3, 1, 2\)"),
        (IMAGES * 127.5 + 127.5, r"from [\d.]+ to [\d.]+; write images / 127\.5 - 1"),
        (IMAGES * 2.5, r"from -2\.\d+ to 2\.\d+; "),
        (torch.full((2, 1, 4, 4), torch.nan), "from nan to nan"),
        (torch.full((2, 1, 4, 4), torch.inf), "from inf to inf"),
    ],
)
def test_what_holds_no_images_in_range_is_told_what_to_write(batch: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        RealImages(1)(batch)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_floats_and_roundings_are_taken(dtype: torch.dtype) -> None:
    assert RealImages(1)((IMAGES * 1.005).to(dtype))[0].dtype == dtype


@pytest.mark.parametrize("warns", [True, False])
def test_images_that_are_never_dark_are_told_once(
    warns: bool, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        reals = RealImages(2, warns)
        for _ in range(3):
            reals(IterationBatches((IMAGES.abs(), IMAGES.abs())))
        RealImages(1, warns)(IMAGES)
    assert len(caplog.records) == warns
    assert ("write images * 2 - 1" in caplog.text) == warns


def test_an_image_of_another_size_is_told_at_any_time() -> None:
    reals = RealImages(1)
    for _ in range(5):
        reals(IMAGES)
    with pytest.raises(DataError, match=r"images \(3, 8, 9\), the first one held \(3, 8, 8\)"):
        reals(torch.zeros(4, 3, 8, 9))
    reals(torch.zeros(2, 3, 8, 8))  # fewer images may be
