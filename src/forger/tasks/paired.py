"""Image to image from pairs: pix2pix."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from forger.bounds import NonNegativeFloat
from forger.errors import ConfigError, DataError
from forger.gradients import full_precision
from forger.losses import AdversarialLoss
from forger.noise import Draws
from forger.tasks.base import Batch, Terms
from forger.tasks.held_out import ImageShape
from forger.tasks.judged import Judged
from forger.tasks.translation import Translation, check_weights


class Paired(Translation):
    """pix2pix (arXiv:1611.07004): makes the image that belongs to each source.

    G minimises `lambda_gan L_gan + lambda_l1 E|y - G(x)|`, and D, which sees an image with its
    source, `lambda_d` of its loss (the paper halves it).

    Args:
        generator: sources to images, see `Translation`.
        discriminator: `(B, C + C', H, W)`, image behind source, to logits.
        loss: adversarial; the paper's is cross-entropy, `NonSaturating`.
        image_shape: channels, height, width of images.
        source_shape: of sources; of the same height and width.
        lambda_l1: weight of the distance to the right image, a mean over all pixels.
        lambda_gan: of G's adversarial term; 0 with a D that does not matter is plain regression.
        lambda_d: of D's loss.

    Raises:
        ConfigError: the sides differ, or for a reason of `Translation`.
    """

    judges_pairs = True
    regularizers = ("lecam",)  # a change of the image alone would leave its source behind

    def __init__(
        self,
        generator: nn.Module,
        discriminator: nn.Module,
        loss: AdversarialLoss | None,
        image_shape: ImageShape,
        source_shape: ImageShape,
        lambda_l1: NonNegativeFloat = 100.0,
        lambda_gan: NonNegativeFloat = 1.0,
        lambda_d: NonNegativeFloat = 0.5,
    ) -> None:
        own: dict[str, Any] = {"lambda_gan": lambda_gan, "lambda_d": lambda_d}
        super().__init__(generator, discriminator, loss, image_shape, source_shape, **own)
        check_weights(lambda_l1=lambda_l1)
        self.lambda_l1 = lambda_l1
        if image_shape[1:] != source_shape[1:]:
            raise ConfigError(
                f"task: D sees images {image_shape} with their sources {source_shape}, which must"
                " be of one height and width; write data.image_size=<pixels>"
            )

    def setup(self, datamodule: Any) -> None:
        """Keeps some held-out pairs.

        Raises:
            DataError: the data has none.
        """
        if not getattr(datamodule, "paired", True):
            raise DataError(
                f"task: needs pairs, and {type(datamodule).__name__} has sources and images that"
                " do not belong together; write task=cycle or task=cut"
            )
        super().setup(datamodule)

    def generator_terms(self, batch: Batch, fakes: Batch, draws: Draws) -> Terms:
        """Returns the adversarial loss, and the distance to the right images."""
        distance = (full_precision(fakes["image"]) - batch["image"]).abs().mean()
        return Terms(self.adversarial(batch, fakes, draws), {"l1": self.lambda_l1 * distance})

    def _judged_by(self, discriminator: Callable[..., Any], seen: Batch) -> Judged:
        pair = torch.cat([seen["source"], seen["image"]], dim=1)
        return super()._judged_by(discriminator, {**seen, "image": pair})
