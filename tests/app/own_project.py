"""A loss, networks, data sets and features of a user's own project, from outside the package."""

from __future__ import annotations

from pathlib import Path

from training import latest, short

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
        return {"image": images}
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


class Items(LightningDataModule):
    def __init__(self, low=-1.0, high=1.0, key="image", size=4):
        super().__init__()
        self.size = size
        noise = torch.rand(33, 3, 16, 16) * (high - low) + low
        self.items = [{"label": index, key: image} for index, image in enumerate(noise)]

    def train_dataloader(self):
        return DataLoader(self.items, batch_size=self.size, shuffle=True)
"""

FILES = {
    "own_loss.py": LOSS,
    "own_networks.py": NETWORK,
    "own_data.py": DATA,
    "own_features.py": FEATURES,
    "foreign_data.py": FOREIGN,
    "configs/metrics/features/corners.yaml": "_target_: own_features.Corners\nsize: 2\n",
    "configs/loss/quadratic.yaml": "_target_: own_loss.Quadratic\nmargin: 2.0\n",
    "configs/model/linear.yaml": (
        "generator:\n  _target_: own_networks.Generator\n  latent_dim: 8\n"
        "discriminator:\n  _target_: own_networks.Discriminator\n"
    ),
    "configs/data/stripes.yaml": (
        "_target_: own_data.Stripes\nbatch_size: 8\nflip: false\nimage_size: null\n"
    ),
    "configs/data/plain.yaml": "_target_: foreign_data.Plain\n",
    "configs/data/items.yaml": (
        "_target_: foreign_data.Items\nlow: -1.0\nhigh: 1.0\nkey: image\nsize: 4\n"
    ),
}
# Scores of few images by the user's own features.
SCORES = [
    *("metrics=quick", "metrics/features=corners", "metrics.num_fake=40", "metrics.coverage_k=2"),
    *("metrics.every_n_steps=1", "metrics.kid_subset_size=20", "metrics.kid_subsets=3"),
]


def write_own(folder: Path) -> None:
    """Writes the user's classes and configs."""
    for name, content in FILES.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)


def own(folder: Path, *overrides: str) -> list[str]:
    """A training from `folder`, on the command line."""
    return ["--config-dir", str(folder / "configs"), *training(folder, *overrides)]


def training(folder: Path, *overrides: str) -> list[str]:
    """Overrides of a short training on the user's own data."""
    kept = [override for override in short(folder) if not override.startswith("data")]
    return latest([*kept, *overrides])
