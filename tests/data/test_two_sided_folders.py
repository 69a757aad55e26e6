"""Folders of two sides: which images are pairs, and what is wrong with them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor

from forger.data import PairedFolder, UnpairedFolder
from forger.data.two_sided_folders import TwoSidedFolder
from forger.errors import ConfigError, DataError

Make = Callable[..., TwoSidedFolder]


def put(path: Path, value: int, size: tuple[int, int] = (8, 8)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", size, value).save(path)


def put_pair(path: Path, left: Sequence[int], right: int, height: int = 8) -> None:
    """Writes an image whose left half has values left and right, and whose right half has one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pair = Image.new("L", (16, height), right)
    for value, begin in zip(left, (0, 4), strict=True):
        pair.paste(value, (begin, 0, begin + 4, height))
    pair.save(path)


@pytest.fixture
def make(tmp_path: Path) -> Make:
    def build(kind: type[TwoSidedFolder] = PairedFolder, **changes: Any) -> TwoSidedFolder:
        settings = {"root": tmp_path / "images", "cache_dir": tmp_path / "cache", "channels": 1}
        settings |= {"image_size": 8, "test_fraction": 0.0, "flip": False}
        data = kind(**{**settings, **changes})
        data.prepare_data()
        return data

    return build


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "images"


def firsts(images: Tensor) -> list[int]:
    return images[:, 0, 0, 0].tolist()


def test_the_halves_of_an_image_are_a_pair(make: Make, root: Path) -> None:
    for number in range(3):
        put_pair(root / f"train/{number}.png", (10 + number, 20 + number), 30 + number)
    put_pair(root / "val/9.png", (1, 2), 3)
    data = make()
    assert firsts(data.train_sources) == [10, 11, 12]
    assert data.train_sources[:, 0, 0, 7].tolist() == [20, 21, 22]  # nothing of the other half
    assert data.train_images.unique().tolist() == [30, 31, 32]
    assert (firsts(data.test_sources), firsts(data.test_images)) == ([1], [3])
    back = make(direction="b_to_a", source_channels=3)
    assert (back.source_shape, back.image_shape) == ((3, 8, 8), (1, 8, 8))
    assert back.train_sources[:, 2, 0, 0].tolist() == [30, 31, 32]
    assert firsts(back.train_images) == [10, 11, 12]
    assert data.describe()[0] == "first pair: left half of train/0.png -> right half of train/0.png"


@pytest.mark.parametrize(
    "layout", ["train{}/{}.png", "train/{}/{}.png", "{}/train/{}.png", "x/train_{}/{}.png"]
)
def test_images_of_one_name_in_two_folders_are_a_pair(make: Make, root: Path, layout: str) -> None:
    for number in (2, 0, 1):
        put(root / layout.format("A", number), number)
        put(root / layout.replace(".png", ".bmp").format("B", number), 100 + number)
        put(root / layout.replace("train", "test").format("A", 9), 9)
        put(root / layout.replace("train", "test").format("B", 9), 109)
    data = make()
    assert (firsts(data.train_sources), firsts(data.train_images)) == ([0, 1, 2], [100, 101, 102])
    assert (firsts(data.test_sources), firsts(data.test_images)) == ([9], [109])


def test_pairs_are_held_out_and_flipped_together(make: Make, root: Path) -> None:
    for number in range(20):
        put_pair(root / f"{number}.png", (number, 200), number)
    data = make(test_fraction=0.2, flip=True, batch_size=16)
    assert firsts(data.test_sources) == firsts(data.test_images)
    assert len(data.test_images) == 4
    ((stored,),) = data.train_dataloader()
    batch = stored.scaled()
    values = ((batch["source"][:, 0, 0] + 1) * 127.5).round()
    ends = torch.stack((values[:, 0], values[:, 7]), 1)
    own = ((batch["image"][:, 0, 0, 0] + 1) * 127.5).round()
    assert torch.equal(ends.amin(1), own)
    flipped = ends[:, 0] == 200
    assert torch.equal(flipped, stored.flip)
    assert 0 < int(flipped.sum()) < 16


def test_rectangles_are_cut_from_the_centre_of_both_halves(make: Make, root: Path) -> None:
    put_pair(root / "1.png", (10, 20), 30, height=6)
    data = make(image_size=[4, 8])
    assert data.image_shape == data.source_shape == (1, 4, 8)
    assert data.train_sources[0, 0].unique(dim=0).tolist() == [[10] * 4 + [20] * 4]


def test_unpaired_sides_have_their_own_numbers_and_the_labels_of_common_classes(
    make: Make, root: Path
) -> None:
    for side, count in (("A", 5), ("B", 3)):
        for number in range(count):
            kind = ("cat", "dog")[number % 2]
            put(root / f"train{side}/{kind}/{number}.png", number + 100 * (side == "B"))
        put(root / f"test{side}/cat/0.png", 50)
    data = make(UnpairedFolder)
    assert firsts(data.train_sources) == [0, 2, 4, 1, 3]
    assert firsts(data.train_images) == [100, 102, 101]
    assert data.train_source_labels.tolist() == [0, 0, 0, 1, 1]  # type: ignore[union-attr]
    assert data.train_labels.tolist() == [0, 0, 1]  # type: ignore[union-attr]
    assert data.describe()[0] == "5 training and 1 test sources, such as trainA/cat/0.png"
    put(root / "trainB/fox/7.png", 7)
    assert make(UnpairedFolder).train_source_labels is None


def break_names(root: Path) -> None:
    (root / "B/1.png").rename(root / "B/other.png")


def leave_one_out(root: Path) -> None:
    (root / "A/1.png").unlink()


def empty_side(root: Path) -> None:
    for path in (root / "B").iterdir():
        path.unlink()


def other_size(root: Path) -> None:
    put(root / "B/1.png", 1, (8, 10))


def twice(root: Path) -> None:
    put(root / "A/1.bmp", 1)


def no_tests_of_b(root: Path) -> None:
    put(root / "A/test/1.png", 1)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (break_names, r"A has 3 images and B 3, and 2 have no partner: A/1\.png, B/other\.png"),
        (leave_one_out, r"A has 2 images and B 3, and 1 have no partner: B/1\.png"),
        (empty_side, "the side B has no images, and the other side has; there are images in A/"),
        (other_size, r"must be of one size, .*; A/1\.png is 8x8 and B/1\.png is 8x10"),
        (twice, r"A/1\.(png|bmp) and A/1\.(png|bmp) have one name"),
        (no_tests_of_b, "the side B has no images for test"),
    ],
)
def test_sides_that_do_not_fit_are_told(
    make: Make, root: Path, spoil: Callable[[Path], None], words: str
) -> None:
    for side in "AB":
        for number in range(3):
            put(root / side / f"{number}.png", number)
    spoil(root)
    with pytest.raises(DataError, match=f"data.root=.*images: .*{words}"):
        make()


@pytest.mark.parametrize(
    ("size", "words"), [((15, 8), "an odd width"), ((8, 8), "would lose half of their height")]
)
def test_an_image_that_is_no_two_side_by_side_is_told(
    make: Make, root: Path, size: tuple[int, int], words: str
) -> None:
    put_pair(root / "1.png", (1, 2), 3)
    put(root / "2.png", 2, size)
    told = rf"2\.png: is {size[0]}x{size[1]}, which cannot be split into two .*{words}"
    with pytest.raises(DataError, match=rf"1 of 2 images cannot be read(.|\n)*{told}"):
        make()


@pytest.mark.parametrize("folder", ["images", "A"])
def test_unpaired_images_need_two_sides(make: Make, root: Path, folder: str) -> None:
    put(root / folder / "1.png", 1)
    with pytest.raises(DataError, match=r"data\.root=.*(two sides, such as trainA|side B has no)"):
        make(UnpairedFolder)


def test_both_images_of_a_pair_are_left_out_where_one_cannot_be_read(
    make: Make, root: Path
) -> None:
    for side in "AB":
        for number in range(3):
            put(root / side / f"{number}.png", number)
    (root / "B/1.png").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"B/1\.png: not an image"):
        make()
    data = make(skip_unreadable=True)
    assert firsts(data.train_sources) == firsts(data.train_images) == [0, 2]
    assert data.describe()[-1] == "left out as unreadable: 1 pairs"


def test_wrong_settings_are_named(make: Make) -> None:
    with pytest.raises(ConfigError, match=r"data\.direction=a2b: must be one of a_to_b, b_to_a"):
        make(direction="a2b")
    with pytest.raises(ConfigError, match=r"data\.root: this data set needs the folder"):
        make(root=None)
    with pytest.raises(ConfigError, match=r"data\.image_size=0: must be a whole number"):
        make(image_size=[8, 0])
