"""What the check must know of forger's own classes and cannot read off a signature.

Owns a small table, held beside the real objects by a test. Classes of the user's own are in none of
it: their constructors say what is wrong.
"""

from __future__ import annotations

import ast
from dataclasses import dataclass
from functools import cache
from typing import Any

from forger.app.config.accepted import Select
from forger.app.config.sources import BrokenModuleError, NotFoundError, locate

LOSSES = "forger.losses"
MLP, DCGAN = "forger.networks.mlp", "forger.networks.dcgan"
SUBPIXEL = "forger.networks.subpixel"
FOLDER = "forger.data.folder.ImageFolder"

SEE_REAL = {"RelativisticAverage", "RelativisticPairing", "R3GAN"}
"""Losses whose generator compares with fresh real images."""

NO_BOUNDARY = SEE_REAL | {"Wasserstein"}
"""Losses whose D decides at no certain logit: its rates are relative, and named so."""

NEED_TOTAL = {"forger.schedules.Linear", "forger.schedules.Cosine"}
"""Schedules that end with the run."""


@dataclass(frozen=True)
class DataSet:
    """A data set whose images are known before any is read.

    Args:
        shape: channels, height, width.
        count: training images.
    """

    shape: tuple[int, int, int]
    count: int


DATA_SETS = {
    "forger.data.torchvision_sets.MNIST": DataSet((1, 28, 28), 60_000),
    "forger.data.torchvision_sets.FashionMNIST": DataSet((1, 28, 28), 60_000),
    "forger.data.torchvision_sets.CIFAR10": DataSet((3, 32, 32), 50_000),
    "forger.data.sample.MNISTSample": DataSet((1, 28, 28), 4_500),
}


PREFIXES = {
    "forger.metrics.inception.Inception": "",
    "forger.metrics.classifier.Classifier": "classifier_",
    "forger.metrics.pixels.Pixels": "pixels_",
}
"""What stands in front of the names of scores by our features."""


@cache
def home_of(target: Any) -> str:
    """Returns the full name of a class where it is defined, whatever name it was imported by."""
    try:
        definition = locate(target) if isinstance(target, str) else None
    except (BrokenModuleError, NotFoundError):
        return ""
    if definition is None or not isinstance(definition.node, ast.ClassDef):
        return ""
    return f"{definition.module.name}.{definition.node.name}"


def target_of(select: Select, key: str) -> str:
    """Returns the full name of the class that a part of the config builds; "" where unknown."""
    target = select(f"{key}._target_")
    return home_of(target) if isinstance(target, str) else ""


def loss_name(select: Select) -> str | None:
    """Returns the class of the loss if it is one of ours and all its settings are right."""
    home, _, name = target_of(select, "loss").rpartition(".")
    return name if home == LOSSES and select.sound("loss") else None


def penalises_gradients(select: Select) -> bool:
    """Tells whether the loss surely has a gradient penalty, as `bool(loss.penalties)` does."""
    name = loss_name(select)
    if name is None:
        return False
    weights = ["r1_gamma", "r2_gamma"] + (["gradient_penalty"] if name == "Wasserstein" else [])
    return name in ("Dragan", "R3GAN") or any((select(f"loss.{key}") or 0) > 0 for key in weights)


def batches_per_iteration(select: Select) -> int:
    """Returns how many batches of real images one iteration takes at least, as the GAN says."""
    name = loss_name(select)
    if name is None or not select.sound("model.accumulate"):
        return 1
    generator = (select("model.accumulate.generator") or 1) if name in SEE_REAL else 0
    critic: int = select("loss.n_critic") or 1
    return critic * (select("model.accumulate.discriminator") or 1) + generator


def image_shape(select: Select) -> tuple[int, int, int] | None:
    """Returns channels, height and width where the data set is one of ours."""
    if not select.sound("data"):
        return None
    home, size = target_of(select, "data"), select("data.image_size")
    if home == FOLDER:
        return (select("data.channels") or 3, *(size or 64,) * 2)
    known = DATA_SETS.get(home)
    if known is None or size is None:
        return None if known is None else known.shape
    return (known.shape[0], size, size)


def ours(select: Select) -> bool:
    """Tells whether the data set is one of ours."""
    return target_of(select, "data") in {*DATA_SETS, FOLDER}
