"""Layers and wrappers through which a network is told the class of each image."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, one_hot
from torch.nn.utils.parametrizations import spectral_norm
from typing_extensions import override

from forger.bounds import check_choice
from forger.errors import ConfigError
from forger.networks.settings import GeneratorNorm

Head = Literal["projection", "auxiliary"]
"""How a discriminator judges a class by its features; see `ClassHead`."""

Logits: TypeAlias = Tensor | tuple[Tensor, Tensor]
"""Logits `(B,)`; with the head `auxiliary` these and the logits of classes `(B, num_classes)`."""

_BatchNorm = type[nn.BatchNorm1d] | type[nn.BatchNorm2d]


class ClassBatchNorm(nn.Module):
    """BatchNorm over `(B, C, ...)` whose gain and bias belong to the class of each image.

    `y = gain[label] * (x - mean) / sqrt(var + eps) + bias[label]` (conditional batch normalisation,
    as in arXiv:1802.05637, section 4); gains start at 1, biases at 0.

    Args:
        norm: computes mean and variance; without gain and bias of its own (`affine=False`).
        num_classes: of labels, which are whole numbers from 0.
    """

    def __init__(self, norm: nn.BatchNorm1d | nn.BatchNorm2d, num_classes: int) -> None:
        super().__init__()
        self.norm = norm
        self.gain = nn.Embedding(num_classes, norm.num_features)
        self.bias = nn.Embedding(num_classes, norm.num_features)
        nn.init.ones_(self.gain.weight)
        nn.init.zeros_(self.bias.weight)

    @override
    def forward(self, features: Tensor, label: Tensor) -> Tensor:
        normed: Tensor = self.norm(features)  # in mixed precision maps stay in 16 bits
        shape = (*features.shape[:2], *[1] * (features.ndim - 2))  # (B, C, 1, 1) for maps
        gain, bias = (one(label).to(normed.dtype).view(shape) for one in (self.gain, self.bias))
        return torch.addcmul(bias, gain, normed)


class VectorBatchNorm(nn.Module):
    """BatchNorm over `(B, C, H, W)` whose gain and bias are linear in a vector of each image.

    `y = (1 + A c) * (x - mean) / sqrt(var + eps) + B c` (BigGAN, arXiv:1809.11096, appendix B).

    Args:
        channels: C.
        inputs: size of the vector c.
    """

    def __init__(self, channels: int, inputs: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(channels, affine=False)
        self.gain = nn.Linear(inputs, channels, bias=False)
        self.bias = nn.Linear(inputs, channels, bias=False)

    @override
    def forward(self, features: Tensor, vector: Tensor) -> Tensor:
        normed: Tensor = self.norm(features)
        gain, bias = (
            one(vector).to(normed.dtype)[:, :, None, None] for one in (self.gain, self.bias)
        )
        return torch.addcmul(bias, 1 + gain, normed)


def batch_norm(kind: _BatchNorm, channels: int, num_classes: int, eps: float = 1e-5) -> nn.Module:
    """Returns BatchNorm of a kind, that of each class where there are any."""
    if num_classes:
        return ClassBatchNorm(kind(channels, eps=eps, affine=False), num_classes)
    return kind(channels, eps=eps)


def generator_norm(
    norm: GeneratorNorm, kind: _BatchNorm, num_classes: int
) -> Callable[[int], nn.Module]:
    """Returns what makes the normalisation of so many channels of a generator.

    Raises:
        ConfigError: `norm` is unknown, or `none`, which leaves no place for classes.
    """
    check_choice("model.generator.norm", norm, GeneratorNorm)
    if norm == "batch":
        return partial(batch_norm, kind, num_classes=num_classes)
    if num_classes:
        raise ConfigError(
            "model.generator.norm=none: classes are told by BatchNorm, and there is none;"
            " write condition.generator=concat, or model.generator.norm=batch"
        )
    return nn.Identity


class Layers(nn.Sequential):
    """Layers in a row, of which BatchNorm by class or vector is given that of each image too."""

    @override
    def forward(self, features: Tensor, given: Tensor | None = None) -> Tensor:
        for layer in self:
            takes_it = isinstance(layer, (ClassBatchNorm, VectorBatchNorm))
            features = layer(features, *((given,) if takes_it else ()))
        return features


class ClassHead(nn.Module):
    """What a discriminator's logits become by the class, from its features `h`.

    `projection` adds `<v[label], h>` (arXiv:1802.05637, eq. 3). `auxiliary` gives class logits
    `(B, num_classes)` beside, linear in `h`, by which the discriminator tells the class of an image
    (AC-GAN, arXiv:1610.09585). Without classes logits stay as they are.

    Args:
        features: how many there are of an image, be they `(B, F)` or `(B, C, H, W)`.
        num_classes: 0: there are none.
        head: `projection` or `auxiliary`; without classes it means nothing.
        spectral: whether the layer's largest singular value is held at 1.

    Raises:
        ConfigError: `head` is unknown.
    """

    def __init__(self, features: int, num_classes: int, head: Head, spectral: bool) -> None:
        super().__init__()
        check_choice("model.discriminator.head", head, Head)
        self.embedding: nn.Embedding | None = None
        self.classes: nn.Module | None = None
        if not num_classes:
            return
        layer: nn.Embedding | nn.Linear
        if head == "projection":
            self.embedding = layer = nn.Embedding(num_classes, features)
        else:
            self.classes = layer = nn.Linear(features, num_classes)
            nn.init.zeros_(layer.bias)
        nn.init.xavier_uniform_(layer.weight)
        if spectral:  # after drawing: the norm takes the weight as it finds it
            spectral_norm(layer)

    @override
    def forward(self, logits: Tensor, features: Tensor, label: Tensor | None = None) -> Logits:
        if self.embedding is not None:
            assert label is not None
            each = linear(_flat(features), self.embedding.weight)  # (B, num_classes)
            logits = logits + each.gather(1, label[:, None]).flatten()
        return logits if self.classes is None else (logits, self.classes(_flat(features)))


def _flat(features: Tensor) -> Tensor:
    """Returns `(B, F)` in the order in which maps lie in memory, channels last: no copy is made."""
    return features.movedim(1, -1).flatten(1)


def logits_and_features(layers: nn.Sequential, inputs: Tensor) -> tuple[Tensor, Tensor]:
    """Runs a discriminator's layers; returns logits `(B,)` and what the last layer was given."""
    *hidden, last = layers
    for layer in hidden:
        inputs = layer(inputs)
    return last(inputs).flatten(), inputs


def with_label_planes(images: Tensor, label: Tensor, num_classes: int) -> Tensor:
    """Returns images `(B, C + num_classes, H, W)` with a plane for each class, 1 for the label's.

    So the first conditional GAN shows a discriminator the class (arXiv:1411.1784).
    """
    planes = one_hot(label, num_classes).to(images.dtype)[:, :, None, None]
    return torch.cat([images, planes.expand(-1, -1, *images.shape[2:])], 1)


class LabelBesideNoise(nn.Module):
    """Any generator, given `[noise, embedding[label]]` in the place of its noise.

    So the first conditional GAN tells its generator the class (arXiv:1411.1784).

    Args:
        generator: has the attributes `latent_dim` and `image_shape`.
        num_classes: of labels, which are whole numbers from 0.
        label_dim: size of the class embedding, which starts at N(0, 1).

    Raises:
        ConfigError: `label_dim` leaves no noise of the generator's `latent_dim`, or the generator
            mixes styles.
    """

    def __init__(self, generator: nn.Module, num_classes: int, label_dim: int) -> None:
        super().__init__()
        inputs = int(generator.latent_dim)  # type: ignore[arg-type]
        self.latent_dim = inputs - label_dim
        if self.latent_dim < 1:
            raise ConfigError(
                f"label_dim={label_dim}: must be below the generator's latent_dim={inputs}, which"
                " is the size of noise and label together; make latent_dim larger"
            )
        if getattr(generator, "style_mixing", 0) > 0:
            raise ConfigError(
                "condition.generator=concat: a style mixed in would be of no class; write"
                " condition.generator=auto, or model.generator.style_mixing=0"
            )
        self.image_shape = generator.image_shape
        self.extra_noise = getattr(generator, "extra_noise", 0)
        self.has_styles = getattr(generator, "has_styles", False)
        self.generator: Any = generator
        self.embedding = nn.Embedding(num_classes, label_dim)

    @override
    def forward(self, noise: Tensor, label: Tensor, **extra: Tensor) -> Tensor:
        images: Tensor = self.generator(self._beside(noise, label), **extra)
        return images

    def styles(self, noise: Tensor, label: Tensor, **extra: Tensor | None) -> Tensor:
        """Returns the styles of a generator that has any."""
        styles: Tensor = self.generator.styles(self._beside(noise, label), **extra)
        return styles

    def synthesize(self, styles: Tensor, **extra: Tensor | None) -> Tensor:
        """Returns the images of styles."""
        images: Tensor = self.generator.synthesize(styles, **extra)
        return images

    def _beside(self, noise: Tensor, label: Tensor) -> Tensor:
        return torch.cat([noise, self.embedding(label).to(noise.dtype)], 1)


class LabelPlanes(nn.Module):
    """Any discriminator, shown the class as planes beside the image (`with_label_planes`).

    Args:
        discriminator: of images with C + `num_classes` channels.
        num_classes: of labels, which are whole numbers from 0.
    """

    def __init__(self, discriminator: nn.Module, num_classes: int) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.independent_samples = getattr(discriminator, "independent_samples", False)
        self.discriminator = discriminator

    @override
    def forward(self, images: Tensor, label: Tensor) -> Tensor:
        logits: Tensor = self.discriminator(with_label_planes(images, label, self.num_classes))
        return logits
