"""`condition=label` on the command line: what cannot be ends in one message, before any work."""

from __future__ import annotations

from pathlib import Path

import pytest
from composing import compose_config
from own_project import training, write_own
from training import ROOT, colour_folder, short, trained

from forger.app.cli.ending import ending_of
from forger.app.config.command import Command
from forger.app.config.compose import find_mistakes
from forger.app.run.load import load_sampler
from forger.app.run.train import train
from forger.errors import UserError

# Labels that begin at 1, in a data module of ours and in one of Lightning's; and data without any.
DATA = """
import torch
from lightning import LightningDataModule
from torch.utils.data import DataLoader

from forger.data import ImageDataModule


class FromOne(ImageDataModule):
    native_shape, classes = (1, 16, 16), ("a", "b", "c")

    def read(self, split):
        images = torch.zeros(60, 1, 16, 16, dtype=torch.uint8)
        return {"image": images, "label": torch.arange(60) % 3 + 1}


class Loose(LightningDataModule):
    num_classes = 3

    def train_dataloader(self):
        items = [(torch.rand(1, 16, 16) * 2 - 1, index % 3 + 1) for index in range(48)]
        return DataLoader(items, batch_size=8, num_workers=0)


class Unlabelled(LightningDataModule):
    num_classes = 3

    def train_dataloader(self):
        return DataLoader(torch.rand(48, 1, 16, 16) * 2 - 1, batch_size=8, num_workers=0)


class Unnamed(Loose):
    num_classes = None
"""
OWN = ("from_one", "loose", "unlabelled", "unnamed")

TOLD_EARLY = {
    "condition=lable": (
        "condition=lable: no such choice; did you mean 'label'? Allowed: label, none, text"
    ),
    "condition.discriminator=projektion": (
        "condition.discriminator=projektion: must be one of projection, concat, auxiliary; did you"
        " mean 'projection'?"
    ),
    "+condition.classes=[a,b]": "condition.classes=[a,b]: comes from the data",
    "+model.generator.num_classes=3": (
        "model.generator.num_classes=3: comes from the data; choose condition=label"
    ),
    "+model.discriminator.head=projection": (
        "model.discriminator.head=projection: comes from the condition; write"
        " condition.discriminator=<choice>"
    ),
}
NEEDS = "condition=label: needs data of two classes or more, and"
FROM_0_TO_2 = "labels of 3 classes must be whole numbers from 0 to 2, and those of"
TOLD_BY_OBJECTS = {
    "data=from_one": f"condition=label: {FROM_0_TO_2} FromOne are from 1 to 3; subtract 1 if they",
    "data=loose": f"condition=label: {FROM_0_TO_2} Loose are from 1 to 3; subtract 1 if they",
    "data=unlabelled": "labels: a batch has none; give (images, labels), or a mapping with images",
    "data=unnamed": f"{NEEDS} Unnamed has none; put a folder's images into a sub-folder for each",
    "model=linear": (
        "condition.discriminator=projection: own_networks.Discriminator takes no num_classes and no"
        " head; write condition.discriminator=concat, which every network can"
    ),
    "condition.label_dim=8": "condition.label_dim=8: is for condition.generator=concat; leave it",
    "model.generator.norm=none condition.generator=batchnorm": (
        "model.generator.norm=none: classes are told by BatchNorm, and there is none; write"
        " condition.generator=concat, or model.generator.norm=batch"
    ),
    "condition.generator_weight=2": (
        "condition.generator_weight=2: is for condition.discriminator=auxiliary; leave it out"
    ),
}
TOLD_OF_FOLDERS = {
    ("",): f"{NEEDS} ImageFolder has none; put a folder's images into a sub-folder for each class",
    ("cat",): f"{NEEDS} ImageFolder has none; put a folder's images",
    ("train/cat", "train/dog", "test/cat", "test/eel"): (
        "the test images have the class 'eel', which the training images lack; they have cat, dog."
        " Give both the same class folders, or take that one away from the test images"
    ),
}


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the user's classes and configs."""
    write_own(tmp_path)
    (tmp_path / "own_labels.py").write_text(DATA)
    for name in OWN:
        kind = name.title().replace("_", "")
        (tmp_path / f"configs/data/{name}.yaml").write_text(f"_target_: own_labels.{kind}\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


def refusal(folder: Path, *words: str) -> str:
    """What a command that trains is answered; it leaves nothing behind."""
    (folder / "configs").mkdir(exist_ok=True)
    cfg = compose_config("train", f"hydra.searchpath=[{folder / 'configs'}]", *words)
    with pytest.raises(UserError) as caught:
        train(cfg)
    assert ending_of(caught.value).code == 2
    assert not (folder / "logs").exists()
    return str(caught.value)


@pytest.mark.parametrize("word", TOLD_EARLY)
def test_what_is_told_at_once(word: str) -> None:
    words = word if word.startswith("condition=") else f"condition=label {word}"
    found = find_mistakes(Command(ROOT / "configs", "train", tuple(words.split())))
    assert found == [TOLD_EARLY[word]]


@pytest.mark.parametrize("words", TOLD_BY_OBJECTS)
def test_what_data_and_networks_tell(words: str, project: Path) -> None:
    typed = ["condition=label", "metrics=none", *words.split()]
    if "data=" not in words:
        typed.append("data=mnist_sample")
    assert TOLD_BY_OBJECTS[words] in refusal(project, *training(project, *typed))


@pytest.mark.parametrize("classes", TOLD_OF_FOLDERS)
def test_what_folders_tell(classes: tuple[str, ...], tmp_path: Path) -> None:
    images = colour_folder(tmp_path / "images", classes)
    words = ["condition=label", "metrics=none", "data=image_folder", f"data.root={images}"]
    assert TOLD_OF_FOLDERS[classes] in refusal(tmp_path, *short(tmp_path, *words))


def test_a_class_without_test_images_is_no_hindrance(tmp_path: Path) -> None:
    images = colour_folder(tmp_path / "images", ("train/cat", "train/dog", "test/cat"))
    words = ["condition=label", "data=image_folder", f"data.root={images}", "data.image_size=16"]
    sampler = load_sampler(trained(tmp_path, *words))[1]
    assert sampler.sample(2, label=["dog", "cat"]).shape == (2, 3, 16, 16)
