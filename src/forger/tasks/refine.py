"""From simulated images to ones that look real: SimGAN."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import ceil
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.functional import cross_entropy

from forger.augment import Augment
from forger.batches import check_labels
from forger.bounds import NonNegativeFloat, NonNegativeInt, PositiveInt, check_bounds
from forger.errors import ConfigError, DataError
from forger.gradients import full_precision
from forger.image_pool import ImagePool
from forger.losses import AdversarialLoss
from forger.noise import Draws
from forger.tasks.base import Batch, Terms
from forger.tasks.held_out import ImageShape
from forger.tasks.translation import Translation, check_weights

_CLASSIFIER_WIDTH, _HIDDEN, _SLOPE = 32, 128, 0.2


class WithClassifier(nn.Module):
    """The generator's side: a refiner, and a small classifier of what it is given and makes.

    Args:
        refiner: sources to images.
        shape: channels, height, width of both.
        num_classes: that the classifier tells apart.
    """

    def __init__(self, refiner: nn.Module, shape: ImageShape, num_classes: int) -> None:
        super().__init__()
        self.translator = refiner
        width, places = _CLASSIFIER_WIDTH, ceil(shape[1] / 4) * ceil(shape[2] / 4)
        self.classifier = nn.Sequential(
            *(nn.Conv2d(shape[0], width, 5, 2, padding=2), nn.LeakyReLU(_SLOPE)),
            *(nn.Conv2d(width, 2 * width, 5, 2, padding=2), nn.LeakyReLU(_SLOPE)),
            *(nn.Flatten(), nn.Linear(2 * width * places, _HIDDEN), nn.LeakyReLU(_SLOPE)),
            nn.Linear(_HIDDEN, num_classes),
        )

    def forward(self, source: Tensor, classify: bool = False, learns: bool = True) -> Tensor:
        """Refines sources, or returns logits `(B, num_classes)` of images.

        The classifier's weights get gradients if it `learns`; images do in any case.
        """
        if not classify:
            refined: Tensor = self.translator(source)
            return refined
        weights: dict[str, Tensor] = dict(self.classifier.named_parameters())
        if not learns:
            weights = {name: weight.detach() for name, weight in weights.items()}
        logits: Tensor = functional_call(self.classifier, weights, (source,))
        return logits


class Refine(Translation):
    """SimGAN (arXiv:1612.07828): refines simulated images so that what they show stays.

    The refiner minimises `lambda_gan L_gan + lambda_self |R(x) - x|`, where L_gan is a sum over
    the discriminator's patches and the distance one over pixels, both means over images (eq. 4).
    Half of the refined images that D sees are of a history.

    With `lambda_class` the refiner also minimises the cross-entropy of the sources' classes in what
    it makes, by a classifier that learns along, on sources alone (semantic consistency as in
    CyCADA, arXiv:1711.03213, section 3): a distance of pixels does not tell a changed slant from a
    1 that became a 2. If it learned on refined images too (PixelDA, arXiv:1612.05424), both could
    agree on other shapes: 9s became open like 4s.

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
        classes: names of those that sources have; needed with `lambda_class` alone.
        lambda_self: weight of the distance to the simulated image.
        lambda_class: weight of the cross-entropies of both; 0: there is no classifier.
        history: refined images that each process keeps for D; 0: D sees new ones alone.
        generator_warmup: iterations in which the refiner learns alone, by its distance alone.
        discriminator_warmup: those after them in which D learns alone.
        generator_updates: of the refiner, one in each iteration, to one of D's turns (K_g).
        lambda_gan: of the refiner's adversarial term.
        lambda_d: of D's loss.

    Raises:
        ConfigError: shapes differ, there are no classes to keep, or for a reason of `Translation`.
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
        classes: Sequence[str] = (),
        lambda_self: NonNegativeFloat = 0.01,
        lambda_class: NonNegativeFloat = 0.0,
        history: NonNegativeInt = 2000,
        generator_warmup: NonNegativeInt = 1000,
        discriminator_warmup: NonNegativeInt = 200,
        generator_updates: PositiveInt = 2,
        lambda_gan: NonNegativeFloat = 1.0,
        lambda_d: NonNegativeFloat = 1.0,
    ) -> None:
        check_weights(lambda_self=lambda_self, lambda_class=lambda_class)
        counts = {"history": history, "generator_warmup": generator_warmup}
        for name, count in {**counts, "discriminator_warmup": discriminator_warmup}.items():
            check_bounds(count, NonNegativeInt, f"task.{name}")
        check_bounds(generator_updates, PositiveInt, "task.generator_updates")
        if image_shape != source_shape:
            raise ConfigError(
                f"task: Refine keeps to what it is given, so that images {image_shape} and sources"
                f" {source_shape} must have one shape; write task=cycle task.lambda_identity=0"
            )
        self._key = f"task.lambda_class={lambda_class:g}"
        if lambda_class > 0:
            if len(classes) < 2:
                raise ConfigError(
                    f"{self._key}: the data has no classes; write task.lambda_class=0"
                )
            generator = WithClassifier(generator, image_shape, len(classes))
        super().__init__(
            generator,
            *(discriminator, loss, image_shape, source_shape),
            *(augment, instance_noise, lambda_gan, lambda_d),
        )
        self.lambda_class, self._num_classes = lambda_class, len(classes)
        self._labels = ("source_label",) if lambda_class > 0 else ()
        self.members += self._labels
        self.lambda_self, self.history = lambda_self, ImagePool(history)
        self.generator_warmup, self.discriminator_warmup = generator_warmup, discriminator_warmup
        self.generator_updates = generator_updates

    def setup(self, datamodule: Any) -> None:
        """Does what that of `Translation` does; raises `DataError` where sources have no labels."""
        super().setup(datamodule)
        own = getattr(datamodule, "datamodule", datamodule)  # of the user's own
        lacking = getattr(own, "train_source_labels", own) is None or getattr(own, "paired", False)
        if self.lambda_class > 0 and own is not None and lacking:
            raise DataError(
                f"{self._key}: needs sources with labels and without pairs, and those of"
                f" {type(own).__name__} are not; write task.lambda_class=0"
            )

    def check(self, batch: Batch) -> None:
        """Raises `DataError` unless labels of sources are of the classes."""
        for name in self._labels:
            check_labels(batch[name], self._num_classes, key=self._key)

    def example(self, rows: int, image_shape: ImageShape) -> Batch:
        """Returns a batch by which shapes and memory are found out."""
        labels = {name: torch.zeros(rows, dtype=torch.int64) for name in self._labels}
        return {**super().example(rows, image_shape), **labels}

    def fakes(self, batch: Batch, draws: Draws) -> Batch:
        """Refines the sources of the batch, whose labels stay."""
        return {**super().fakes(batch, draws), **{name: batch[name] for name in self._labels}}

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
        added = {"self": self.lambda_self * distance, **self._class_terms(batch, fakes)}
        terms = Terms(adversarial, added)
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

    def _class_terms(self, batch: Batch, fakes: Batch) -> dict[str, Tensor]:
        """Returns the weighted cross-entropies of the classes of refined images and of sources."""
        terms = dict[str, Tensor]()
        given = {"class": (fakes["image"], False), "class_source": (batch["source"], True)}
        for label in self._labels:
            for name, (images, learns) in given.items():
                logits = self.run(self.generator, images, classify=True, learns=learns)
                term = cross_entropy(full_precision(logits), batch[label])
                terms[name] = self.lambda_class * term
        return terms

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
