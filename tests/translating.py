"""Small translators, critics and data with sources, and the games of images to images."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import torch
from helpers import SHAPE, Squares, make_trainer
from torch import Tensor, nn

from forger.gan import GAN
from forger.losses import AdversarialLoss, LeastSquares
from forger.noise import Draws
from forger.tasks import Cut, Cycle, Paired, Refine, Task
from forger.updates import Updates

TASKS: dict[str, Any] = {"paired": Paired, "cycle": Cycle, "cut": Cut, "refine": Refine}
SMALL: dict[str, dict[str, Any]] = {  # settings that show in few iterations
    "paired": {},
    "cycle": {"pool": 6},
    "cut": {"nce_layers": (0, 2), "nce_patches": 20, "nce_dim": 8, "flip_equivariance": True},
    "refine": {"history": 6, "generator_warmup": 2, "discriminator_warmup": 2},
}


class Translator(nn.Module):
    """Two convolutions, with what is before and between them as features."""

    def __init__(self, image_shape: Any, source_shape: Any, width: int = 4) -> None:
        super().__init__()
        first = nn.Conv2d(source_shape[0], width, 3, padding=1)
        last = nn.Conv2d(width, image_shape[0], 3, padding=1)
        self.layers = nn.Sequential(first, nn.LeakyReLU(0.2), nn.Dropout(0.0), last, nn.Tanh())

    def forward(self, source: Tensor) -> Any:
        return self.layers(source)

    def features(self, source: Tensor, layers: Any) -> list[Tensor]:
        found = [source]
        for layer in self.layers:
            found.append(layer(found[-1]))
        return [found[number] for number in layers]


class Patches(nn.Sequential):
    """A map of logits."""

    def __init__(self, image_shape: Any, width: int = 4) -> None:
        first, last = nn.Conv2d(image_shape[0], width, 4, 2, 1), nn.Conv2d(width, 1, 4, 2, 1)
        super().__init__(first, nn.LeakyReLU(0.2), last)


class Dark(Squares):
    """Squares, and their negatives as sources, a little dimmed."""

    native_source_shape = SHAPE
    source_shape = SHAPE
    count = 96

    def read(self, split: str) -> dict[str, Tensor]:
        images = super().read(split)["image"]
        return {"image": images, "source": (255 - images) // 2 + 40}

    @property
    def train_sources(self) -> Tensor:
        return self._split("train")["source"]

    @property
    def test_sources(self) -> Tensor:
        return self._split("test")["source"]


class Unpaired(Dark):
    """The same, which do not belong together."""

    paired = False


class Labelled(Unpaired):
    """Sources of two classes, which do not belong to images."""

    classes = ("cat", "dog")

    def read(self, split: str) -> dict[str, Tensor]:
        return {**super().read(split), "source_label": torch.arange(self.count) % 2}


class Named(Dark):
    """The same, of two classes."""

    classes = ("cat", "dog")

    def read(self, split: str) -> dict[str, Tensor]:
        return {**super().read(split), "label": torch.arange(self.count) % 2}


def make_task(
    name: str, loss: AdversarialLoss | None = None, shapes: Any = (SHAPE, SHAPE), **settings: Any
) -> Task:
    """A game small enough for a test; the weights depend on nothing but this call."""
    torch.manual_seed(0)
    image, source = shapes
    judged = (image[0] + source[0], *image[1:]) if name == "paired" else image
    networks = {"generator": Translator(image, source), "discriminator": Patches(judged)}
    if name == "cycle":
        networks["generator_back"] = Translator(source, image)
        networks["discriminator_source"] = Patches(source)
    arguments = {**networks, "loss": loss or LeastSquares(), **SMALL[name], **settings}
    task: Task = TASKS[name](image_shape=image, source_shape=source, **arguments)
    return task


def make_gan(name: str, loss: AdversarialLoss | None = None, **settings: Any) -> GAN:
    adam = Updates(optimizer=partial(torch.optim.Adam, lr=2e-3, betas=(0.5, 0.9)))
    both = {"generator_updates": adam, "discriminator_updates": adam}
    return GAN(make_task(name, loss, **settings), ema_decay=0.9, seed=3, **both)


def dark() -> Dark:
    return Dark(batch_size=8, seed=5, flip=True)


def batch_of(rows: int = 3, seed: int = 1) -> dict[str, Tensor]:
    random = torch.Generator().manual_seed(seed)
    image, source = (torch.rand(rows, *SHAPE, generator=random) * 2 - 1 for _ in range(2))
    return {"image": image, "source": source}


def started(iteration: int = 1, seed: int = 0) -> Draws:
    draws = Draws(seed)
    draws.start(iteration)
    return draws


def states(folder: Path, name: str, **settings: Any) -> dict[str, Tensor]:
    """All weights after some iterations in 64 bits."""
    gan = make_gan(name, **({"pool": 0} if name == "cycle" else {}))
    if name == "refine":
        gan.task.history.size = 0  # type: ignore[union-attr]
    defaults = {"max_steps": 6, "precision": "64-true"}
    make_trainer(folder, **defaults, **settings).fit(gan, datamodule=dark())
    return gan.state_dict()
