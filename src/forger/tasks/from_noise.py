"""The original game: images from noise, and from what a condition adds."""

from __future__ import annotations

from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from forger.augment import Augment
from forger.augment.base import Rows
from forger.bounds import NonNegativeFloat, check_choice
from forger.conditions import Condition
from forger.consistency import near, squared_difference
from forger.copying import in_float32
from forger.errors import ConfigError
from forger.gradients import full_precision
from forger.losses import AdversarialLoss
from forger.noise import PRIORS, Draws, Prior
from forger.path_length import PathLength, Paths, path_lengths
from forger.sampling.sampler import Sampler
from forger.seeds import Purpose
from forger.tasks.base import Batch, Terms
from forger.tasks.image_task import ImageTask
from forger.tasks.judged import check_made


class FromNoise(ImageTask):
    """Generates images from noise (arXiv:1406.2661), and from a class where there is a condition.

    Args:
        generator: noise `(B, latent_dim)`, and what the condition gives, to images `(B, C, H, W)`
            in [-1, 1]; has the attribute `latent_dim`.
        discriminator: as `loss`, `condition`, `augment` and `instance_noise` see `ImageTask`.
        prior: distribution of the noise, `normal` N(0, 1) or `uniform` U(-1, 1).

    Raises:
        ConfigError: `prior` is unknown, G has no `latent_dim`, the loss penalises path lengths and
            G has no styles, a network is of stages, or for a reason of `ImageTask`.
    """

    judges_stages: ClassVar[bool] = False
    """Whether networks make and judge images of several sides, their `stage_sides`."""

    regularizers = (*ImageTask.regularizers, "zcr_d", "zcr_g", "path_length")
    starts_anew = (*ImageTask.starts_anew, "path_length.")

    def __init__(
        self,
        generator: nn.Module,
        discriminator: nn.Module,
        loss: AdversarialLoss | None = None,
        condition: Condition | None = None,
        prior: Prior = "normal",
        augment: Augment | None = None,
        instance_noise: NonNegativeFloat = 0.0,
    ) -> None:
        super().__init__(generator, discriminator, loss, condition, augment, instance_noise)
        check_choice("model.prior", prior, Prior)
        if not isinstance(getattr(generator, "latent_dim", None), int):
            raise ConfigError(
                "model.generator: needs an attribute latent_dim, the size of its noise"
            )
        sides = [getattr(side, "stage_sides", ()) for side in (generator, discriminator)]
        if any(sides) and not self.judges_stages:
            raise ConfigError(
                f"model: its images are made in stages, of which {type(self).__name__} judges one;"
                " write task=stages, or another model"
            )
        self.prior: Prior = prior
        self.path_length: PathLength | None = None
        if self.loss.path_length > 0:
            self.path_length = PathLength(self.loss.path_length, self.loss.path_length_interval)
            if not getattr(generator, "has_styles", False):
                raise ConfigError(
                    f"loss.path_length={self.loss.path_length}: is for generators with styles;"
                    " write model=stylegan2, or loss.path_length=0"
                )

    @property
    def latent_dim(self) -> int:
        """Size of the noise."""
        return int(self.generator.latent_dim)  # type: ignore[arg-type]

    def describe(self) -> str:
        """Says what images are made from."""
        return f"z {self.latent_dim} {self.prior}{self.condition.describe()}"

    def sampler(self, generator: nn.Module) -> Sampler:
        """Returns what samples images of a seed, of all classes as often as trained on."""
        return Sampler(generator, self.prior, self.condition)

    def fakes(self, batch: Batch, draws: Draws) -> Batch:
        """Generates an image from fresh noise for each one of the batch."""
        shape = batch["image"].shape
        noise, extra, given = self._draw(len(batch["image"]), draws)
        images = check_made(self._generate(noise, extra, given), shape)
        if self.loss.zcr_d > 0 or self.loss.zcr_g > 0:
            given |= {"noise": noise} if extra is None else {"noise": noise, "extra": extra}
        return {"image": images, **given}

    def generator_terms(self, batch: Batch, fakes: Batch, draws: Draws) -> Terms:
        """Returns the adversarial loss, the penalty that is due, and the terms of classes."""
        rows = partial(draws.rows, Purpose.AUGMENTATION)
        fake, real_logits = self.judged(fakes, rows), None
        if self.needs_fresh_batch:
            real_logits = self.judged(batch, rows).logits
        added, logged = self.condition.generator_terms(fake.classes, fakes)
        added = added | self._path_length(batch, draws)
        if self.loss.zcr_g > 0:
            images = (full_precision(one) for one in (fakes["image"], self._near(fakes, rows)))
            added["zcr_g"] = -self.loss.zcr_g * squared_difference(*images)
        return Terms(self.loss.generator(fake.logits, real_logits), added, logged)

    def consistency(
        self, batch: Batch, fakes: Batch, real_logits: Tensor, fake_logits: Tensor, rows: Rows
    ) -> dict[str, Tensor]:
        """Returns the weighted terms of D, of images and of noise changed a little."""
        terms = super().consistency(batch, fakes, real_logits, fake_logits, rows)
        if self.loss.zcr_d > 0:
            with torch.no_grad():
                images = self._near(fakes, rows)
            other = self.judged({**fakes, "image": images}, rows).logits
            terms["zcr_d"] = self.loss.zcr_d * squared_difference(fake_logits, other)
        return terms

    def _draw(self, rows: int, draws: Draws) -> tuple[Tensor, Tensor | None, dict[str, Tensor]]:
        """Draws noise, numbers N(0, 1) that G asks for beside, and what the condition adds."""
        noise = draws.rows(Purpose.TRAINING_NOISE, PRIORS[self.prior], rows, self.latent_dim)
        count, extra = getattr(self.generator, "extra_noise", 0), None
        if count:
            extra = draws.rows(Purpose.GENERATOR_NOISE, PRIORS["normal"], rows, count)
        return noise, extra, self.condition.draw(rows, draws)

    def _generate(self, noise: Tensor, extra: Tensor | None, given: Batch) -> Any:
        named = {} if extra is None else {"extra": extra}
        return self.run(self.generator, noise, *self.condition.inputs(given), **named)

    def _near(self, fakes: Batch, rows: Rows) -> Tensor:
        """Generates images from noise near that of fakes."""
        noise = near(fakes["noise"], rows, self.loss.zcr_radius)
        images: Tensor = self._generate(noise, fakes.get("extra"), fakes)
        return images

    def _path_length(self, batch: Batch, draws: Draws) -> dict[str, Tensor]:
        """Returns the weighted path-length penalty where it is due, of fresh fakes in float32."""
        term = self.path_length
        if term is None or draws.iteration % term.interval > 0 or not torch.is_grad_enabled():
            return {}
        shape = batch["image"].shape
        noise, extra, given = self._draw(shape[0], draws)
        directions = full_precision(draws.rows(Purpose.PENALTIES, PRIORS["normal"], *shape))
        paths = in_float32(Paths(self.generator))
        images, styles = paths(noise, extra, *self.condition.inputs(given))
        return {"penalty_path_length": term(path_lengths(images, styles, directions))}
