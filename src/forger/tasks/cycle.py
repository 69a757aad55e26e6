"""Image to image without pairs, both ways: CycleGAN."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from forger.bounds import NonNegativeFloat, NonNegativeInt, check_bounds
from forger.errors import ConfigError
from forger.gradients import full_precision
from forger.image_pool import ImagePool
from forger.losses import AdversarialLoss, LeastSquares
from forger.noise import Draws
from forger.sampling.translator import Translator
from forger.tasks.base import Batch, Task, Terms
from forger.tasks.held_out import HeldOut, ImageShape
from forger.tasks.judged import check_made, read_judged
from forger.tasks.translation import check_weights


class Both(nn.Module):
    """Two networks, of one side, each of which is run by itself."""

    def compile(self, *arguments: Any, **named: Any) -> None:
        """Compiles each, in place."""
        for network in self.children():
            network.compile(*arguments, **named)


class TwoWay(Both):
    """The generator's side: `there`, from source to image, which `forward` is, and `back`."""

    def __init__(self, there: nn.Module, back: nn.Module) -> None:
        super().__init__()
        self.there, self.back = there, back

    @property
    def translator(self) -> nn.Module:
        """The one network that makes images."""
        return self.there

    def forward(self, source: Tensor) -> Any:
        """Translates sources to images."""
        return self.there(source)


class TwoCritics(Both):
    """The discriminator's side: a critic `of_images`, which `forward` is, and one `of_sources`."""

    def __init__(self, of_images: nn.Module, of_sources: nn.Module) -> None:
        super().__init__()
        self.of_images, self.of_sources = of_images, of_sources

    def forward(self, images: Tensor) -> Any:
        """Judges images."""
        return self.of_images(images)


class Cycle(Task):
    """CycleGAN (arXiv:1703.10593): translators G and F between two sets of images, without pairs.

    With sources x and images y they minimise
    `lambda_gan (L(D_y(G(x))) + L(D_x(F(y)))) + lambda_cycle (E|F(G(x)) - x| + E|G(F(y)) - y|)
    + lambda_identity lambda_cycle (E|G(y) - y| + E|F(x) - x|)`, and both critics `lambda_d` of
    their loss, by pools of earlier fakes.

    The paper's losses are `(D - 1)^2` for G and half of `(D(y) - 1)^2 + D(G(x))^2` for D;
    `LeastSquares` is half of the first and all of the second, hence the defaults 2 and 1.

    Args:
        generator: sources to images, both in [-1, 1].
        discriminator: images to logits, one or a map of them for each.
        loss: adversarial; None: `LeastSquares`.
        generator_back: images to sources.
        discriminator_source: of sources.
        image_shape: channels, height, width of images.
        source_shape: of sources.
        lambda_cycle: weight of the way round, a mean over all pixels.
        lambda_identity: of what is there already, times that; 0 where channels differ.
        lambda_gan: of the adversarial terms of G and F.
        lambda_d: of those of the critics.
        pool: earlier fakes that each critic's process keeps; half of all that it is shown is old.

    Raises:
        ConfigError: a setting is out of range, the loss has penalties or
            compares with real images, or `lambda_identity` is above 0 where channels differ.
    """

    members = ("image", "source")
    translates = True

    def __init__(
        self,
        generator: nn.Module,
        discriminator: nn.Module,
        loss: AdversarialLoss | None,
        generator_back: nn.Module,
        discriminator_source: nn.Module,
        image_shape: ImageShape,
        source_shape: ImageShape,
        lambda_cycle: NonNegativeFloat = 10.0,
        lambda_identity: NonNegativeFloat = 0.5,
        lambda_gan: NonNegativeFloat = 2.0,
        lambda_d: NonNegativeFloat = 1.0,
        pool: NonNegativeInt = 50,
    ) -> None:
        critics = TwoCritics(discriminator, discriminator_source)
        super().__init__(TwoWay(generator, generator_back), critics, loss or LeastSquares())
        weights = {"lambda_cycle": lambda_cycle, "lambda_identity": lambda_identity}
        check_weights(**weights, lambda_gan=lambda_gan, lambda_d=lambda_d)
        check_bounds(pool, NonNegativeInt, "task.pool")
        self.held_out = HeldOut(image_shape, source_shape)
        self.lambda_cycle, self.lambda_identity = lambda_cycle, lambda_identity
        self.lambda_gan, self.lambda_d = lambda_gan, lambda_d
        self.pools = {"image": ImagePool(pool), "source": ImagePool(pool)}
        if self.loss.penalties or self.loss.generator_sees_real:
            raise ConfigError(
                f"loss: Cycle adds no penalties and compares with no real images, as"
                f" {type(self.loss).__name__} would; write loss=least_squares, hinge or"
                " non_saturating, without penalties"
            )
        if lambda_identity * lambda_cycle > 0 and image_shape[:1] != source_shape[:1]:
            raise ConfigError(
                f"task.lambda_identity={lambda_identity}: a translator leaves no image as it is"
                f" between images {image_shape} and sources {source_shape}; write"
                " task.lambda_identity=0"
            )

    def setup(self, datamodule: Any) -> None:
        """Keeps some held-out sources and images."""
        self.held_out.setup(datamodule)

    def example(self, rows: int, image_shape: ImageShape) -> Batch:
        """Returns a batch by which shapes and memory are found out."""
        return {**super().example(rows, image_shape), "source": self.held_out.example(rows)}

    def describe(self) -> str:
        """Says what images are made from."""
        return f"{self.held_out.describe()}, and back"

    def fakes(self, batch: Batch, draws: Draws) -> Batch:
        """Translates the sources to images, and the images to sources."""
        there, back = self._ways
        return {
            "image": check_made(self.run(there, batch["source"]), batch["image"].shape),
            "source": check_made(self.run(back, batch["image"]), batch["source"].shape),
        }

    def discriminator_terms(self, batch: Batch, fakes: Batch, draws: Draws, update: int) -> Terms:
        """Returns the adversarial losses of both critics, by fakes of their pools."""
        losses, reals, others = [], [], []
        for name, pool in self.pools.items():
            shown = pool(fakes[name], draws)
            reals.append(self._logits(name, batch[name]))
            others.append(self._logits(name, shown))
            losses.append(self.loss.discriminator(reals[-1], others[-1]))
        real, fake = (torch.cat([one.flatten() for one in both]) for both in (reals, others))
        return Terms(self.lambda_d * (losses[0] + losses[1]), real_logits=real, fake_logits=fake)

    def generator_terms(self, batch: Batch, fakes: Batch, draws: Draws) -> Terms:
        """Returns the adversarial losses of both ways, the way round, and the identity."""
        image, source = (self._logits(name, fakes[name]) for name in self.members)
        adversarial = self.loss.generator(image, None) + self.loss.generator(source, None)
        there, back = self._ways
        round_image = self._distance(there, fakes["source"], batch["image"])
        round_source = self._distance(back, fakes["image"], batch["source"])
        added = {"cycle": self.lambda_cycle * (round_image + round_source)}
        if weight := self.lambda_cycle * self.lambda_identity:
            kept = [self._distance(there, batch["image"], batch["image"])]
            kept.append(self._distance(back, batch["source"], batch["source"]))
            added["identity"] = weight * (kept[0] + kept[1])
        return Terms(self.lambda_gan * adversarial, added)

    def judge(self, discriminator: nn.Module, batch: Batch) -> Tensor:
        """Returns logits of images, `(B,)` or `(B, parts)`."""
        return read_judged(discriminator(batch["image"]), len(batch["image"])).logits

    def sampler(self, generator: nn.Module) -> Translator:
        """Returns what translates held-out sources, and images of a user's, both ways."""
        return self.held_out.translator(generator)

    def process_state(self) -> dict[str, Any]:
        """Returns the pools."""
        return {name: pool.images for name, pool in self.pools.items()}

    def load_process_state(self, state: Mapping[str, Any]) -> None:
        """Restores them."""
        for name, pool in self.pools.items():
            pool.images = state[name]

    @property
    def _ways(self) -> tuple[nn.Module, nn.Module]:
        there, back = self.generator.there, self.generator.back
        return there, back  # type: ignore[return-value]

    def _logits(self, name: str, images: Tensor) -> Tensor:
        critic: Any = getattr(self.discriminator, f"of_{name}s")
        return read_judged(self.run(critic, images), len(images)).logits

    def _distance(self, way: nn.Module, given: Tensor, wanted: Tensor) -> Tensor:
        return (full_precision(self.run(way, given)) - wanted).abs().mean()
