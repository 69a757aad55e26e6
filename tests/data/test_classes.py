from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning
import pytest
import torch
from PIL import Image
from torch import Tensor

from forger.data import ImageDataModule, ImageFolder, MNISTSample, class_counts_of, class_names_of
from forger.errors import ConfigError, DataError


def own(**attributes: Any) -> Any:
    """A data module of a user's own."""
    module = lightning.LightningDataModule()
    for name, value in attributes.items():
        setattr(module, name, value)
    return module


class Labelled(ImageDataModule):
    """Images with the labels that a test gives."""

    native_shape = (1, 4, 4)
    classes = ("cat", "dog", "eel")

    def __init__(self, labels: list[int] | None) -> None:
        super().__init__()
        self.labels = labels

    def read(self, split: str) -> dict[str, Tensor]:
        if self.labels is None:
            return {"image": torch.zeros(1, 1, 4, 4, dtype=torch.uint8)}
        images = torch.zeros(len(self.labels), 1, 4, 4, dtype=torch.uint8)
        return {"image": images, "label": torch.tensor(self.labels)}


@pytest.mark.parametrize(
    ("attributes", "names"),
    [
        ({"classes": ("cat", "dog")}, ("cat", "dog")),
        ({"classes": ["cat", "dog"], "num_classes": 5}, ("cat", "dog")),
        ({"classes": [3, 8]}, ("3", "8")),
        ({"num_classes": 3}, ("0", "1", "2")),
        ({"classes": None, "num_classes": 2}, ("0", "1")),
    ],
)
def test_names_of_classes(attributes: dict[str, Any], names: tuple[str, ...]) -> None:
    assert class_names_of(own(**attributes)) == names


def test_names_are_known_before_an_image_is_read() -> None:
    class Unread(Labelled):
        def read(self, split: str) -> Any:
            raise AssertionError

    assert class_names_of(Unread([0])) == ("cat", "dog", "eel")


@pytest.mark.parametrize(
    ("attributes", "found"),
    [
        ({}, "none"),
        ({"classes": None, "num_classes": None}, "none"),
        ({"classes": ("cat",)}, "1"),
        ({"num_classes": 1}, "1"),
        ({"num_classes": 0}, "0"),
        ({"classes": "cats"}, "'cats'"),
        ({"classes": 10}, "10"),
    ],
)
def test_data_without_classes_is_told_what_to_do(attributes: dict[str, Any], found: str) -> None:
    words = rf'LightningDataModule has {found}; .*sub-folder for each class.*classes = \("cat", '
    with pytest.raises(ConfigError, match=f"^condition=label: needs .*{words}"):
        class_names_of(own(**attributes))


def test_counts_of_training_labels_where_a_class_may_be_without_images() -> None:
    counts = class_counts_of(Labelled([2, 0, 2, 2]), 3)
    assert counts.dtype == torch.int64
    assert counts.tolist() == [1, 0, 3]
    assert class_counts_of(MNISTSample(), 10).tolist() == [450] * 10


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        (None, r'Labelled\.read must return \{"image": images, "label": labels\}'),
        ([1, 2, 3], "from 0 to 2, and those of Labelled are from 1 to 3; subtract 1"),
        ([0, 1, 3], "are from 0 to 3; give each class a name"),
        ([-1, 2], "are from -1 to 2; "),
    ],
)
def test_labels_of_no_class_are_told(labels: list[int] | None, words: str) -> None:
    with pytest.raises(DataError, match=f"^condition=label: .*{words}"):
        class_counts_of(Labelled(labels), 3)


@pytest.mark.parametrize("given", [torch.tensor([5, 0, 7], dtype=torch.int32), [5, 0, 7]])
def test_counts_that_a_module_of_ones_own_gives(given: Any) -> None:
    counts = class_counts_of(own(class_counts=given), 3)
    assert (counts.tolist(), counts.dtype) == ([5, 0, 7], torch.int64)
    assert class_counts_of(own(num_classes=3), 3).tolist() == [1, 1, 1]


@pytest.mark.parametrize("given", [[5, 7], [0.2, 0.3, 0.5], [1, -1, 2], [0, 0, 0], 3])
def test_counts_that_are_none_are_refused(given: Any) -> None:
    with pytest.raises(DataError, match=r"LightningDataModule\.class_counts=.*3 whole numbers"):
        class_counts_of(own(class_counts=given), 3)


def folder(root: Path, *images: str) -> ImageFolder:
    for name in images:
        path = root / "images" / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (4, 4)).save(path)
    return ImageFolder(root=root / "images", cache_dir=root / "cache", image_size=4, channels=1)


def test_the_folders_of_the_training_images_are_the_classes(tmp_path: Path) -> None:
    data = folder(tmp_path, "train/cats/0", "train/cats/1", "train/dogs/0", "test/dogs/2")
    assert class_names_of(data) == ("cats", "dogs")
    assert class_counts_of(data, 2).tolist() == [2, 1]
    assert data.test_labels is not None
    assert data.test_labels.tolist() == [1]


@pytest.mark.parametrize(
    "images", [("0", "1"), ("cats/0", "cats/1"), ("train/0", "test/cats/1", "test/dogs/2")]
)
def test_a_folder_without_two_classes_to_train_on(tmp_path: Path, images: tuple[str, ...]) -> None:
    with pytest.raises(ConfigError, match=r"ImageFolder has none; put .* for each class"):
        class_names_of(folder(tmp_path, *images))


def test_a_class_of_the_test_images_alone_is_refused(tmp_path: Path) -> None:
    data = folder(tmp_path, "train/cats/0", "train/dogs/0", "test/cats/1", "test/eels/2")
    words = r"have the class 'eels', which .* lack; they have cats, dogs\. Give both the same"
    with pytest.raises(DataError, match=words):
        class_names_of(data)


def test_test_images_without_classes_have_no_labels_and_the_plan_says_so(tmp_path: Path) -> None:
    data = folder(tmp_path, "train/cats/0", "train/dogs/0", "test/1")
    assert class_counts_of(data, 2).tolist() == [1, 1]
    assert data.test_labels is None
    assert data.describe()[0] == "1 test images (test/, without classes)"
