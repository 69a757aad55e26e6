"""The discriminator's side of games of images: what it sees of them, and all that it minimises."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from forger.augment import Augment
from forger.augment.base import Rows, normal, rows_of_torch
from forger.bounds import NonNegativeFloat, check_bounds
from forger.compiling import uncompiled
from forger.conditions import Condition
from forger.consistency import changed, squared_difference
from forger.copying import in_float32
from forger.errors import ConfigError
from forger.gradients import full_precision
from forger.lecam import LeCam
from forger.losses import AdversarialLoss, NonSaturating
from forger.noise import Draws
from forger.penalties import matching_aware
from forger.seeds import Purpose
from forger.tasks.base import BATCH_NORMS, Batch, Task, Terms
from forger.tasks.judged import Judged, read_judged


class ImageTask(Task):
    """Base of games whose discriminator judges images, with what a condition says of them.

    A game that derives from it says what fakes are and what the generator minimises. Real and fake
    images pass through D apart, so that BatchNorm sees each alone, or in one batch where D says
    that a logit depends on its own image only (`independent_samples`). All that D is given passes
    through the augmentation first; penalties are of gradients in what comes before it.

    Args:
        generator: makes images `(B, C, H, W)` in [-1, 1].
        discriminator: images, and what the condition gives, to logits, one or more for each image,
            never probabilities; or to these and the logits of classes `(B, num_classes)`.
        loss: what both minimise, with its penalties.
        condition: what both networks are given beside.
        augment: what becomes of images, real and fake alike, before D sees them.
        instance_noise: deviation of normal noise (arXiv:1610.04490) on what D sees after that, of
            its own for each pixel; a schedule may scale it.

    Raises:
        ConfigError: D has BatchNorm while the loss penalises gradients per sample, or `augment`
            follows D's decisions, which it does not make by this loss.
    """

    regularizers: tuple[str, ...] = ("lecam", "cr", "cr_fake", "matching")
    starts_anew: tuple[str, ...] = ("augment.", "lecam.")

    def __init__(
        self,
        generator: nn.Module,
        discriminator: nn.Module,
        loss: AdversarialLoss | None = None,
        condition: Condition | None = None,
        augment: Augment | None = None,
        instance_noise: NonNegativeFloat = 0.0,
    ) -> None:
        super().__init__(generator, discriminator, loss or NonSaturating())
        check_bounds(instance_noise, NonNegativeFloat, "task.instance_noise")
        self.condition, self.augment = condition or Condition(), augment or Augment()
        self.instance_noise = instance_noise
        own = self.loss
        if own.matching > 0 and not self.condition.text_dim:
            raise ConfigError(f"loss.matching={own.matching}: is for condition=text; leave it out")
        self.lecam = LeCam(own.lecam, own.lecam_decay, own.lecam_start) if own.lecam > 0 else None
        self.members = ("image", *self.condition.members)
        self.needs_fresh_batch, self.penalties = own.generator_sees_real, own.penalties
        if self.penalties and any(isinstance(m, BATCH_NORMS) for m in discriminator.modules()):
            raise ConfigError(
                f"model.discriminator: BatchNorm under a gradient penalty"
                f" ({', '.join(self.penalties)}), which is taken per sample while BatchNorm mixes"
                " samples; allowed: norm=auto|layer|instance|spectral|none"
            )
        if self.augment.is_adaptive and own.boundary is None:
            raise ConfigError(
                f"augment.p=null: follows which real images D finds real, and with"
                f" {type(own).__name__} no logit decides that; write augment.p=<probability>"
            )

    @property
    def factor_names(self) -> frozenset[str]:
        """Of `penalty`, `augment` and `instance_noise` those that are on."""
        on = {
            "penalty": bool(self.penalties) or self.loss.matching > 0,
            "augment": self.augment.takes_factor,
            "instance_noise": self.instance_noise > 0,
        }
        return frozenset(name for name, value in on.items() if value)

    @property
    def logged_names(self) -> tuple[str, ...]:
        """Penalties and other terms of the loss, those of a class head, and the augmentation."""
        named = {name: f"penalty_{name}" for name in ("path_length", "matching")}
        beside = (named.get(name, name) for name in self.loss.regularizers)
        penalties = (f"penalty_{name}" for name in self.penalties)
        given = self.condition.logged_names
        return (*penalties, *beside, *given, *self.augment.logged_names)

    def setup(self, datamodule: Any) -> None:
        """Takes from the data what the condition must know of it."""
        self.condition.setup(datamodule)

    def check(self, batch: Batch) -> None:
        """Raises `DataError` unless the condition knows what is given."""
        self.condition.check(batch)

    def example(self, rows: int, image_shape: tuple[int, int, int]) -> Batch:
        """Returns a batch by which shapes and memory are found out."""
        return {**super().example(rows, image_shape), **self.condition.example(rows)}

    def describe_seen(self) -> str:
        """Says what becomes of images before D sees them."""
        noise = f"instance noise {self.instance_noise:g}" if self.instance_noise > 0 else ""
        return ", ".join(filter(None, [self.augment.describe(), noise]))

    def seen(self, batch: Batch, rows: Rows) -> Batch:
        """Returns a batch as D sees it; `rows` draws the changes."""
        images: Tensor = self.augment(batch["image"], rows, self._augment_factor)
        deviation = self.instance_noise * self.factors.get("instance_noise", 1.0)
        if deviation != 0:
            images = images + deviation * rows(normal, *images.shape).to(images.dtype)
        return {**batch, "image": images}

    def judged(self, batch: Batch, rows: Rows) -> Judged:
        """Returns what D says of a batch as it sees it, in the precision of the training."""
        return self._judged_by(partial(self.run, self.discriminator), self.seen(batch, rows))

    def judge(self, discriminator: nn.Module, batch: Batch) -> Tensor:
        """Returns logits `(B,)`, or of several parts of each image, `(B, parts)`.

        What the augmentation draws comes from torch's random generator of the CPU.
        """
        rows = partial(rows_of_torch, batch["image"].device)
        return self._judged_by(discriminator, self.seen(batch, rows)).logits

    def discriminator_terms(self, batch: Batch, fakes: Batch, draws: Draws, update: int) -> Terms:
        """Returns the adversarial loss, the penalties that are due, and the terms of classes."""
        rows = partial(draws.rows, Purpose.AUGMENTATION)
        mismatch = self.condition.mismatch(batch, draws)
        real, fake, wrong = self._judge_all(
            self.seen(batch, rows), self.seen(fakes, rows), mismatch
        )
        self.augment.see(real.logits.detach(), self.loss.boundary)
        penalties = self._penalties(batch, fakes, draws, update)
        penalties |= self._matching(batch, rows, update)
        terms = self.consistency(batch, fakes, real.logits, fake.logits, rows)
        if self.lecam is not None:
            terms |= self.lecam.terms(real.logits, fake.logits, update)
        added, logged = self.condition.discriminator_terms(real.classes, batch)
        loss = self.loss.discriminator(real.logits, fake.logits)
        if wrong is not None:  # half of what is fake are real images of another text
            loss = (loss + self.loss.discriminator(real.logits, wrong.logits)) / 2
            logged = {**logged, "d_mismatched": self.loss.output(wrong.logits).mean()}
        return Terms(
            loss=loss,
            added=penalties | terms | added,
            logged=logged | self.augment.logged(self._augment_factor, fake.logits.device),
            real_logits=real.logits,
            fake_logits=fake.logits,
        )

    def consistency(
        self, batch: Batch, fakes: Batch, real_logits: Tensor, fake_logits: Tensor, rows: Rows
    ) -> dict[str, Tensor]:
        """Returns the weighted terms of D, of those that are on, about images changed a little."""
        terms = {}
        for name, given, logits in (("cr", batch, real_logits), ("cr_fake", fakes, fake_logits)):
            if weight := self.loss.regularizers.get(name):
                images = changed(given["image"], rows, self.loss.cr_flip)
                other = self.judged({**given, "image": images}, rows).logits
                terms[name] = weight * squared_difference(logits, other)
        return terms

    def after_discriminator_step(self) -> None:
        """Holds D's weights in bounds, and lets follow its logits what depends on them."""
        super().after_discriminator_step()
        self.augment.adapt()
        if self.lecam is not None:
            self.lecam.adapt()

    @property
    def _augment_factor(self) -> float:
        return self.factors.get("augment", 1.0)

    def _judged_by(self, discriminator: Callable[..., Any], seen: Batch) -> Judged:
        given = self.condition.inputs(seen)
        judged = discriminator(seen["image"], *given)
        classes = len(self.condition.classes) if self.condition.has_class_head else None
        return read_judged(judged, len(given[0] if given else seen["image"]), classes)

    def _judge_all(
        self, batch: Batch, fakes: Batch, mismatch: Batch | None
    ) -> tuple[Judged, Judged, Judged | None]:
        """Judges real examples, fakes, and real images with what they are not."""
        judged = partial(self._judged_by, partial(self.run, self.discriminator))
        if not getattr(self.discriminator, "independent_samples", False):
            wrong = None if mismatch is None else judged({**batch, **mismatch})
            return judged(batch), judged(fakes), wrong
        all_ = {name: torch.cat((batch[name], fakes[name])) for name in self.members}
        for name, other in (mismatch or {}).items():
            # more texts than images: D judges the first images, real ones, again
            all_[name] = torch.cat((all_[name], other))
        logits, classes = judged(all_)
        sizes = [len(batch["image"])] * (2 if mismatch is None else 3)
        of_classes = [None] * 3 if classes is None else torch.split(classes, sizes)
        real, fake, *others = map(Judged, torch.split(logits, sizes), of_classes)
        return real, fake, others[0] if others else None

    def _matching(self, batch: Batch, rows: Rows, update: int) -> dict[str, Tensor]:
        """Returns the weighted matching-aware penalty where it is due, in float32."""
        own = self.loss
        if own.matching == 0 or update % own.matching_interval > 0:
            return {}
        side: Any = self.discriminator
        with torch.no_grad():
            embedding = full_precision(self.run(side.encoder, *self.condition.inputs(batch)))
        discriminator, factor = in_float32(side), self.factors.get("penalty", 1.0)

        def judge(images: Tensor, text: Tensor) -> Tensor:
            return self._judged_by(
                discriminator, self.seen({"image": images, "text": text}, rows)
            ).logits

        with uncompiled():
            real = full_precision(batch["image"])
            term = matching_aware(judge, real, embedding, own.matching_power)
        return {"penalty_matching": term * (factor * own.matching * own.matching_interval)}

    def _penalties(
        self, batch: Batch, fakes: Batch, draws: Draws, update: int
    ) -> dict[str, Tensor]:
        """Returns the weighted penalties that are due, in float32: they are norms."""
        due = {name: p for name, p in self.penalties.items() if update % p.interval == 0}
        if not due:
            return {}
        rows = partial(draws.rows, Purpose.AUGMENTATION)
        discriminator, factor = in_float32(self.discriminator), self.factors.get("penalty", 1.0)
        real = full_precision(batch["image"])
        fake = fakes["image"].to(real.dtype)

        def logits(given: Batch, images: Tensor) -> Tensor:
            return self._judged_by(
                discriminator, self.seen({**given, "image": images}, rows)
            ).logits

        terms = {}
        with uncompiled():
            for name, p in due.items():
                judge = partial(logits, fakes if p.on_fakes else batch)
                term = p(judge, real, fake, draws.uniform)
                terms[f"penalty_{name}"] = term * (factor * p.weight * p.interval)
        return terms
