"""The vanilla GAN's two multi-layer perceptrons, as commonly trained on MNIST (arXiv:1406.2661)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn

from forger.bounds import PositiveInt
from forger.networks.settings import (
    GeneratorNorm,
    ImageShape,
    Norm,
    check_norm,
    check_sizes,
    linear_norm,
    resolve_norm,
    with_spectral_norm,
)


def _hidden_layers(sizes: Sequence[int], norm: Norm) -> list[nn.Module]:
    """Returns linear layers with LeakyReLU 0.2, normalised after each but the first."""
    normalise = linear_norm(norm)
    layers: list[nn.Module] = []
    for depth, (inputs, outputs) in enumerate(pairwise(sizes)):
        layers.append(with_spectral_norm(norm, nn.Linear(inputs, outputs)))
        if depth > 0:
            layers.append(normalise(outputs))
        layers.append(nn.LeakyReLU(0.2, inplace=True))
    return layers


class Generator(nn.Module):
    """Noise `(B, latent_dim)` to images `(B, C, H, W)` in [-1, 1].

    Linear layers with LeakyReLU 0.2, BatchNorm after each but the first, tanh at the end.
    1,510,032 parameters for 1x28x28.

    Args:
        image_shape: channels, height, width.
        latent_dim: size of the noise.
        hidden: widths of the hidden layers.
        norm: of the hidden layers; with `none` each image depends on its own noise alone.

    Raises:
        ConfigError: a size is not positive, or `norm` is unknown.
    """

    def __init__(
        self,
        image_shape: ImageShape,
        latent_dim: PositiveInt = 100,
        hidden: Sequence[PositiveInt] = (128, 256, 512, 1024),
        norm: GeneratorNorm = "batch",
    ) -> None:
        super().__init__()
        check_sizes("generator", latent_dim=latent_dim, hidden=hidden)
        check_norm(norm, GeneratorNorm, "generator")
        self.image_shape, self.latent_dim, self.norm = image_shape, latent_dim, norm
        sizes = (latent_dim, *hidden)
        layers = _hidden_layers(sizes, norm)
        last = nn.Linear(sizes[-1], math.prod(image_shape))
        self.layers = nn.Sequential(*layers, last, nn.Tanh())

    def forward(self, noise: Tensor) -> Tensor:
        images: Tensor = self.layers(noise)  # (B, C*H*W)
        return images.view(len(noise), *self.image_shape)


class Discriminator(nn.Module):
    """Images `(B, C, H, W)` to logits `(B,)`; positive means real.

    Linear layers with LeakyReLU 0.2. 533,505 parameters for 1x28x28.

    Args:
        image_shape: channels, height, width.
        hidden: widths of the hidden layers.
        norm: of the hidden layers; `auto` is none, as in the common recipe. The first layer is left
            without BatchNorm or LayerNorm, which would hide how bright an image is.
        gradient_penalty: whether the loss penalises gradients per sample.

    Raises:
        ConfigError: a size is not positive, or `norm` has no meaning here.
    """

    def __init__(
        self,
        image_shape: ImageShape,
        hidden: Sequence[PositiveInt] = (512, 256),
        norm: Norm = "auto",
        gradient_penalty: bool = False,
    ) -> None:
        super().__init__()
        check_sizes("discriminator", hidden=hidden)
        self.image_shape = image_shape
        self.norm = resolve_norm(norm, "none", gradient_penalty)
        self.independent_samples = self.norm != "batch"
        sizes = (math.prod(image_shape), *hidden)
        layers = _hidden_layers(sizes, self.norm)
        last = with_spectral_norm(self.norm, nn.Linear(sizes[-1], 1))
        self.layers = nn.Sequential(nn.Flatten(), *layers, last)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.layers(images)  # (B, 1)
        return logits.squeeze(1)
