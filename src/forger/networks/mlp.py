"""The vanilla GAN's two multi-layer perceptrons, as commonly trained on MNIST (arXiv:1406.2661)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.functional import one_hot
from typing_extensions import override

from forger.bounds import PositiveInt
from forger.networks.conditional import (
    ClassHead,
    Head,
    Layers,
    Logits,
    generator_norm,
    logits_and_features,
)
from forger.networks.settings import (
    GeneratorNorm,
    ImageShape,
    Norm,
    Normalise,
    check_sizes,
    linear_norm,
    resolve_norm,
    with_spectral_norm,
)


def _hidden_layers(
    sizes: Sequence[int], normalise: Normalise, norm: Norm = "auto"
) -> list[nn.Module]:
    """Returns linear layers with LeakyReLU 0.2, normalised after each but the first."""
    layers: list[nn.Module] = []
    for depth, (inputs, outputs) in enumerate(pairwise(sizes)):
        layers.append(with_spectral_norm(norm, nn.Linear(inputs, outputs)))
        if depth > 0:
            layers.append(normalise(outputs))
        layers.append(nn.LeakyReLU(0.2, inplace=True))
    return layers


class Generator(nn.Module):
    """Noise `(B, latent_dim)` and labels `(B,)` to images `(B, C, H, W)` in [-1, 1].

    Linear layers with LeakyReLU 0.2, BatchNorm after each but the first, tanh at the end.
    1,510,032 parameters for 1x28x28.

    Args:
        image_shape: channels, height, width.
        latent_dim: size of the noise.
        hidden: widths of the hidden layers.
        norm: of the hidden layers; with `none` each image depends on its own noise alone.
        num_classes: whose BatchNorms the layers have; 0: there are no classes.

    Raises:
        ConfigError: a size is not positive, or `norm` is refused.
    """

    def __init__(
        self,
        image_shape: ImageShape,
        latent_dim: PositiveInt = 100,
        hidden: Sequence[PositiveInt] = (128, 256, 512, 1024),
        norm: GeneratorNorm = "batch",
        num_classes: int = 0,
    ) -> None:
        super().__init__()
        check_sizes("generator", latent_dim=latent_dim, hidden=hidden)
        self.image_shape, self.latent_dim, self.norm = image_shape, latent_dim, norm
        sizes = (latent_dim, *hidden)
        layers = _hidden_layers(sizes, generator_norm(norm, nn.BatchNorm1d, num_classes))
        last = nn.Linear(sizes[-1], math.prod(image_shape))
        self.layers = Layers(*layers, last, nn.Tanh())

    @override
    def forward(self, noise: Tensor, label: Tensor | None = None) -> Tensor:
        images: Tensor = self.layers(noise, label)  # (B, C*H*W)
        return images.view(noise.shape[0], *self.image_shape)


class Discriminator(nn.Module):
    """Images `(B, C, H, W)` and labels `(B,)` to logits `(B,)`; positive means real.

    Linear layers with LeakyReLU 0.2. 533,505 parameters for 1x28x28.

    Args:
        image_shape: channels, height, width.
        hidden: widths of the hidden layers.
        norm: of the hidden layers; `auto` is none, as in the common recipe. The first layer is left
            without BatchNorm or LayerNorm, which would hide how bright an image is.
        gradient_penalty: whether the loss penalises gradients per sample.
        num_classes: 0: there are no classes.
        head: how it judges classes by the last hidden layer, see `ClassHead`.
        label_inputs: inputs beside the pixels, one for each class, of which the label's is 1
            (arXiv:1411.1784); 0: none. They take the place of `num_classes` and `head`.

    Raises:
        ConfigError: a size is not positive, or `norm` or `head` is refused.
    """

    def __init__(
        self,
        image_shape: ImageShape,
        hidden: Sequence[PositiveInt] = (512, 256),
        norm: Norm = "auto",
        gradient_penalty: bool = False,
        num_classes: int = 0,
        head: Head = "projection",
        label_inputs: int = 0,
    ) -> None:
        super().__init__()
        check_sizes("discriminator", hidden=hidden)
        self.image_shape, self.label_inputs = image_shape, label_inputs
        self.norm = resolve_norm(norm, "none", gradient_penalty)
        self.independent_samples = self.norm != "batch"
        sizes = (math.prod(image_shape) + label_inputs, *hidden)
        layers = _hidden_layers(sizes, linear_norm(self.norm), self.norm)
        last = with_spectral_norm(self.norm, nn.Linear(sizes[-1], 1))
        self.layers = nn.Sequential(nn.Flatten(), *layers, last)
        self.class_head = ClassHead(sizes[-1], num_classes, head, self.norm == "spectral")

    @override
    def forward(self, images: Tensor, label: Tensor | None = None) -> Logits:
        inputs = images.flatten(1)
        if self.label_inputs:
            assert label is not None
            inputs = torch.cat([inputs, one_hot(label, self.label_inputs).to(inputs.dtype)], 1)
        judged: Logits = self.class_head(*logits_and_features(self.layers, inputs), label)
        return judged
