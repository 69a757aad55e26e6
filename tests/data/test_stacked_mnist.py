"""Stacked MNIST: which digits an image is made of, by hand, and that all runs have the same."""

from __future__ import annotations

from pathlib import Path

import originals
import pytest
import torch

from forger.conditions import Labels
from forger.data import MNIST, StackedMNIST
from forger.errors import ConfigError, DataError


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A root with a small MNIST: a digit's first pixel is its index, whose last one its label."""
    files = originals.idx_files()
    originals.expect_mnist(monkeypatch, files)
    originals.write(tmp_path / "MNIST" / "raw", files)
    return tmp_path


@pytest.mark.parametrize("split", ["train", "test"])
def test_each_channel_is_a_digit_of_its_split_and_the_label_their_number(
    root: Path, split: str
) -> None:
    data, digits = StackedMNIST(root=root, count=50), MNIST(root=root)
    images, labels = (getattr(data, f"{split}_{name}") for name in ("images", "labels"))
    source = getattr(digits, f"{split}_images")
    for image, label in zip(images[:50], labels[:50].tolist(), strict=True):
        places = image[:, 0, 0].tolist()
        assert [place % 10 for place in places] == [label // 100, label // 10 % 10, label % 10]
        for channel, place in zip(image, places, strict=True):
            assert torch.equal(channel, source[place, 0])
        assert data.classes[label] == "".join(str(place % 10) for place in places)
    assert {*images[:, :, 0, 0].flatten().tolist()} == set(range(len(source)))


def test_all_runs_have_the_same_images_and_more_of_them_begin_alike(root: Path) -> None:
    data, again = StackedMNIST(root=root, count=50), StackedMNIST(root=root, count=60, seed=7)
    assert (data.num_train_images, len(data.test_images)) == (50, 25_600)
    assert torch.equal(again.train_images[:50], data.train_images)
    assert torch.equal(again.test_images, data.test_images)
    # as NumPy's RandomState of seed 0 promises to draw from twelve digits
    assert data.train_images[:2, :, 0, 0].tolist() == [[5, 0, 3], [11, 3, 7]]
    assert not torch.equal(data.test_images[:50, :, 0, 0], data.train_images[:, :, 0, 0])


def test_its_channels_come_from_mnist_resized_alike(root: Path) -> None:
    data = StackedMNIST(root=root, count=3, image_size=14)
    assert data.image_shape == (3, 14, 14)
    source = data.channels_from
    assert type(source) is MNIST
    assert source.channels_from is None
    places = [5, 0, 3]
    for channel, place in zip(data.train_images[0], places, strict=True):
        assert torch.equal(channel, source.train_images[place, 0])


def test_a_class_is_asked_for_by_its_three_digits(root: Path) -> None:
    condition = Labels(StackedMNIST(root=root).classes)
    assert condition.number_of("042") == 42
    with pytest.raises(ConfigError, match="label=42: there is no such class; allowed: 000, 001"):
        condition.number_of("42")


def test_what_is_wrong_is_said_as_by_mnist(root: Path) -> None:
    with pytest.raises(ConfigError, match=r"data\.count=0"):
        StackedMNIST(root=root, count=0)
    (root / "MNIST" / "raw" / "train-labels-idx1-ubyte").unlink()
    with pytest.raises(DataError, match=r"train-labels-idx1-ubyte missing, and data.download=fa"):
        StackedMNIST(root=root, download=False).prepare_data()
