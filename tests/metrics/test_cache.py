"""Features that are extracted once, and made again when their file is damaged."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from disks import without_rights
from labelled_bars import Bars
from torch import Tensor

from forger.errors import DataError
from forger.metrics.cache import cached_features, data_hash
from forger.metrics.extractor import FeatureExtractor, Features
from forger.sampling.sampler import CHUNK


class Corner(FeatureExtractor):
    """The first six pixels and their two means; it counts the images that it sees."""

    name, score_name, num_features = "corner", "corner_score", 6
    fingerprint = "first"  # type: ignore[assignment]

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[int] = []

    def prepare(self, data: Any, cache_dir: Path) -> None:
        """Has nothing to load."""

    def forward(self, images: Tensor) -> Features:
        self.seen.append(len(images))
        pixels = images.flatten(1)[:, :6].float()
        return Features(pixels, pixels.view(-1, 2, 3).mean(2))


def many(count: int = 2 * CHUNK + 7) -> Bars:
    return Bars(counts={"train": count, "test": 30})


def test_features_are_those_of_the_extractor_in_order(tmp_path: Path) -> None:
    extractor, data = Corner(), many()
    found = cached_features(extractor, data, "train", tmp_path)
    assert extractor.seen == [CHUNK, CHUNK, 7]
    expected = Corner()(data.train_images)
    assert torch.equal(found.features, expected.features)
    assert torch.equal(found.logits, expected.logits)


def test_features_are_extracted_once_for_each_data_split_and_extractor(tmp_path: Path) -> None:
    cached_features(Corner(), Bars(), "train", tmp_path)
    again, changed, other = Corner(), Bars(), Corner()
    cached_features(again, Bars(), "train", tmp_path)
    assert again.seen == []
    changed.train_images[0, 0, 0, 0] += 1
    other.fingerprint = "second"  # type: ignore[method-assign, assignment]
    for extractor, data, split in (
        (Corner(), changed, "train"),
        (Corner(), Bars(), "test"),
        (other, Bars(), "train"),
    ):
        cached_features(extractor, data, split, tmp_path)  # type: ignore[arg-type]
        assert extractor.seen


def flipped(content: bytes) -> bytes:
    damaged = bytearray(content)
    damaged[-20] ^= 1  # a feature
    return bytes(damaged)


@pytest.mark.parametrize("kind", ["features", "logits"])
@pytest.mark.parametrize("damage", [lambda c: b"", lambda c: c[:-8], flipped])
def test_damaged_features_are_extracted_again(
    tmp_path: Path,
    kind: str,
    damage: Callable[[bytes], bytes],
    caplog: pytest.LogCaptureFixture,
) -> None:
    cached_features(Corner(), Bars(), "train", tmp_path)
    (path,) = tmp_path.glob(f"{kind}-*.npy")
    before = np.load(path)
    path.write_bytes(damage(path.read_bytes()))
    extractor, data = Corner(), Bars()
    found = cached_features(extractor, data, "train", tmp_path)
    assert extractor.seen == [90]
    assert torch.equal(found.features, Corner()(data.train_images).features)
    assert f"{path} is damaged" in caplog.text
    np.testing.assert_array_equal(np.load(path), before)


def test_a_cache_that_cannot_be_read_or_written_is_named(tmp_path: Path) -> None:
    cached_features(Corner(), Bars(), "train", tmp_path)
    (path,) = tmp_path.glob("features-*.npy")
    path.chmod(0)
    with (
        without_rights(tmp_path),
        pytest.raises(DataError, match=r"paths\.cache_dir: .*/features-.*: Permission denied"),
    ):
        cached_features(Corner(), Bars(), "train", tmp_path)
    with pytest.raises(DataError, match=r"paths\.cache_dir: .*cannot take features"):
        cached_features(Corner(), Bars(), "train", path / "cache")


def test_the_hash_is_of_contents() -> None:
    assert data_hash(Bars()) == data_hash(Bars())
    pixel, label = Bars(), Bars()
    pixel.test_images[29, 0, 11, 11] += 1
    assert label.train_labels is not None
    label.train_labels[0] = 1
    others = (pixel, label, Bars(classes=("a", "b", "c")), Bars(labels_of=("train",)))
    assert len({data_hash(data) for data in (Bars(), *others)}) == 5
