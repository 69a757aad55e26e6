from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from forger.data import MNIST, MNISTSample, sample
from forger.errors import DataError


def test_split_is_balanced_disjoint_and_fixed() -> None:
    data, other = MNISTSample(seed=0), MNISTSample(seed=1)
    assert data.num_train_images == 4500
    assert data.train_labels is not None
    assert data.test_labels is not None
    assert torch.bincount(data.train_labels).tolist() == [450] * 10
    assert torch.bincount(data.test_labels).tolist() == [50] * 10
    assert torch.equal(data.test_images, other.test_images)
    train = {image.numpy().tobytes() for image in data.train_images}
    assert not any(image.numpy().tobytes() in train for image in data.test_images)


def test_images_are_those_of_mnist(real_data: Path) -> None:
    data, full = MNISTSample(), MNIST(root=real_data)
    digits = {
        image.numpy().tobytes(): int(label)
        for split in (full.read("train"), full.read("test"))
        for image, label in zip(split["image"], split["label"], strict=True)
    }
    assert data.test_labels is not None
    for image, label in zip(data.test_images, data.test_labels, strict=True):
        assert digits[image.numpy().tobytes()] == label


def flipped(content: bytes) -> bytes:
    damaged = bytearray(content)
    damaged[len(content) // 2] ^= 1
    return bytes(damaged)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda content: b"not gzip", "cannot be read"),
        (lambda content: content[: len(content) // 2], "cannot be read"),
        (flipped, "cannot be read"),
        (lambda content: gzip.compress(b"")[:10] + b"\xff" * 99, "cannot be read"),  # no such block
        (lambda content: gzip.compress(b"\xff\xfe"), "cannot be read"),
        (lambda content: b"", "is not 500 images of each digit"),
        (lambda content: gzip.compress(b"1,2,3\n4,5,6\n"), "is not 500 images of each digit"),
    ],
)
def test_a_broken_file_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: Callable[[bytes], bytes], words: str
) -> None:
    path = tmp_path / "mnist_5k.csv.gz"
    path.write_bytes(damage(sample._find_file().read_bytes()))
    monkeypatch.setattr(sample, "_find_file", lambda: path)
    with pytest.raises(DataError, match=rf"mnist_5k\.csv\.gz: {words}.*reinstall"):
        MNISTSample().setup("fit")
