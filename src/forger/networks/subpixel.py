"""A small generator and discriminator that learn digits in minutes on a processor.

Convolutions of small maps between fully connected layers, as InfoGAN's networks for MNIST
(arXiv:1606.03657, appendix C.1); the layers at full resolution hold no weights, but move pixels
between channels and places, as sub-pixel convolution does (arXiv:1609.05158).
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn
from typing_extensions import override

from forger.bounds import PositiveInt
from forger.errors import ConfigError
from forger.networks.conditional import (
    ClassHead,
    Head,
    Layers,
    Logits,
    VectorBatchNorm,
    batch_norm,
    logits_and_features,
)
from forger.networks.settings import ImageShape, check_sizes, init_layers

_SLOPE = 0.2  # of LeakyReLU
_LAST_GAIN = 0.3  # starts the images within tanh's straight part


def _quarter(image_shape: ImageShape) -> tuple[int, int]:
    """Returns height and width of the map that two doublings make the image of."""
    _, height, width = image_shape
    if height % 4 or width % 4:
        below = max(4, height // 4 * 4)
        raise ConfigError(
            f"model=subpixel: makes images with sides of 4 times a whole number, not"
            f" {height}x{width}; nearest: data.image_size={below}|{below + 4}"
        )
    return height // 4, width // 4


def _init_weights(network: nn.Module) -> None:
    """Draws weights as He et al. for LeakyReLU (arXiv:1502.01852, eq. 15); biases are 0."""
    init_layers(network, partial(nn.init.kaiming_normal_, a=_SLOPE), nn.Conv2d, nn.Linear)


def _activation() -> nn.Module:
    return nn.LeakyReLU(_SLOPE, inplace=True)


class Generator(nn.Module):
    """Noise `(B, latent_dim)` and labels `(B,)` or texts to images `(B, C, H, W)` in [-1, 1].

    Two linear layers to `2 width` maps of a quarter of the image's side; two convolutions of 3x3
    pixels, each followed by a shuffle of four channels to the pixels of a map twice as wide.
    BatchNorm and LeakyReLU 0.2 after each layer but the last, tanh at the end; 1,714,500 parameters
    for 1x28x28.

    Args:
        image_shape: channels, height, width.
        latent_dim: size of the noise.
        width: channels of the map of half the image's side.
        hidden: width of the first linear layer.
        num_classes: whose BatchNorms the layers have; 0: there are no classes.
        text_dim: size of the embedding of a text, `(B, text_dim)`, which stands beside the noise,
            and in which gains and biases of maps are linear; 0: there are no texts.

    Raises:
        ConfigError: the image's sides are no multiples of 4, or a size is not positive.
    """

    def __init__(
        self,
        image_shape: ImageShape,
        latent_dim: PositiveInt = 64,
        width: PositiveInt = 32,
        hidden: PositiveInt = 512,
        num_classes: int = 0,
        text_dim: int = 0,
    ) -> None:
        super().__init__()
        check_sizes("generator", latent_dim=latent_dim, width=width, hidden=hidden)
        self.image_shape, self.latent_dim = image_shape, latent_dim
        self.map_shape = (*_quarter(image_shape), 2 * width)
        height, breadth, channels = self.map_shape
        self.linear = Layers(
            nn.Linear(latent_dim + text_dim, hidden, bias=False),
            batch_norm(nn.BatchNorm1d, hidden, num_classes),
            _activation(),
            nn.Linear(hidden, height * breadth * channels, bias=False),
        )

        def norm(channels: int) -> nn.Module:
            if text_dim:
                return VectorBatchNorm(channels, text_dim)
            return batch_norm(nn.BatchNorm2d, channels, num_classes)

        self.tells_by_text = text_dim > 0
        self.convolutions = Layers(
            norm(channels),
            _activation(),
            nn.Conv2d(channels, 4 * width, 3, padding=1, bias=False),
            nn.PixelShuffle(2),
            norm(width),
            _activation(),
            last := nn.Conv2d(width, 4 * image_shape[0], 3, padding=1),
            nn.PixelShuffle(2),
            nn.Tanh(),
        )
        _init_weights(self)
        with torch.no_grad():
            last.weight.mul_(_LAST_GAIN)
        self.to(memory_format=torch.channels_last)

    @override
    def forward(self, noise: Tensor, label: Tensor | None = None) -> Tensor:
        # (B, H/4, W/4, 2 width): channels last, as the convolutions want them, without a copy
        given = noise
        if self.tells_by_text and label is not None:  # a text's embedding
            given = torch.cat([noise, label.to(noise.dtype)], 1)
        maps = self.linear(given, label).unflatten(1, self.map_shape).permute(0, 3, 1, 2)
        images: Tensor = self.convolutions(maps, label)
        return images


class Discriminator(nn.Module):
    """Images `(B, C, H, W)` and labels `(B,)` or texts to logits `(B,)`; positive means real.

    Four pixels become four channels; a convolution of 3x3 to `width` maps, one of 4x4 with stride 2
    to `2 width`, and two linear layers, with LeakyReLU 0.2 between them. No normalisation: it wants
    R1. 837,345 parameters for 1x28x28.

    Args:
        image_shape: channels, height, width.
        width: channels of the map of half the image's side.
        hidden: width of the linear layer before the logit.
        num_classes: 0: there are no classes.
        head: how it judges classes by the hidden linear layer, see `ClassHead`.
        text_dim: size of the embedding `t` of a text: the hidden layer is linear in it, too, and
            `<V t, h>` is added to the logit (arXiv:1802.05637); 0: there are no texts. There may be
            more texts than images: those behind are judged with the first images again.

    Raises:
        ConfigError: the image's sides are no multiples of 4, a size is not positive, or `head` is
            unknown.
    """

    independent_samples = True
    takes_more_texts = True

    def __init__(
        self,
        image_shape: ImageShape,
        width: PositiveInt = 32,
        hidden: PositiveInt = 256,
        num_classes: int = 0,
        head: Head = "projection",
        text_dim: int = 0,
    ) -> None:
        super().__init__()
        check_sizes("discriminator", width=width, hidden=hidden)
        self.image_shape = image_shape
        height, breadth = _quarter(image_shape)
        self.convolutions = nn.Sequential(
            nn.PixelUnshuffle(2),
            nn.Conv2d(4 * image_shape[0], width, 3, padding=1),
            _activation(),
            nn.Conv2d(width, 2 * width, 4, stride=2, padding=1),
            _activation(),
        )
        self.linear = nn.Sequential(
            nn.Linear(height * breadth * 2 * width, hidden), _activation(), nn.Linear(hidden, 1)
        )
        self.text_beside = nn.Linear(text_dim, hidden, bias=False) if text_dim else None
        self.text_projection = nn.Linear(text_dim, hidden, bias=False) if text_dim else None
        _init_weights(self)
        self.class_head = ClassHead(hidden, num_classes, head, spectral=False)
        self.to(memory_format=torch.channels_last)

    @override
    def forward(self, images: Tensor, label: Tensor | None = None) -> Logits:
        maps = self.convolutions(images)
        # channels last once more: flattening them copies nothing
        flat = maps.permute(0, 2, 3, 1).flatten(1)
        if self.text_beside is not None and label is not None:
            return self._with_text(flat, label)
        judged: Logits = self.class_head(*logits_and_features(self.linear, flat), label)
        return judged

    def _with_text(self, flat: Tensor, text: Tensor) -> Tensor:
        assert self.text_beside is not None
        assert self.text_projection is not None
        first, activation, last = self.linear
        hidden = first(flat)
        hidden = torch.cat([hidden, hidden[: len(text) - len(hidden)]])
        hidden = activation(hidden + self.text_beside(text))
        logits: Tensor = last(hidden).flatten() + (self.text_projection(text) * hidden).sum(1)
        return logits
