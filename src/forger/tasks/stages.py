"""From noise and a text to images of several sides at once: StackGAN-v2."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d

from forger.bounds import NonNegativeFloat, check_bounds
from forger.conditions import Condition
from forger.errors import ConfigError
from forger.gradients import full_precision
from forger.losses import AdversarialLoss
from forger.noise import Draws, Prior
from forger.seeds import Purpose
from forger.tasks.base import Batch, Terms
from forger.tasks.from_noise import FromNoise
from forger.tasks.judged import check_made


class Stages(FromNoise):
    """StackGAN-v2 (arXiv:1710.10916): images of a text in stages, of which D judges each.

    D's loss of pairs of an image and a text is half that of real ones against fakes, half that
    against real images with the text of another; to it comes that of images alone, and the
    penalties of the loss, of both logits. G minimises both of its own, and the divergence of its
    codes of texts from N(0, 1). All are means over stages, to whose sides real images are shrunk.

    Args:
        generator: as of `FromNoise`; with `all_stages=True` it returns the images of all stages,
            and means and log-variances of codes.
        discriminator: images of a stage's side, and a text, to the logits of both together and of
            the image alone. It and the generator have the attribute `stage_sides`.
        loss: adversarial, as `condition`, of texts, and `prior` see `FromNoise`.
        kl: weight of the divergence, a sum over the numbers of a code.

    Raises:
        ConfigError: `kl` is out of range, networks are not of stages or of others, there are no
            texts, or the loss compares with real images.
    """

    regularizers = ()
    judges_stages = True

    def __init__(
        self,
        generator: nn.Module,
        discriminator: nn.Module,
        loss: AdversarialLoss | None = None,
        condition: Condition | None = None,
        prior: Prior = "normal",
        kl: NonNegativeFloat = 2.0,
    ) -> None:
        check_bounds(kl, NonNegativeFloat, "task.kl")
        if loss is not None and loss.generator_sees_real:
            raise ConfigError(
                f"loss: Stages compares with no real images, as {type(loss).__name__} would; write"
                " loss=non_saturating, hinge or least_squares"
            )
        super().__init__(generator, discriminator, loss, condition, prior)
        made, judged = (getattr(side, "stage_sides", ()) for side in (generator, discriminator))
        if next(discriminator.parameters(), None) is None:
            judged = made  # a stand-in: the generator is only sampled from
        if not (made and judged and self.condition.text_dim):
            raise ConfigError(
                "task=stages: needs networks that make and judge images of a text in stages; write"
                " model=stackgan condition=text"
            )
        if made != judged:
            raise ConfigError(
                f"model.discriminator.stages: judges images of sides {judged}, the generator makes"
                f" {made}; write model.stages=<of both>"
            )
        self.kl, self.stage_sides = kl, made

    @property
    def logged_names(self) -> tuple[str, ...]:
        """The divergence beside what the condition logs."""
        return (*super().logged_names, "kl")

    def fakes(self, batch: Batch, draws: Draws) -> Batch:
        """Generates the images of all stages, as `image_<side>`; the last is `image`, too."""
        noise, extra, given = self._draw(len(batch["image"]), draws)
        inputs = noise, *self.condition.inputs(given)
        made = self.run(self.generator, *inputs, extra=extra, all_stages=True)
        stages, given["mean"], given["log_variance"] = made
        images = {f"image_{one.shape[-1]}": one for one in stages}
        return {**given, **images, "image": check_made(stages[-1], batch["image"].shape)}

    def discriminator_terms(self, batch: Batch, fakes: Batch, draws: Draws, update: int) -> Terms:
        """Returns the adversarial loss of pairs and of images alone, a mean over stages."""
        mismatch, loss = self.condition.mismatch(batch, draws), self.loss.discriminator
        stages = [(of_side(batch, side), of_side(fakes, side)) for side in self.stage_sides]
        judged = [self._judge_all(*stage, mismatch) for stage in stages]
        penalties = [self._penalties(*stage, draws, update) for stage in stages]
        # losses are means over all logits, here (B, stages, 2)
        real, fake, wrong = (
            torch.stack([one.logits for one in each if one is not None], 1)
            for each in zip(*judged, strict=True)
        )
        of_pairs = loss(real[..., 0], fake[..., 0]) + loss(real[..., 0], wrong[..., 0])
        return Terms(
            loss=of_pairs / 2 + loss(real[..., 1], fake[..., 1]),
            added={
                name: torch.stack([each[name] for each in penalties]).mean()
                for name in penalties[0]
            },
            logged={"d_mismatched": self.loss.output(wrong[..., 0]).mean()},
            real_logits=real,
            fake_logits=fake,
        )

    def generator_terms(self, batch: Batch, fakes: Batch, draws: Draws) -> Terms:
        """Returns the adversarial loss of pairs and of images alone, and the divergence."""
        rows = partial(draws.rows, Purpose.AUGMENTATION)
        each = [self.judged(of_side(fakes, side), rows).logits for side in self.stage_sides]
        of_pairs, alone = torch.stack(each, 1).unbind(2)
        loss = self.loss.generator(of_pairs, None) + self.loss.generator(alone, None)
        return Terms(loss, {"kl": self.kl * kl_divergence(fakes["mean"], fakes["log_variance"])})


def of_side(batch: Batch, side: int) -> Batch:
    """Returns a batch with the images of a stage: those made, else shrunk by means of areas."""
    if f"image_{side}" in batch:
        return {**batch, "image": batch[f"image_{side}"]}
    return {**batch, "image": avg_pool2d(batch["image"], batch["image"].shape[-1] // side)}


def kl_divergence(mean: Tensor, log_variance: Tensor) -> Tensor:
    """Returns KL(N(mean, variance) || N(0, 1)), a sum over numbers and a mean over rows.

    `1/2 E sum(mean^2 + variance - log variance - 1)`; both are `(B, D)`.
    """
    mean, log_variance = full_precision(mean), full_precision(log_variance)
    each = mean.square() + log_variance.exp() - log_variance - 1
    return each.sum(1).mean() / 2
