"""Which images of a folder are for training and which for tests; files are empty here."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from forger.data.folder_listing import Listing, list_images
from forger.errors import DataError
from forger.image_files import image_endings


def put(root: Path, *folders: str) -> None:
    """Puts two images into each folder."""
    for folder in folders:
        (root / folder).mkdir(parents=True, exist_ok=True)
        for index in range(2):
            (root / folder / f"{index}.png").touch()


def listed(root: Path, **settings: str | None) -> Listing:
    return list_images(root, 0.5, **settings)


def folders(listing: Listing) -> tuple[set[str], set[str]]:
    """The folders of the training images, and of the test images."""
    both = listing.names[: listing.num_train], listing.names[listing.num_train :]
    train, test = ({name.rpartition("/")[0] for name in names} for names in both)
    return train, test


@pytest.mark.parametrize(
    ("train", "test"),
    [
        *[("train", test) for test in ("test", "val", "valid", "eval", "dev", "holdout")],
        *[("Train", "Test"), ("TRAIN", "VAL"), ("training", "testing"), ("train", "validation")],
        *[("train2017", "val2017"), ("train", "test1"), ("train_set", "test_set")],
        *[("trainA", "testA"), ("traina", "testa"), ("seg_train", "seg_test")],
        *[("TrainImages", "TestImages"), ("train-images", "test_images")],
        *[("images_train", "images_val"), ("data/train", "data/test"), ("a/b/Train", "a/b/Val")],
    ],
)
def test_test_images_are_told_by_their_folder(tmp_path: Path, train: str, test: str) -> None:
    put(tmp_path / "flat", train, test)
    listing = listed(tmp_path / "flat")
    assert folders(listing) == ({train}, {test})
    assert (listing.test_folder, listing.classes) == (f"{test}/", None)
    put(tmp_path / "deep", f"{train}/cats", f"{train}/dogs", f"{test}/cats")
    assert listed(tmp_path / "deep").classes == ("cats", "dogs")
    assert folders(listed(tmp_path / "deep"))[1] == {f"{test}/cats"}


def test_test_goes_before_validation_and_the_rest_is_named(tmp_path: Path) -> None:
    put(tmp_path, "train", "test", "val", "extra/more", "", "__MACOSX", "train/@eaDir/0.png")
    for name in (".DS_Store", "Thumbs.db", "a.txt", "b.txt", "README", "x.heic"):
        (tmp_path / name).touch()
    listing = listed(tmp_path)
    assert folders(listing) == ({"train"}, {"test"})
    images = ["2 images in ./", "2 images in extra/", "2 images in val/"]
    others = ["1 .db", "1 .heic", "2 .txt", "1 @eaDir", "1 __MACOSX", "1 hidden"]
    assert list(listing.left_out) == [*images, *others, "1 no extension"]


@pytest.mark.parametrize(
    ("places", "words"),
    [
        (["trainA", "trainB", "testA", "testB"], "data.train_folder=trainA data.test_folder=testA"),
        (["Train", "train"], "write for example data.train_folder=Train, or"),
        (["cats", "dogs", "test"], "data.train_folder=. data.test_folder=test, or"),
        (["", "val"], "data.train_folder=. data.test_folder=val, or"),
        (["train", "test1", "test2"], "data.train_folder=train data.test_folder=test1, or"),
        (["plane", "train", "bus"], "bus/, plane/, train/; write for example data.train_folder="),
        (["x/plane", "x/train"], "or data.train_folder=x where all of them are classes"),
        (["cats/train", "cats/test", "dogs/train", "dogs/test"], "would train on cats/test/, "),
        (["cats/1", "dogs/deep/val"], "would train on dogs/deep/val/, which is named as if"),
        (["train/cats", "train/val"], "data.train_folder=train where it is a class"),
    ],
)
def test_what_the_names_do_not_tell_is_refused(
    tmp_path: Path, places: list[str], words: str
) -> None:
    """Never are test images trained on in silence."""
    put(tmp_path, *places)
    with pytest.raises(DataError, match=rf"data\.root=.*{re.escape(words)}"):
        listed(tmp_path)


@pytest.mark.parametrize(
    "classes",
    [["bullet_train", "steam_train", "bus"], ["test_tube", "beaker"], ["contest", "trains"]],
)
def test_classes_that_only_sound_like_splits(tmp_path: Path, classes: list[str]) -> None:
    put(tmp_path, *classes)
    assert listed(tmp_path).classes == tuple(sorted(classes))


@pytest.mark.parametrize(
    ("places", "settings", "train", "test"),
    [
        (["trainA", "trainB", "testA"], ("trainA", "testA"), {"trainA"}, {"testA"}),
        (["plane", "train", "bus"], (".", None), {"plane", "train", "bus"}, None),
        (["cats", "dogs", "test"], (".", "test"), {"cats", "dogs"}, {"test"}),
        (["train/cats", "train/val"], ("train/", None), {"train/cats", "train/val"}, None),
    ],
)
def test_the_user_names_the_folders(
    tmp_path: Path,
    places: list[str],
    settings: tuple[str, str | None],
    train: set[str],
    test: set[str] | None,
) -> None:
    put(tmp_path, *places)
    found = folders(listed(tmp_path, train_folder=settings[0], test_folder=settings[1]))
    if test is None:
        assert found[0] | found[1] == train  # a part of them is held out
    else:
        assert found == (train, test)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"test_folder": "test"}, r"data\.test_folder=test: needs data\.train_folder"),
        (
            {"train_folder": "trian"},
            r"data\.train_folder=trian: must be .*; there are test/, train",
        ),
        ({"train_folder": "../x"}, "must be a sub-folder"),
        ({"train_folder": "/tmp"}, "must be a sub-folder"),
        ({"train_folder": "train", "test_folder": "train"}, "leaves no images to train on"),
        ({"train_folder": "train", "test_folder": "."}, "leaves no images to train on"),
    ],
)
def test_folders_that_are_not_there(tmp_path: Path, settings: dict[str, str], words: str) -> None:
    put(tmp_path, "train", "test")
    with pytest.raises(DataError, match=words):
        listed(tmp_path, **settings)


@pytest.mark.parametrize(
    ("folders", "classes"),
    [
        (["img/img/cats", "img/img/dogs"], ("cats", "dogs")),  # alone in another
        (["train/train/cats", "train/train/dogs", "test/cats"], ("cats", "dogs")),
        (["train/images", "test/images"], None),  # one class is none
    ],
)
def test_folders_alone_are_passed_through(
    tmp_path: Path, folders: list[str], classes: tuple[str, ...] | None
) -> None:
    put(tmp_path, *folders)
    listing = listed(tmp_path)
    assert listing.classes == classes
    assert (listing.labels is None) == (classes is None)


def test_all_that_pillow_decodes_is_listed_and_nothing_else(tmp_path: Path) -> None:
    endings = image_endings()
    assert {".jfif", ".gif", ".jp2", ".tga", ".webp", ".ppm", ".bmp", ".tif", ".mpo"} <= {*endings}
    assert not {".eps", ".ps", ".pdf", ".mpg", ".h5", ".wmf", ".svg"} & {*endings}
    for name in ("a.heic", "b.heic", "c.svg"):
        (tmp_path / name).touch()
    with pytest.raises(DataError, match=r"holds no images.*; it has 2 \.heic, 1 \.svg"):
        listed(tmp_path)
    for ending in endings:
        (tmp_path / f"a{ending.upper()}").touch()
    assert len(list_images(tmp_path, 0).names) == len(endings)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere names are Unicode")
def test_names_of_any_bytes(tmp_path: Path) -> None:
    (tmp_path / b"a\xff.png".decode(errors="surrogateescape")).touch()
    put(tmp_path, "")
    assert len(listed(tmp_path).names) == 3
