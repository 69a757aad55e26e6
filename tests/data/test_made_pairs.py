"""Sources made of images: outlines, grey, holes; and digits of other kinds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import originals
import pytest
import torch
from PIL import Image

from forger.data import (
    DigitsToMNIST,
    EdgesToDigits,
    GreyToColour,
    GreyToColourFolder,
    MaskedToWhole,
    MaskedToWholeFolder,
    RenderedDigits,
    other_digits,
)
from forger.data.made_pairs import grey_of, outlines_of, with_holes
from forger.errors import ConfigError


@pytest.fixture
def mnist(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    files = originals.idx_files()
    originals.expect_mnist(monkeypatch, files)
    originals.write(tmp_path / "MNIST" / "raw", files)
    return tmp_path


@pytest.fixture
def cifar(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    originals.write(tmp_path / "cifar-10-batches-py", originals.cifar_files(monkeypatch))
    return tmp_path


def test_outlines_lie_around_the_ink() -> None:
    digit = torch.tensor(
        [[0, 0, 0, 0], [0, 255, 0, 0], [0, 200, 9, 0], [0, 0, 0, 0]], dtype=torch.uint8
    )
    outline = [[0, 1, 0, 0], [1, 0, 1, 0], [1, 0, 1, 0], [0, 1, 0, 0]]
    assert (outlines_of(digit[None, None])[0, 0] // 255).tolist() == outline


def test_grey_is_the_luma_that_pillow_gives() -> None:
    images = torch.randint(0, 256, (5, 3, 4, 6), dtype=torch.uint8)
    for image, grey in zip(images, grey_of(images), strict=True):
        picture = Image.fromarray(image.permute(1, 2, 0).numpy()).convert("L")
        expected = torch.from_numpy(np.array(picture, dtype=np.int32))
        assert (grey.int() - expected).abs().max() <= 1


@pytest.mark.parametrize(("size", "hole"), [((8, 12), (4, 6)), ((5, 7), (3, 4))])
def test_holes_are_rectangles_at_places_of_their_own(
    size: tuple[int, int], hole: tuple[int, int]
) -> None:
    images = torch.full((100, 3, *size), 7, dtype=torch.uint8)
    changed = with_holes(images, seed=0) == 128
    assert torch.equal(changed, with_holes(images, seed=0) == 128)
    assert images.unique().tolist() == [7]
    rows, columns = changed[:, 0].any(2), changed[:, 0].any(1)
    assert (rows.sum(1).unique().tolist(), columns.sum(1).unique().tolist()) == (
        [hole[0]],
        [hole[1]],
    )
    assert torch.equal(changed[:, 0], rows.unsqueeze(2) & columns.unsqueeze(1))
    assert torch.equal(changed[:, 0], changed[:, 2])
    tops = rows.int().argmax(1).unique()
    assert tops.tolist() == list(range(size[0] - hole[0] + 1))


def test_digits_have_their_outlines(mnist: Path) -> None:
    data = EdgesToDigits(root=mnist, image_size=14)
    assert data.source_shape == data.image_shape == (1, 14, 14)
    assert len(data.train_sources) == 12
    assert data.train_source_labels is data.train_labels
    whole = EdgesToDigits(root=mnist)
    assert torch.equal(whole.test_sources, outlines_of(whole.test_images))


def test_photographs_are_grey_or_have_holes(cifar: Path) -> None:
    grey, masked = GreyToColour(root=cifar), MaskedToWhole(root=cifar, image_size=16)
    assert (grey.source_shape, masked.source_shape) == ((1, 32, 32), (3, 16, 16))
    assert torch.equal(grey.train_sources, grey_of(grey.train_images))
    assert masked.test_sources.shape == masked.test_images.shape
    assert not torch.equal(masked.test_sources, masked.test_images)


def test_so_may_images_of_a_folder(tmp_path: Path) -> None:
    for number in range(4):
        Image.new("RGB", (9, 8), (number, 100, 200)).save(tmp_path / f"{number}.png")
    given = {"root": tmp_path, "cache_dir": tmp_path / "cache", "image_size": 8}
    grey, masked = GreyToColourFolder(**given), MaskedToWholeFolder(**given)
    assert (grey.source_shape, masked.source_shape) == ((1, 8, 8), (3, 8, 8))
    assert torch.equal(grey.train_sources, grey_of(grey.train_images))
    assert torch.equal(masked.train_sources, with_holes(masked.train_images, 0))
    with pytest.raises(ConfigError, match=r"data\.channels=1: must be 3"):
        _ = GreyToColourFolder(**given, channels=1).source_shape


def test_rendered_digits_vary_and_are_the_same_in_every_run(
    mnist: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(other_digits, "_COUNTS", {"train": 300, "test": 20})
    data, again = (RenderedDigits(root=mnist, seed=seed) for seed in (0, 1))
    assert not data.paired
    assert torch.equal(data.train_sources, again.train_sources)
    assert data.train_sources.flatten(1).unique(dim=0).shape[0] == 300
    labels = data.train_source_labels
    assert labels is not None
    assert labels.unique().tolist() == list(range(10))
    ink = data.train_sources.float()
    assert (ink.amax((1, 2, 3)) > 200).all()
    assert ink[..., (0, -1), :].mean() < 2  # within the image
    means = torch.stack([ink[labels == digit].mean(0) for digit in range(10)]).flatten(1)
    nearest = torch.cdist(ink.flatten(1), means).argmin(1)
    assert (nearest == labels).float().mean() > 0.6  # a label says what is drawn
    assert (len(data.train_images), len(data.test_sources)) == (12, 20)


def test_small_digits_are_enlarged_and_divided(mnist: Path) -> None:
    data = DigitsToMNIST(root=mnist)
    assert data.source_shape == data.image_shape == (1, 28, 28)
    assert (len(data.train_sources), len(data.test_sources)) == (1498, 299)
    assert data.train_sources.max() > 250
    assert data.train_sources[..., :4, :].max() == 0
    assert data.test_source_labels is not None
    assert torch.bincount(data.test_source_labels).min() > 20
