"""Random crops of enlarged images: against torchvision, alike in pairs, by the loader's places."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torchvision.transforms.v2 import functional

from forger.data import PairedFolder, UnpairedFolder
from forger.data.crops import crop_enlarged, draw_places
from forger.data.loaders import ResidentLoader, StoredBatch
from forger.errors import ConfigError


def test_a_crop_is_a_part_of_the_enlarged_image() -> None:
    images = torch.rand(4, 3, 8, 12) * 2 - 1
    places = torch.tensor([[0, 0], [3, 1], [1, 3], [3, 3]])
    found = crop_enlarged(images, places, 3)
    large = functional.resize(images, [11, 15], antialias=False)
    for one, whole, (top, left) in zip(found, large, places.tolist(), strict=True):
        torch.testing.assert_close(one, whole[:, top : top + 8, left : left + 12])


def test_all_places_are_equally_likely() -> None:
    places = draw_places(9000, 2, torch.Generator().manual_seed(0))
    counts = torch.bincount(places[:, 0] * 3 + places[:, 1], minlength=9)
    assert counts.min() > 850
    assert counts.max() < 1150


def make(paired: bool = True, **settings: Any) -> ResidentLoader:
    random = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (20, 1, 6, 6), dtype=torch.uint8, generator=random)
    members = {"image": images, "source": images if paired else images[:13]}
    given = {"batch_size": 4, "seed": 3, "epoch": lambda: 1, "crop_margin": 4, "paired": paired}
    return ResidentLoader(members, **given | settings)


def test_both_images_of_a_pair_are_cropped_alike() -> None:
    for batch in make(flip=True):
        scaled = batch.scaled()
        assert scaled["image"].shape == (4, 1, 6, 6)
        assert torch.equal(scaled["image"], scaled["source"])
    assert next(iter(make(crop_margin=0))).crop is None


@pytest.mark.parametrize("paired", [True, False])
def test_places_resume_and_divide_as_images_do(paired: bool) -> None:
    whole = [*make(paired)]
    for own, batch in zip(make(paired).from_batch(2), whole[2:], strict=True):
        assert_same(own, batch)
    for rank in range(2):
        for own, batch in zip(make(paired, rank=rank, world_size=2), whole, strict=True):
            assert_same(own, batch, slice(rank, None, 2))
    if not paired:
        assert any(not torch.equal(batch.crop, batch.source_crop) for batch in whole)  # type: ignore[arg-type]


def assert_same(own: StoredBatch, batch: StoredBatch, rows: slice = slice(None)) -> None:
    assert torch.equal(own.crop, batch.crop[rows])  # type: ignore[arg-type, index]
    expected, found = batch.scaled(), own.scaled()
    assert all(torch.equal(found[name], expected[name][rows]) for name in expected)


@pytest.mark.parametrize("kind", [PairedFolder, UnpairedFolder])
def test_a_folder_of_two_sides_is_cropped_in_training_alone(kind: Any, tmp_path: Path) -> None:
    for side in "AB":
        (tmp_path / side).mkdir()
        for number in range(20):
            Image.new("L", (16, 16), number * 10).save(tmp_path / side / f"{number}.png")
    settings = {"root": tmp_path, "cache_dir": tmp_path / "cache", "image_size": 16, "channels": 1}
    data = kind(**settings, batch_size=6, crop_margin=2)
    (batch,) = next(iter(data.train_dataloader()))
    assert batch.crop.max() <= 2
    assert data.on_after_batch_transfer(batch, 0)["image"].shape == (6, 1, 16, 16)
    assert data.test_images.shape[1:] == (1, 16, 16)
    with pytest.raises(ConfigError, match=r"data\.crop_margin=-1: must be"):
        kind(**settings, crop_margin=-1)
