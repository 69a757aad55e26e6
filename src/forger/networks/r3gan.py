"""The networks of R3GAN (arXiv:2501.05441): bottleneck residual blocks without normalisation.

The smallest map has 4 to 7 pixels a side and doubles up to the image's side: 32 and 64 start from
4x4 as in the paper, 28 from 7x7.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.functional import leaky_relu, linear
from typing_extensions import override

from forger.bounds import PositiveInt, check_choice
from forger.errors import ConfigError
from forger.networks.conditional import ClassHead, Head, Logits
from forger.networks.resampling import Downsample2x, Upsample2x
from forger.networks.settings import ImageShape, Widths, check_sizes, check_stages, plan_sizes

_SLOPE = 0.2  # of LeakyReLU
_EXPANSION = 2  # channels inside a block, for each one outside
_LABEL_DIM = 64  # of the embedding beside the noise


def _he_normal(weight: Tensor, gain: float = 1.0) -> Tensor:
    """Draws a layer's weight from N(0, gain / sqrt(fan in)) (arXiv:1502.01852); returns it."""
    return nn.init.normal_(weight, 0.0, gain / math.sqrt(weight[0].numel()))


def _convolution(inputs: int, outputs: int) -> nn.Conv2d:
    """Returns a convolution of 1x1 without bias."""
    layer = nn.Conv2d(inputs, outputs, 1, bias=False)
    _he_normal(layer.weight)
    return layer


class Block(nn.Module):
    """A residual block that begins as the identity on `(B, C, H, W)`.

    1x1 to twice as many channels, LeakyReLU 0.2, grouped 3x3, LeakyReLU 0.2, 1x1 back, whose
    weights start at zero; added to the input. Biases stand before the activations only.

    Args:
        channels: of the maps.
        group_size: channels of each group of the convolution of 3x3; divides twice `channels`.
        depth: blocks of the whole network. The others' weights start smaller by its fourth root,
            so that the sum of all residuals stays of one size (Fixup, arXiv:1901.09321).
    """

    def __init__(self, channels: int, group_size: int, depth: int) -> None:
        super().__init__()
        hidden = _EXPANSION * channels
        self.expand = nn.Conv2d(channels, hidden, 1)
        self.grouped = nn.Conv2d(hidden, hidden, 3, padding=1, groups=hidden // group_size)
        self.reduce = nn.Conv2d(hidden, channels, 1, bias=False)
        gain = nn.init.calculate_gain("leaky_relu", _SLOPE) * depth**-0.25
        for layer in (self.expand, self.grouped):
            _he_normal(layer.weight, gain)
            nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
        nn.init.zeros_(self.reduce.weight)

    @override
    def forward(self, features: Tensor) -> Tensor:
        hidden = leaky_relu(self.expand(features), _SLOPE, inplace=True)
        hidden = leaky_relu(self.grouped(hidden), _SLOPE, inplace=True)
        total: Tensor = features + self.reduce(hidden)
        return total


def _blocks(width: int, group_size: int, number: int, depth: int) -> list[nn.Module]:
    return [Block(width, group_size, depth) for _ in range(number)]


def _transition(inputs: int, outputs: int) -> list[nn.Module]:
    """Returns what changes the number of channels: nothing where it stays."""
    return [] if inputs == outputs else [_convolution(inputs, outputs)]


def _widths(network: str, width: Widths, group_size: int, blocks: int, stages: int) -> list[int]:
    """Returns the channels at each side, from the smallest map to the image.

    Raises:
        ConfigError: a size is not allowed.
    """
    check_sizes(network, width=width, group_size=group_size, blocks=blocks)
    widths = list(width) if isinstance(width, Sequence) else [width] * stages
    check_stages(network, "width", widths, stages)
    for each in widths:
        if _EXPANSION * each % group_size:
            raise ConfigError(
                f"model.{network}.group_size={group_size}: must divide {_EXPANSION * each}, twice"
                f" the width {each}"
            )
    return widths


class Generator(nn.Module):
    """Noise `(B, latent_dim)` and labels `(B,)` to images `(B, C, H, W)`, about in [-1, 1].

    A learned map of each channel times a linear function of the noise, then stages of `Block`s, the
    side doubled by a filter (`upsample2x`) between two of them, and a convolution of 1x1; nothing
    bounds the images. 20,732,160 parameters for 3x32x32, 20,781,952 with 10 classes; 285,888 at
    width 64.

    Args:
        image_shape: channels, height, width; a side is 4 to 7 times a power of two.
        latent_dim: size of the noise.
        width: channels of all maps; or a list of those of each side, from the smallest map to the
            image, where a convolution of 1x1 stands between two that differ.
        group_size: channels of each group of the convolutions of 3x3; published are 16.
        blocks: at each side.
        num_classes: whose embedding of 64 numbers stands beside the noise; 0: there are no classes.

    Raises:
        ConfigError: images have another side, or an argument is not allowed.
    """

    def __init__(
        self,
        image_shape: ImageShape,
        latent_dim: PositiveInt = 64,
        width: Widths = 768,
        group_size: PositiveInt = 16,
        blocks: PositiveInt = 2,
        num_classes: int = 0,
    ) -> None:
        super().__init__()
        check_sizes("generator", latent_dim=latent_dim)
        self.image_shape, self.latent_dim = image_shape, latent_dim
        side, doublings = plan_sizes(image_shape)
        stages = doublings + 1
        widths = _widths("generator", width, group_size, blocks, stages)
        self.embedding: nn.Embedding | None = None
        inputs = latent_dim
        if num_classes:
            self.embedding = nn.Embedding(num_classes, _LABEL_DIM)
            nn.init.normal_(self.embedding.weight, 0.0, num_classes**-0.5)  # linear in one-hot
            inputs += _LABEL_DIM
        self.basis = nn.Parameter(torch.randn(widths[0], side, side))
        self.linear = nn.Linear(inputs, widths[0], bias=False)
        _he_normal(self.linear.weight)
        own = group_size, blocks, blocks * stages
        layers = _blocks(widths[0], *own)
        for pair in pairwise(widths):
            layers += [*_transition(*pair), Upsample2x(), *_blocks(pair[1], *own)]
        self.stages = nn.Sequential(*layers)
        self.image = _convolution(widths[-1], image_shape[0])
        self.to(memory_format=torch.channels_last)

    @override
    def forward(self, noise: Tensor, label: Tensor | None = None) -> Tensor:
        if self.embedding is not None:
            assert label is not None
            noise = torch.cat([noise, self.embedding(label).to(noise.dtype)], 1)
        features = self.basis * self.linear(noise)[:, :, None, None]
        features = features.contiguous(memory_format=torch.channels_last)
        images: Tensor = self.image(self.stages(features))
        return images


class Discriminator(nn.Module):
    """Images `(B, C, H, W)` and labels `(B,)` to logits `(B,)`; positive means real.

    The mirror of the generator: a convolution of 1x1, stages of `Block`s, the side halved by a
    filter (`downsample2x`) between two of them, for each channel a weighted sum over the pixels of
    the last map, and a linear layer. With classes this has as many outputs as inputs, and their dot
    product with an embedding of the label is the logit. 20,683,776 parameters for 3x32x32,
    21,280,512 with 10 classes; 281,856 at width 64.

    Args:
        image_shape: channels, height, width; a side is 4 to 7 times a power of two.
        width: channels of all maps; or a list of those of each side, from the smallest map to the
            image, where a convolution of 1x1 stands between two that differ.
        group_size: channels of each group of the convolutions of 3x3; published are 16.
        blocks: at each side.
        num_classes: 0: there are no classes.
        head: how it judges classes: `projection` as above, or `auxiliary` by class logits beside
            the logit, see `ClassHead`.

    Raises:
        ConfigError: images have another side, or an argument is not allowed.
    """

    independent_samples = True

    def __init__(
        self,
        image_shape: ImageShape,
        width: Widths = 768,
        group_size: PositiveInt = 16,
        blocks: PositiveInt = 2,
        num_classes: int = 0,
        head: Head = "projection",
    ) -> None:
        super().__init__()
        check_choice("model.discriminator.head", head, Head)
        self.image_shape = image_shape
        side, doublings = plan_sizes(image_shape)
        stages = doublings + 1
        widths = _widths("discriminator", width, group_size, blocks, stages)
        self.image = _convolution(image_shape[0], widths[-1])
        own = group_size, blocks, blocks * stages
        layers = _blocks(widths[-1], *own)
        for pair in pairwise(reversed(widths)):
            layers += [Downsample2x(), *_transition(*pair), *_blocks(pair[1], *own)]
        self.stages = nn.Sequential(*layers)
        last = widths[0]
        projects = num_classes > 0 and head == "projection"
        self.basis = nn.Conv2d(last, last, side, groups=last, bias=False)
        self.linear = nn.Linear(last, last if projects else 1, bias=False)
        for layer in (self.basis, self.linear):
            _he_normal(layer.weight)
        self.embedding: nn.Embedding | None = None
        if projects:
            self.embedding = nn.Embedding(num_classes, last)
            nn.init.normal_(self.embedding.weight, 0.0, (num_classes * last) ** -0.5)
        self.class_head = ClassHead(last, 0 if projects else num_classes, head, spectral=False)
        self.to(memory_format=torch.channels_last)

    @override
    def forward(self, images: Tensor, label: Tensor | None = None) -> Logits:
        features = self.basis(self.stages(self.image(images))).flatten(1)
        outputs = self.linear(features)
        if self.embedding is not None:
            assert label is not None
            outputs = linear(outputs, self.embedding.weight).gather(1, label[:, None])
        judged: Logits = self.class_head(outputs.squeeze(1), features)
        return judged
