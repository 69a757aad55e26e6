"""The original game: images from noise, and from what a condition adds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from forger.augment import Augment
from forger.augment.base import Rows, normal, rows_of_torch
from forger.bounds import NonNegativeFloat, check_bounds
from forger.compiling import uncompiled
from forger.conditions import Condition
from forger.consistency import Consistency, squared_difference
from forger.copying import in_float32
from forger.errors import ConfigError
from forger.gradients import full_precision
from forger.lecam import LeCam
from forger.losses import AdversarialLoss, NonSaturating
from forger.noise import PRIORS, Draws, Prior
from forger.path_length import PathLength, Paths, path_lengths
from forger.sampling.sampler import Sampler
from forger.seeds import Purpose, stream
from forger.tasks.base import BATCH_NORMS, Batch, Task, Terms
from forger.tasks.judged import Judged, read_judged


class FromNoise(Task):
    """Generates images from noise (arXiv:1406.2661), and from a class where there is a condition.

    Real and fake images pass through D apart, so that BatchNorm sees each alone, or in one batch
    where D says that a logit depends on its own image only (`independent_samples`). All that D is
    given passes through the augmentation first; penalties are of gradients in what comes before it.

    Args:
        generator: noise `(B, latent_dim)`, and what the condition gives, to images `(B, C, H, W)`
            in [-1, 1]; has the attribute `latent_dim`.
        discriminator: images, and what the condition gives, to logits, one or more for each image,
            never probabilities; or to these and the logits of classes `(B, num_classes)`.
        loss: what both minimise, with its penalties.
        condition: what both networks are given beside noise and images.
        prior: distribution of the noise, `normal` N(0, 1) or `uniform` U(-1, 1).
        augment: what becomes of images, real and fake alike, before D sees them.
        instance_noise: deviation of normal noise (arXiv:1610.04490) on what D sees after that, of
            its own for each pixel; a schedule may scale it.

    Raises:
        ConfigError: `prior` is unknown, G has no `latent_dim`, D has BatchNorm while the loss
            penalises gradients per sample, `augment` follows D's decisions, which it does not
            make by this loss, or the loss penalises path lengths and G has no styles.
    """

    adds_regularizers = True
    starts_anew = ("augment.", "lecam.", "path_length.")

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
        super().__init__(generator, discriminator, loss or NonSaturating())
        if prior not in PRIORS:
            raise ConfigError(f"model.prior={prior}: must be one of {', '.join(PRIORS)}")
        check_bounds(instance_noise, NonNegativeFloat, "task.instance_noise")
        if not isinstance(getattr(generator, "latent_dim", None), int):
            raise ConfigError(
                "model.generator: needs an attribute latent_dim, the size of its noise"
            )
        self.condition = condition or Condition()
        self.augment, self.instance_noise = augment or Augment(), instance_noise
        own = self.loss
        self.lecam = LeCam(own.lecam, own.lecam_decay, own.lecam_start) if own.lecam > 0 else None
        self.consistency = Consistency(
            **{f.name: getattr(own, f.name) for f in fields(Consistency)}
        )
        self.prior: Prior = prior
        self.members = ("image", *self.condition.members)
        self.needs_fresh_batch = self.loss.generator_sees_real
        self.penalties = self.loss.penalties
        if self.penalties and any(isinstance(m, BATCH_NORMS) for m in discriminator.modules()):
            raise ConfigError(
                f"model.discriminator: BatchNorm under a gradient penalty"
                f" ({', '.join(self.penalties)}), which is taken per sample while BatchNorm mixes"
                " samples; allowed: norm=auto|layer|instance|spectral|none"
            )
        if self.augment.is_adaptive and self.loss.boundary is None:
            raise ConfigError(
                f"augment.p=null: follows which real images D finds real, and with"
                f" {type(self.loss).__name__} no logit decides that; write augment.p=<probability>"
            )
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

    @property
    def factor_names(self) -> frozenset[str]:
        """Of `penalty`, `augment` and `instance_noise` those that are on."""
        on = {
            "penalty": bool(self.penalties),
            "augment": self.augment.takes_factor,
            "instance_noise": self.instance_noise > 0,
        }
        return frozenset(name for name, value in on.items() if value)

    def setup(self, datamodule: Any) -> None:
        """Takes from the data what the condition must know of it."""
        self.condition.setup(datamodule)

    def check(self, batch: Batch) -> None:
        """Raises `DataError` unless the condition knows what is given."""
        self.condition.check(batch)

    def fakes(self, batch: Batch, draws: Draws) -> Batch:
        """Generates an image from fresh noise for each one of the batch."""
        shape = batch["image"].shape
        noise, extra, given = self._draw(len(batch["image"]), draws)
        images = self._generate(noise, extra, given)
        if not isinstance(images, Tensor) or images.shape != shape:
            found = tuple(images.shape[1:]) if isinstance(images, Tensor) else type(images).__name__
            raise ConfigError(
                f"model.generator: makes images {found}, the data holds {tuple(shape[1:])}"
            )
        if self.consistency.of_noise:
            given |= {"noise": noise} if extra is None else {"noise": noise, "extra": extra}
        return {"image": images, **given}

    def discriminator_terms(self, batch: Batch, fakes: Batch, draws: Draws, update: int) -> Terms:
        """Returns the adversarial loss, the penalties that are due, and the terms of classes."""
        rows = partial(draws.rows, Purpose.AUGMENTATION)
        real, fake = self._judge_both(self._seen(batch, rows), self._seen(fakes, rows))
        self.augment.see(real.logits.detach(), self.loss.boundary)
        penalties = self._penalties(batch, fakes, draws, update)
        terms = self._consistency(batch, fakes, real.logits, fake.logits, rows)
        if self.lecam is not None:
            terms |= self.lecam.terms(real.logits, fake.logits, update)
        added, logged = self.condition.discriminator_terms(real.classes, batch)
        return Terms(
            loss=self.loss.discriminator(real.logits, fake.logits),
            added=penalties | terms | added,
            logged=logged | self.augment.logged(self._augment_factor, fake.logits.device),
            real_logits=real.logits,
            fake_logits=fake.logits,
        )

    def generator_terms(self, batch: Batch, fakes: Batch, draws: Draws) -> Terms:
        """Returns the adversarial loss, the penalty that is due, and the terms of classes."""
        rows = partial(draws.rows, Purpose.AUGMENTATION)
        fake, real_logits = self._judge(self._seen(fakes, rows)), None
        if self.needs_fresh_batch:
            real_logits = self._judge(self._seen(batch, rows)).logits
        added, logged = self.condition.generator_terms(fake.classes, fakes)
        added = added | self._path_length(batch, draws)
        if self.consistency.zcr_g > 0:
            images = (full_precision(one) for one in (fakes["image"], self._near(fakes, rows)))
            added["zcr_g"] = -self.consistency.zcr_g * squared_difference(*images)
        return Terms(self.loss.generator(fake.logits, real_logits), added, logged)

    def describe(self) -> str:
        """Says what images are made from."""
        return f"z {self.latent_dim} {self.prior}{self.condition.describe()}"

    def describe_seen(self) -> str:
        """Says what becomes of images before D sees them."""
        noise = f"instance noise {self.instance_noise:g}" if self.instance_noise > 0 else ""
        return ", ".join(filter(None, [self.augment.describe(), noise]))

    def example(self, rows: int, image_shape: tuple[int, int, int]) -> Batch:
        """Returns a batch by which shapes and memory are found out."""
        return {
            **super().example(rows, image_shape),
            **self.condition.sample(rows, stream(Purpose.SAMPLED_LABELS, 0)),
        }

    def sampler(self, generator: nn.Module) -> Sampler:
        """Returns what samples images of a seed, of all classes as often as trained on."""
        return Sampler(generator, self.prior, self.condition)

    def judge(self, discriminator: nn.Module, batch: Batch) -> Tensor:
        """Returns logits `(B,)`, or of several parts of each image, `(B, parts)`.

        What the augmentation draws comes from torch's random generator of the CPU.
        """
        seen = self._seen(batch, partial(rows_of_torch, batch["image"].device))
        judged = discriminator(seen["image"], *self.condition.inputs(batch))
        return self._read(judged, batch).logits

    def after_discriminator_step(self) -> None:
        """Holds D's weights in bounds, and lets follow its logits what depends on them."""
        super().after_discriminator_step()
        self.augment.adapt()
        if self.lecam is not None:
            self.lecam.adapt()

    def _seen(self, batch: Batch, rows: Rows) -> Batch:
        """Returns a batch as D sees it."""
        return {**batch, "image": self._augmented(batch["image"], rows)}

    def _augmented(self, images: Tensor, rows: Rows) -> Tensor:
        seen: Tensor = self.augment(images, rows, self._augment_factor)
        deviation = self.instance_noise * self.factors.get("instance_noise", 1.0)
        if deviation == 0:
            return seen
        return seen + deviation * rows(normal, *seen.shape).to(seen.dtype)

    @property
    def _augment_factor(self) -> float:
        return self.factors.get("augment", 1.0)

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

    def _judge(self, batch: Batch) -> Judged:
        inputs = batch["image"], *self.condition.inputs(batch)
        return self._read(self.run(self.discriminator, *inputs), batch)

    def _read(self, judged: Any, batch: Batch) -> Judged:
        classes = len(self.condition.classes) if self.condition.has_class_head else None
        return read_judged(judged, len(batch["image"]), classes)

    def _judge_both(self, batch: Batch, fakes: Batch) -> tuple[Judged, Judged]:
        if not getattr(self.discriminator, "independent_samples", False):
            return self._judge(batch), self._judge(fakes)
        both = {name: torch.cat((batch[name], fakes[name])) for name in self.members}
        logits, classes = self._judge(both)
        real_logits, fake_logits = logits.chunk(2)
        real, fake = (None, None) if classes is None else classes.chunk(2)
        return Judged(real_logits, real), Judged(fake_logits, fake)

    def _consistency(
        self, batch: Batch, fakes: Batch, real: Tensor, fake: Tensor, rows: Rows
    ) -> dict[str, Tensor]:
        """Returns the weighted terms of D that are on; `real` and `fake` are its logits."""
        own, terms = self.consistency, {}

        def term(weight: float, given: Batch, images: Tensor, logits: Tensor) -> Tensor:
            other = self._judge(self._seen({**given, "image": images}, rows)).logits
            return weight * squared_difference(logits, other)

        if own.cr > 0:
            terms["cr"] = term(own.cr, batch, own.changed(batch["image"], rows), real)
        if own.cr_fake > 0:
            terms["cr_fake"] = term(own.cr_fake, fakes, own.changed(fakes["image"], rows), fake)
        if own.zcr_d > 0:
            with torch.no_grad():
                near = self._near(fakes, rows)
            terms["zcr_d"] = term(own.zcr_d, fakes, near, fake)
        return terms

    def _near(self, fakes: Batch, rows: Rows) -> Tensor:
        """Generates images from noise near that of fakes."""
        noise = self.consistency.near(fakes["noise"], rows)
        images: Tensor = self._generate(noise, fakes.get("extra"), fakes)
        return images

    def _penalties(
        self, batch: Batch, fakes: Batch, draws: Draws, update: int
    ) -> dict[str, Tensor]:
        """Returns the weighted penalties that are due, in float32: they are norms."""
        due = {name: p for name, p in self.penalties.items() if update % p.interval == 0}
        if not due:
            return {}
        network, factor = in_float32(self.discriminator), self.factors.get("penalty", 1.0)
        rows = partial(draws.rows, Purpose.AUGMENTATION)
        real = full_precision(batch["image"])
        fake = fakes["image"].to(real.dtype)

        def judge(given: Batch) -> Callable[[Tensor], Tensor]:
            inputs = self.condition.inputs(given)

            def logits(images: Tensor) -> Tensor:
                judged: Any = network(self._augmented(images, rows), *inputs)
                found: Tensor = judged[0] if isinstance(judged, tuple) else judged
                return found

            return logits

        with uncompiled():
            return {
                f"penalty_{name}": p(
                    judge(fakes if p.on_fakes else batch), real, fake, draws.uniform
                )
                * (factor * p.weight * p.interval)
                for name, p in due.items()
            }
