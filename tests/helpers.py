"""Small data and trainings that several tests share."""

from __future__ import annotations

import inspect
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from lightning import Trainer
from torch import Tensor

from forger.conditions import Labels
from forger.data import ImageDataModule
from forger.gan import GAN
from forger.networks import dcgan, mlp, r3gan
from forger.networks.conditional import LabelBesideNoise, LabelPlanes
from forger.tasks import FromNoise

SHAPE = (1, 16, 16)
SIZES: dict[ModuleType, dict[str, Any]] = {  # of networks small enough for a test
    mlp: {"hidden": (16, 16)},
    r3gan: {"width": 4, "group_size": 4, "blocks": 1},
}
_OF_TASK = ("generator", "discriminator", "loss", "condition", "prior", "augment", "instance_noise")


class Squares(ImageDataModule):
    """Grey images of bright squares in random places: something to learn in few iterations."""

    native_shape = SHAPE
    count = 64

    def read(self, split: str) -> dict[str, Tensor]:
        generator = torch.Generator().manual_seed(len(split))
        images = torch.zeros(self.count, *SHAPE, dtype=torch.uint8)
        for image in images:
            row, column = torch.randint(0, 9, (2,), generator=generator).tolist()
            image[:, row : row + 8, column : column + 8] = 255
        return {"image": images}


class LabelledSquares(Squares):
    """The same, in three classes: how far to the right a square is."""

    classes = ("left", "middle", "right")

    def read(self, split: str) -> dict[str, Tensor]:
        images = super().read(split)["image"]
        column = images.amax((1, 2)).argmax(1)  # 0 to 8
        return {"image": images, "label": column // 3}


def small(model: Any, network: str, norm: str | None = None) -> dict[str, Any]:
    """The sizes of `Generator` or `Discriminator`, and `norm` where it has one to set."""
    takes = inspect.signature(getattr(model, network)).parameters
    norms = {"norm": norm} if norm is not None and "norm" in takes else {}
    return SIZES.get(model, {"width": 4}) | norms


def conditional(
    how: str, model: Any = mlp, norm: str = "auto", generator_norm: str = "batch"
) -> dict[str, Any]:
    """The networks of `make_gan` told the classes of `LabelledSquares`, and the condition.

    G is told beside its noise with `concat` and where it could have BatchNorm and has none; `norm`
    is D's.
    """
    torch.manual_seed(0)
    of_generator = small(model, "Generator", generator_norm)
    maker = partial(model.Generator, SHAPE, **of_generator)
    judge = partial(model.Discriminator, **small(model, "Discriminator", norm))
    condition: Any = Labels(LabelledSquares.classes, discriminator=how)  # type: ignore[arg-type]
    beside = how == "concat" or of_generator.get("norm") == "none"
    return {
        "generator": LabelBesideNoise(maker(latent_dim=8), num_classes=3, label_dim=2)
        if beside
        else maker(latent_dim=6, num_classes=3),
        "discriminator": LabelPlanes(judge((4, *SHAPE[1:])), num_classes=3)
        if how == "concat"
        else judge(SHAPE, num_classes=3, head=how),
        "condition": condition,
    }


def make_gan(model: Any = mlp, **arguments: Any) -> GAN:
    """A GAN small enough for a test; the weights depend on nothing but this call."""
    torch.manual_seed(0)
    networks = {
        "generator": model.Generator(SHAPE, latent_dim=6, **small(model, "Generator")),
        "discriminator": model.Discriminator(SHAPE, **small(model, "Discriminator")),
    }
    arguments = networks | arguments
    task = FromNoise(**{name: arguments.pop(name) for name in _OF_TASK if name in arguments})
    return GAN(task, **arguments)


def make_dcgan(**arguments: Any) -> GAN:
    """The same with convolutions, whose BatchNorm is LayerNorm where the loss wants that."""
    loss = arguments.get("loss")
    torch.manual_seed(0)
    discriminator = dcgan.Discriminator(
        SHAPE, width=4, gradient_penalty=bool(loss and loss.penalties)
    )
    return make_gan(dcgan, discriminator=discriminator, **arguments)


def make_trainer(folder: Path, **settings: Any) -> Trainer:
    """A quiet Trainer on the CPU that writes into `folder` alone."""
    defaults: dict[str, Any] = {
        "max_steps": 3,
        "max_epochs": -1,
        "accelerator": "cpu",
        "devices": 1,
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "log_every_n_steps": 1,
        "limit_val_batches": 0,
        "default_root_dir": folder,
    }
    return Trainer(**(defaults | settings))


def fit(
    gan: GAN, folder: Path, batch_size: int = 8, ckpt_path: Path | None = None, **settings: Any
) -> Trainer:
    """Trains on `Squares`, with labels where the GAN wants them, and returns the Trainer."""
    trainer = make_trainer(folder, **settings)
    data = LabelledSquares if "label" in gan.task.members else Squares
    trainer.fit(gan, datamodule=data(batch_size=batch_size, seed=0), ckpt_path=ckpt_path)
    return trainer
