"""Image to image without pairs, one way, by contrast of patches: CUT and FastCUT."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from forger.augment import Augment
from forger.augment.base import uniform
from forger.bounds import NonNegativeFloat, PositiveFloat, PositiveInt, check_bounds
from forger.errors import ConfigError
from forger.gradients import full_precision
from forger.losses import AdversarialLoss, LeastSquares
from forger.noise import Draws
from forger.patch_nce import patch_nce
from forger.seeds import Purpose
from forger.tasks.base import Batch, Terms
from forger.tasks.held_out import ImageShape
from forger.tasks.translation import Translation, check_weights


class WithHeads(nn.Module):
    """The generator's side: a translator, and an MLP for the features of each of some layers.

    Args:
        translator: has a method `features(source, layers)`, a list of `(B, C, H, W)`.
        layers: their numbers, as it counts them.
        source_shape: channels, height, width.
        dim: of what an MLP makes of a feature.
    """

    def __init__(
        self, translator: nn.Module, layers: Sequence[int], source_shape: ImageShape, dim: int
    ) -> None:
        super().__init__()
        self.translator, self.layers = translator, list(layers)
        was_training = translator.training
        with torch.no_grad():  # for the numbers of channels; statistics stay as they are
            translator.eval()
            found = self(torch.zeros(1, *source_shape), features=True)
            translator.train(was_training)
        self.heads = nn.ModuleList(_head(features.shape[1], dim) for features in found)

    def forward(self, source: Tensor, features: bool = False) -> Any:
        """Translates sources, or returns what the layers make of them."""
        if features:
            return self.translator.features(source, self.layers)  # type: ignore[operator]
        return self.translator(source)


def _head(channels: int, dim: int) -> nn.Module:
    first, last = nn.Linear(channels, dim), nn.Linear(dim, dim)
    for layer in (first, last):
        nn.init.xavier_normal_(layer.weight, gain=0.02)  # as in the public code
        nn.init.zeros_(layer.bias)
    return nn.Sequential(first, nn.ReLU(), last)


class Cut(Translation):
    """CUT (arXiv:2007.15651): each patch of an output shall tell which of its source it was.

    G minimises `lambda_gan L_gan + lambda_nce (NCE(x, G(x)) + NCE(y, G(y))) / 2`, the mean of
    `patch_nce` over some layers of G itself; without `nce_identity` the term of x counts alone and
    in full. FastCUT is `lambda_nce=10`, no identity, and `flip_equivariance`.

    Args:
        generator: sources to images, see `Translation`, with a method `features(source, layers)`.
        discriminator: images to logits, as `loss`, `augment` and `instance_noise` see `ImageTask`.
        loss: None: `LeastSquares`, half of the paper's `(D - 1)^2` of G, hence `lambda_gan=2`.
        image_shape: channels, height, width of images.
        source_shape: of sources; of as many channels.
        augment: what becomes of images before D sees them.
        instance_noise: deviation of noise on what D sees.
        lambda_nce: weight of the contrast.
        nce_identity: whether the images themselves are contrasted with what G makes of them.
        nce_layers: whose features are contrasted, as the generator numbers them.
        nce_patches: drawn of each image in each layer, or all that there are.
        nce_temperature: of their likeness.
        nce_dim: of what the MLP of a layer makes of a feature.
        flip_equivariance: whether G is given half of its sources mirrored, and its features are
            mirrored back before they are contrasted.
        lambda_gan: of G's adversarial term.
        lambda_d: of D's loss; least squares are halved as in the paper.

    Raises:
        ConfigError: the numbers of channels differ, the generator gives no features, or for a
            reason of `Translation`.
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
        lambda_nce: NonNegativeFloat = 1.0,
        nce_identity: bool = True,
        nce_layers: Sequence[int] = (0, 4, 8, 12, 16),
        nce_patches: PositiveInt = 256,
        nce_temperature: PositiveFloat = 0.07,
        nce_dim: PositiveInt = 256,
        flip_equivariance: bool = False,
        lambda_gan: NonNegativeFloat = 2.0,
        lambda_d: NonNegativeFloat = 1.0,
    ) -> None:
        check_weights(lambda_nce=lambda_nce)
        check_bounds(nce_patches, PositiveInt, "task.nce_patches")
        check_bounds(nce_temperature, PositiveFloat, "task.nce_temperature")
        check_bounds(nce_dim, PositiveInt, "task.nce_dim")
        _check_generator(generator, image_shape, source_shape)
        super().__init__(
            WithHeads(generator, nce_layers, source_shape, nce_dim),
            *(discriminator, loss or LeastSquares(), image_shape, source_shape),
            *(augment, instance_noise, lambda_gan, lambda_d),
        )
        self.lambda_nce, self.nce_identity = lambda_nce, nce_identity
        self.nce_patches, self.nce_temperature = nce_patches, nce_temperature
        self.flip_equivariance = flip_equivariance

    def fakes(self, batch: Batch, draws: Draws) -> Batch:
        """Translates the sources, half of them mirrored where G shall not mind."""
        if not self.flip_equivariance:
            return super().fakes(batch, draws)
        flip = draws.rows(Purpose.OWN_TASK, uniform, len(batch["image"])) < 0.5
        made = super().fakes({**batch, "source": _flipped(batch["source"], flip)}, draws)
        return {**made, "source": batch["source"], "flip": flip}

    def generator_terms(self, batch: Batch, fakes: Batch, draws: Draws) -> Terms:
        """Returns the adversarial loss, and the contrast of patches."""
        flip, weight = fakes.get("flip"), self.lambda_nce / (2 if self.nce_identity else 1)
        contrast = self._contrast(fakes["image"], batch["source"], flip, draws)
        added = {"nce": weight * contrast}
        if self.nce_identity:
            images = batch["image"]
            kept = self.run(self.generator, images if flip is None else _flipped(images, flip))
            added["nce_identity"] = weight * self._contrast(kept, images, flip, draws)
        return Terms(self.adversarial(batch, fakes, draws), added)

    def _contrast(
        self, outputs: Tensor, sources: Tensor, flip: Tensor | None, draws: Draws
    ) -> Tensor:
        """Returns the mean of the layers' losses; outputs are of mirrored sources where `flip`."""
        generator: Any = self.generator
        queries = self.run(generator, outputs, features=True)
        with torch.no_grad():
            keys = self.run(generator, sources, features=True)
        losses = []
        for head, query, key in zip(generator.heads, queries, keys, strict=True):
            query = query if flip is None else _flipped(query, flip)
            places = draws.rows(Purpose.OWN_TASK, uniform, len(key), key[0, 0].numel())
            places = places.topk(min(self.nce_patches, places.shape[1])).indices
            embedded = full_precision(self.run(head, _patches(query, places)))
            with torch.no_grad():
                right = full_precision(self.run(head, _patches(key, places)))
            losses.append(patch_nce(embedded, right, self.nce_temperature))
        return torch.stack(losses).mean()


def _check_generator(
    generator: nn.Module, image_shape: ImageShape, source_shape: ImageShape
) -> None:
    """Raises `ConfigError` unless a generator can look at what it makes."""
    if not callable(getattr(generator, "features", None)):
        raise ConfigError(
            f"model.generator: {type(generator).__module__} has no method features(source,"
            " layers), by which task=cut contrasts; write model=resnet_patchgan"
        )
    if image_shape[0] != source_shape[0]:
        raise ConfigError(
            f"task: Cut looks at images {image_shape} by the layers for sources {source_shape},"
            " which must have as many channels; write task=cycle task.lambda_identity=0"
        )


def _flipped(images: Tensor, flip: Tensor) -> Tensor:
    """Mirrors those of `(B, C, H, W)` left to right for which `flip` `(B,)` is set."""
    return torch.where(flip[:, None, None, None], images.flip(3), images)


def _patches(features: Tensor, places: Tensor) -> Tensor:
    """Returns `(B, P, C)` of features `(B, C, H, W)`, at places `(B, P)` of their H x W."""
    rows = features.flatten(2).transpose(1, 2)
    return rows.gather(1, places[:, :, None].expand(-1, -1, rows.shape[2]))
