"""From simulated images to ones that look real: SimGAN."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from torch import Tensor, nn

from forger.augment import Augment
from forger.bounds import NonNegativeFloat, NonNegativeInt, PositiveInt, check_bounds
from forger.errors import ConfigError
from forger.gradients import full_precision
from forger.image_pool import ImagePool
from forger.losses import AdversarialLoss
from forger.noise import Draws
from forger.tasks.base import Batch, Terms
from forger.tasks.held_out import ImageShape
from forger.tasks.translation import Translation, check_weights


class Refine(Translation):
    """SimGAN (arXiv:1612.07828): refines simulated images so that what they show stays.

    The refiner minimises `lambda_gan L_gan + lambda_self |R(x) - x|`, where L_gan is a sum over
    the discriminator's patches and the distance one over pixels, both means over images (eq. 4).
    Half of the refined images that D sees are of a history.

    Every iteration counts as one of the run, also those in which a side waits: its terms are
    computed and logged, and its weights stay. First the refiner learns alone to change nothing,
    then D alone, then both, D in every so-manieth iteration by `loss.n_critic` updates (K_d).

    Args:
        generator: simulated images to refined ones of the same shape, both in [-1, 1].
        discriminator: images to logits, as `loss`, `augment` and `instance_noise` see `ImageTask`.
        loss: adversarial; the paper's is cross-entropy, `NonSaturating`.
        image_shape: channels, height, width of real images.
        source_shape: of simulated ones; the same.
        augment: what becomes of images before D sees them.
        instance_noise: deviation of noise on what D sees.
        lambda_self: weight of the distance to the simulated image.
        history: refined images that each process keeps for D; 0: D sees new ones alone.
        generator_warmup: iterations in which the refiner learns alone, by its distance alone.
        discriminator_warmup: those after them in which D learns alone.
        generator_updates: of the refiner, one in each iteration, to one of D's turns (K_g).
        lambda_gan: of the refiner's adversarial term.
        lambda_d: of D's loss.

    Raises:
        ConfigError: shapes differ, or for a reason of `Translation`.
    """

    def __init__(
        self,
        generator: nn.Module,
        discriminator: nn.Module,
        loss: AdversarialLoss | None,
        image_shape: ImageShape,
        source_shape: ImageShape,
        augment: Augment | None = None,
        instance_noise: NonNegativeFloat = 0.0,
        lambda_self: NonNegativeFloat = 0.01,
        history: NonNegativeInt = 2000,
        generator_warmup: NonNegativeInt = 1000,
        discriminator_warmup: NonNegativeInt = 200,
        generator_updates: PositiveInt = 2,
        lambda_gan: NonNegativeFloat = 1.0,
        lambda_d: NonNegativeFloat = 1.0,
    ) -> None:
        super().__init__(
            *(generator, discriminator, loss, image_shape, source_shape),
            *(augment, instance_noise, lambda_gan, lambda_d),
        )
        check_weights(lambda_self=lambda_self)
        counts = {"history": history, "generator_warmup": generator_warmup}
        for name, count in {**counts, "discriminator_warmup": discriminator_warmup}.items():
            check_bounds(count, NonNegativeInt, f"task.{name}")
        check_bounds(generator_updates, PositiveInt, "task.generator_updates")
        if image_shape != source_shape:
            raise ConfigError(
                f"task: Refine keeps to what it is given, so that images {image_shape} and sources"
                f" {source_shape} must have one shape; write task=cycle task.lambda_identity=0"
            )
        self.lambda_self, self.history = lambda_self, ImagePool(history)
        self.generator_warmup, self.discriminator_warmup = generator_warmup, discriminator_warmup
        self.generator_updates = generator_updates

    def discriminator_terms(self, batch: Batch, fakes: Batch, draws: Draws, update: int) -> Terms:
        """Returns those of `Translation`, with half of the fakes old."""
        learns = self._discriminator_learns(draws.iteration)
        if learns:
            fakes = {**fakes, "image": self.history(fakes["image"], draws)}
        terms = super().discriminator_terms(batch, fakes, draws, update)
        return terms if learns else waiting(terms)

    def generator_terms(self, batch: Batch, fakes: Batch, draws: Draws) -> Terms:
        """Returns the adversarial loss, summed over patches, and the distance to the source."""
        adversarial = self.adversarial(batch, fakes, draws)
        change = full_precision(fakes["image"]) - fakes["source"]
        distance = change.abs().flatten(1).sum(1).mean()
        terms = Terms(adversarial, {"self": self.lambda_self * distance})
        since = draws.iteration - self.generator_warmup
        if draws.iteration > 0 and since <= 0:
            return replace(terms, loss=adversarial.detach())
        return waiting(terms) if 0 < since <= self.discriminator_warmup else terms

    def parts(self, logits: Tensor) -> int:
        """Returns the number of patches: losses are sums over them."""
        return logits[0].numel()

    def process_state(self) -> dict[str, Any]:
        """Returns the history."""
        return {"history": self.history.images}

    def load_process_state(self, state: Mapping[str, Any]) -> None:
        """Restores it."""
        self.history.images = state["history"]

    def _discriminator_learns(self, iteration: int) -> bool:
        """Tells whether it is D's turn; iteration 0, in which networks are tried, is anybody's."""
        since = iteration - self.generator_warmup - self.discriminator_warmup
        if since <= 0:
            return since > -self.discriminator_warmup or iteration == 0
        return (since - 1) % self.generator_updates == 0


def waiting(terms: Terms) -> Terms:
    """Returns terms that can be logged, and whose sum has no gradient for any weight."""
    added = {name: term.detach() for name, term in terms.added.items()}
    return replace(terms, loss=terms.loss.detach().requires_grad_(), added=added)
