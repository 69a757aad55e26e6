from __future__ import annotations

import logging
from collections import UserDict, namedtuple
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor

from forger.batches import IterationBatches, RealBatches, images_of
from forger.errors import DataError

IMAGES = torch.rand(4, 3, 8, 8) * 2 - 1
LABELS = torch.arange(4)


def taken(batch: Any, *members: str, dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
    """What is taken out of a batch that comes twice in an iteration."""
    reals = RealBatches(2, ("image", *members))
    return reals(IterationBatches((batch, batch)), dtype)[1]


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
    assert taken(batch) == {"image": IMAGES}


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
        RealBatches(1)(batch, torch.float32)


@pytest.mark.parametrize(
    "batch",
    [
        (IMAGES, LABELS),
        [IMAGES, LABELS],
        (IMAGES, LABELS, LABELS + 1),
        ((IMAGES, LABELS), LABELS + 1),  # those nearest to the images
        {"label": LABELS, "image": IMAGES},
        {"labels": LABELS, "pixel_values": IMAGES},
        {"image": IMAGES, "target": LABELS},
        {"img": IMAGES, "targets": LABELS, "text": LABELS + 1},
        {"image": (IMAGES, LABELS)},
        [{"image": IMAGES, "label": LABELS}, LABELS + 1],  # a name goes before a place
        [{"image": IMAGES}, LABELS],
        UserDict({"img": IMAGES, "label": LABELS}),
        Item(LABELS, IMAGES),
        Pair(LABELS, IMAGES),
        Nameless(IMAGES, LABELS),
    ],
)
def test_where_a_batch_holds_its_labels(batch: Any) -> None:
    found = taken(batch, "label")
    assert found["image"] is IMAGES
    assert found["label"] is LABELS


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int32, torch.int16, torch.bool])
def test_whole_numbers_of_any_type_become_int64(dtype: torch.dtype) -> None:
    labels = torch.tensor([0, 1, 1, 0])
    found = taken((IMAGES, labels.to(dtype)), "label", dtype=torch.float64)
    assert found["label"].dtype == torch.int64
    assert torch.equal(found["label"], labels)
    assert found["image"].dtype == torch.float64


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        (
            IMAGES,
            r"a batch has none; give \(images, labels\), or .* as 'label', 'labels', 'target',",
        ),
        ((IMAGES,), "a batch has none"),
        ({"image": IMAGES, "y": LABELS}, "a batch has none"),
        ((IMAGES, None), "a batch has none"),
        ((IMAGES, LABELS.float()), r"\(4,\) of whole numbers.* not float32 \(4,\); .*\.long\(\)"),
        ((IMAGES, torch.eye(4)), r"not float32 \(4, 4\); write labels\.argmax\(1\) .* one-hot"),
        ((IMAGES, torch.eye(4).long()), r"not int64 \(4, 4\); write labels\.argmax\(1\)"),
        ((IMAGES, LABELS[:3]), r"one for each image, not int64 \(3,\)"),
        ((IMAGES, ["cat"] * 64), r"not a list of str, str, str, str, \.\.\.; "),
        ((IMAGES, IMAGES), r"not float32 \(4, 3, 8, 8\)"),
    ],
)
def test_what_are_no_labels_is_told_where_they_are_wanted(batch: Any, message: str) -> None:
    assert taken(batch)["image"] is IMAGES
    with pytest.raises(DataError, match=f"^labels: .*{message}"):
        taken(batch, "label")


def test_other_members_go_by_their_own_names() -> None:
    text = torch.rand(4, 7, dtype=torch.float64)
    for batch in ({"image": IMAGES, "text": text}, ({"image": IMAGES, "text": text}, LABELS)):
        found = taken(batch, "text")
        assert torch.equal(found["text"], text.float())
        assert found["text"].dtype == torch.float32
    for wrong, words in (((IMAGES, text), "None"), ({"img": IMAGES, "text": text[:2]}, "float64")):
        with pytest.raises(DataError, match=rf"mapping with 'image', 'text', .* it is {words}"):
            taken(wrong, "text")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_floats_and_roundings_are_taken_as_what_is_trained_in(dtype: torch.dtype) -> None:
    assert taken((IMAGES * 1.005).to(dtype))["image"].dtype == torch.float32


def test_another_number_of_batches_is_told_to_be_grouped() -> None:
    with pytest.raises(DataError, match=r"needs 2 batches .* gave 1: wrap .*GroupedDataModule"):
        RealBatches(2)((IMAGES, LABELS), torch.float32)


@pytest.mark.parametrize("warns", [True, False])
def test_images_that_are_never_dark_are_told_once(
    warns: bool, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        reals = RealBatches(2, warns=warns)
        for _ in range(3):
            reals(IterationBatches((IMAGES.abs(), IMAGES.abs())), torch.float32)
        RealBatches(1, warns=warns)(IMAGES, torch.float32)
    assert len(caplog.records) == warns
    assert ("write images * 2 - 1" in caplog.text) == warns


def test_an_image_of_another_size_is_told_at_any_time() -> None:
    reals = RealBatches(1)
    for _ in range(5):
        reals(IMAGES, torch.float32)
    with pytest.raises(DataError, match=r"images \(3, 8, 9\), the first one held \(3, 8, 8\)"):
        reals(torch.zeros(4, 3, 8, 9), torch.float32)
    reals(torch.zeros(2, 3, 8, 8), torch.float32)  # fewer images may be
