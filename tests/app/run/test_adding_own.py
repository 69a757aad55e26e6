"""A loss, a network and a data set of the user's own, from outside the package."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
from omegaconf import OmegaConf
from training import ROOT, command, latest, rows, run_folder, short

LOSS = """
from dataclasses import dataclass

from forger.losses import AdversarialLoss


@dataclass(frozen=True, kw_only=True)
class Quadratic(AdversarialLoss):
    margin: float = 1.0

    def discriminator(self, real_logits, fake_logits):
        return (real_logits - self.margin).square().mean() + fake_logits.square().mean()

    def generator(self, fake_logits, real_logits):
        return (fake_logits - self.margin).square().mean()
"""

NETWORK = """
import math

from torch import nn


class Generator(nn.Module):
    def __init__(self, image_shape, latent_dim=16):
        super().__init__()
        self.image_shape, self.latent_dim = image_shape, latent_dim
        self.layers = nn.Sequential(nn.Linear(latent_dim, math.prod(image_shape)), nn.Tanh())

    def forward(self, noise):
        return self.layers(noise).view(-1, *self.image_shape)


class Discriminator(nn.Module):
    def __init__(self, image_shape):
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(math.prod(image_shape), 1))

    def forward(self, images):
        return self.layers(images)
"""

DATA = """
import torch

from forger.data import ImageDataModule


class Stripes(ImageDataModule):
    native_shape = (1, 16, 16)

    def read(self, split):
        images = torch.zeros(40, 1, 16, 16, dtype=torch.uint8)
        images[::2, :, ::2] = 255
        return images, None
"""

FEATURES = """
import torch

from forger.metrics.extractor import FeatureExtractor, Features


class Corners(FeatureExtractor):
    name, score_name = "corners", "corner_score"

    def __init__(self, size=2):
        super().__init__()
        self.size, self.num_features = size, size * size

    def prepare(self, data, cache_dir):
        self.classes = ("dark", "bright")

    @property
    def fingerprint(self):
        return f"corner{self.size}"

    @torch.no_grad()
    def forward(self, images):
        features = images[:, 0, : self.size, : self.size].flatten(1).float() / 255
        return Features(features, features[:, :2])
"""

FOREIGN = """
import torch
from lightning import LightningDataModule
from torch.utils.data import DataLoader, TensorDataset


class Plain(LightningDataModule):
    def train_dataloader(self):
        images = torch.rand(48, 3, 16, 16) * 2 - 1
        return DataLoader(TensorDataset(images, torch.zeros(48)), batch_size=4, num_workers=0)
"""


def write_own(folder: Path) -> None:
    files = {
        "own_loss.py": LOSS,
        "own_networks.py": NETWORK,
        "own_data.py": DATA,
        "own_features.py": FEATURES,
        "configs/metrics/features/corners.yaml": "_target_: own_features.Corners\nsize: 2\n",
        "foreign_data.py": FOREIGN,
        "configs/loss/quadratic.yaml": "_target_: own_loss.Quadratic\nmargin: 2.0\n",
        "configs/model/linear.yaml": (
            "generator:\n  _target_: own_networks.Generator\n  latent_dim: 8\n"
            "discriminator:\n  _target_: own_networks.Discriminator\n"
        ),
        "configs/data/stripes.yaml": (
            "_target_: own_data.Stripes\nbatch_size: 8\nflip: false\nimage_size: null\n"
        ),
        "configs/data/plain.yaml": "_target_: foreign_data.Plain\n",
    }
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)


def own(folder: Path, *words: str) -> list[str]:
    """A training from `folder`, which holds the user's classes and configs."""
    kept = [w for w in short(folder) if not w.startswith("data")]
    return ["--config-dir", str(folder / "configs"), *latest([*kept, *words])]


TRUST = "trust=[own_networks,own_data,own_features]"
# Scores of few images by the user's own features.
SCORES = [
    *("metrics=quick", "metrics.features=corners", "metrics.num_fake=40", "metrics.coverage_k=2"),
    *("metrics.every_n_steps=1", "metrics.kid_subset_size=20", "metrics.kid_subsets=3"),
]


def test_own_features(tmp_path: Path) -> None:
    """One class and one YAML, in training and afterwards."""
    write_own(tmp_path)
    words = ["model=linear", "data=stripes", *SCORES, "metrics.features.size=3"]
    done = command(*own(tmp_path, *words), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    run = run_folder(tmp_path)
    assert [row["step"] for row in rows(run) if row["val/corners_fid"]] == ["1", "2"]
    assert float(rows(run)[-1]["val/corner_score"]) >= 1
    words = [f"run={run}", "metrics.features=corners", "metrics.coverage_k=2", TRUST]
    words = ["--config-dir", str(tmp_path / "configs"), *words]
    done = command(*words, cwd=tmp_path, script=ROOT / "evaluate.py")
    assert done.returncode == 0, done.stderr
    content = json.loads((run / "scores.json").read_text())
    assert content["protocol"]["extractor"] == {"name": "corners", "fingerprint": "corner2"}
    assert content["class_shares"]["classes"] == ["dark", "bright"]


def test_own_loss_network_and_data(tmp_path: Path) -> None:
    write_own(tmp_path)
    words = ["loss=quadratic", "loss.margin=1.5", "model=linear", "data=stripes"]
    done = command(*own(tmp_path, *words), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    run = run_folder(tmp_path)
    config = OmegaConf.load(run / "config.yaml")
    assert config.loss.margin == 1.5
    assert json.loads((run / "status.json").read_text())["iteration"] == 2


def test_own_names_are_checked_as_early_as_ours(tmp_path: Path) -> None:
    write_own(tmp_path)
    done = command(*own(tmp_path, "loss=quadratic", "loss.margni=1.5"), cwd=tmp_path)
    assert done.returncode == 2
    assert "margin" in done.stderr
    assert "Traceback" not in done.stderr
    assert not list((tmp_path / "logs").rglob("status.json"))


def test_a_data_module_that_knows_nothing_of_forger(tmp_path: Path) -> None:
    """Three batches per iteration are grouped for it."""
    write_own(tmp_path)
    words = ["data=plain", "model=dcgan", "loss.n_critic=3"]
    done = command(*own(tmp_path, *words), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads((run_folder(tmp_path) / "status.json").read_text())["status"] == "finished"


MAPPINGS = """
import torch
from lightning import LightningDataModule
from torch.utils.data import DataLoader


class Items(LightningDataModule):
    def __init__(self, low=-1.0, high=1.0, key="image", size=4):
        super().__init__()
        self.size = size
        noise = torch.rand(33, 3, 16, 16) * (high - low) + low
        self.items = [{"label": index, key: image} for index, image in enumerate(noise)]

    def train_dataloader(self):
        return DataLoader(self.items, batch_size=self.size, shuffle=True)
"""


def items(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """A training on batches that are mappings, the last of an epoch of one image."""
    write_own(folder)
    (folder / "own_items.py").write_text(MAPPINGS)
    (folder / "configs/data/items.yaml").write_text(
        "_target_: own_items.Items\nlow: -1.0\nhigh: 1.0\nkey: image\nsize: 4\n"
    )
    return command(*own(folder, "data=items", "model=dcgan", *words), cwd=folder)


def test_batches_that_are_mappings_over_more_than_an_epoch(tmp_path: Path) -> None:
    done = items(tmp_path, "trainer.max_steps=10", "data.low=0")
    assert done.returncode == 0, done.stderr
    assert json.loads((run_folder(tmp_path) / "status.json").read_text())["iteration"] == 10
    told = " ".join((done.stdout + done.stderr).split())
    assert told.count("all at or above 0") == 1
    assert "Items, images 3x16x16" in told


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["data.low=0", "data.high=255"], "; write images / 127.5 - 1"),
        (["data.key=x"], "it has 'label', 'x'"),
        (["data.size=1", "model=vanilla"], "model.generator: cannot be trained; BatchNorm needs"),
    ],
)
def test_images_that_are_none_stop_before_anything_is_written(
    tmp_path: Path, words: list[str], told: str
) -> None:
    done = items(tmp_path, *words)
    assert done.returncode == 2
    assert told in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr
    assert not list((tmp_path / "logs").rglob("status.json"))
