"""The base of games that turn images into others, whose discriminator sees the results."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

from torch import Tensor, nn

from forger.augment import Augment
from forger.bounds import NonNegativeFloat, check_bounds
from forger.losses import AdversarialLoss
from forger.noise import Draws
from forger.sampling.translator import Translator
from forger.seeds import Purpose
from forger.tasks.base import Batch, Terms
from forger.tasks.held_out import HeldOut, ImageShape
from forger.tasks.image_task import ImageTask
from forger.tasks.judged import check_made


class Translation(ImageTask):
    """Base of games that make an `image` from a `source`, both members of a batch.

    A game that derives from it says what the generator minimises beside.

    Args:
        generator: sources `(B, C', H, W)` to images `(B, C, H, W)`, both in [-1, 1].
        discriminator: as `loss`, `augment` and `instance_noise` see `ImageTask`.
        image_shape: channels, height, width of images.
        source_shape: of sources.
        lambda_gan: weight of the adversarial term in the generator's loss.
        lambda_d: of the discriminator's adversarial loss.

    Raises:
        ConfigError: a weight is out of range, or for a reason of `ImageTask`.
    """

    translates = True

    def __init__(
        self,
        generator: nn.Module,
        discriminator: nn.Module,
        loss: AdversarialLoss | None,
        image_shape: ImageShape,
        source_shape: ImageShape,
        augment: Augment | None = None,
        instance_noise: float = 0.0,
        lambda_gan: float = 1.0,
        lambda_d: float = 1.0,
    ) -> None:
        super().__init__(generator, discriminator, loss, None, augment, instance_noise)
        check_weights(lambda_gan=lambda_gan, lambda_d=lambda_d)
        self.members = ("image", "source")
        self.lambda_gan, self.lambda_d = lambda_gan, lambda_d
        self.held_out = HeldOut(image_shape, source_shape)

    def setup(self, datamodule: Any) -> None:
        """Keeps some held-out sources and images."""
        self.held_out.setup(datamodule)

    def example(self, rows: int, image_shape: ImageShape) -> Batch:
        """Returns a batch by which shapes and memory are found out."""
        return {**super().example(rows, image_shape), "source": self.held_out.example(rows)}

    def describe(self) -> str:
        """Says what images are made from."""
        return self.held_out.describe()

    def sampler(self, generator: nn.Module) -> Translator:
        """Returns what translates held-out sources, and images of a user's."""
        return self.held_out.translator(generator, self.judges_pairs)

    def fakes(self, batch: Batch, draws: Draws) -> Batch:
        """Translates the sources of the batch."""
        images = self.run(self.generator, batch["source"])
        return {"image": check_made(images, batch["image"].shape), "source": batch["source"]}

    def discriminator_terms(self, batch: Batch, fakes: Batch, draws: Draws, update: int) -> Terms:
        """Returns those of `ImageTask`, the adversarial loss weighted."""
        terms = super().discriminator_terms(batch, fakes, draws, update)
        return replace(terms, loss=self.lambda_d * self.parts(terms.fake_logits) * terms.loss)

    def adversarial(self, batch: Batch, fakes: Batch, draws: Draws) -> Tensor:
        """Returns the generator's adversarial term, weighted."""
        rows = partial(draws.rows, Purpose.AUGMENTATION)
        fake = self.judged(fakes, rows).logits
        real = self.judged(batch, rows).logits if self.needs_fresh_batch else None
        return self.lambda_gan * self.parts(fake) * self.loss.generator(fake, real)

    def parts(self, logits: Tensor) -> int:
        """Returns how often the mean over logits `(B,)` or `(B, parts)` counts: once."""
        return 1


def check_weights(**weights: float) -> None:
    """Raises `ConfigError` unless settings of a task are numbers of at least 0."""
    for name, weight in weights.items():
        check_bounds(weight, NonNegativeFloat, f"task.{name}")
