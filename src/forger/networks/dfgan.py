"""DF-GAN (arXiv:2008.05865): images of a text in one stage, from affine layers told noise and text.

Each network is given the embedding of a text; without one (`text_dim=0`) images are of no text.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, interpolate, leaky_relu
from typing_extensions import override

from forger.bounds import PositiveInt
from forger.networks.settings import ImageShape, check_sizes, plan_sizes

_MOST = 8  # times the width that a layer has channels
_SLOPE = 0.2  # of LeakyReLU


class Affine(nn.Module):
    """`gain(c) x + bias(c)` for each channel, of a vector `c`; gains start at 1, biases at 0.

    Two MLPs with a hidden layer as wide as there are channels make them.
    """

    def __init__(self, channels: int, inputs: int) -> None:
        super().__init__()
        self.gain, self.bias = _mlp(inputs, channels), _mlp(inputs, channels)
        nn.init.ones_(self.gain[-1].bias)  # type: ignore[arg-type]

    @override
    def forward(self, features: Tensor, vector: Tensor) -> Tensor:
        gain, bias = (one(vector)[:, :, None, None] for one in (self.gain, self.bias))
        return torch.addcmul(bias.to(features.dtype), gain.to(features.dtype), features)


class GeneratorBlock(nn.Module):
    """Doubles the side; twice two affine layers with LeakyReLU, and conv3; beside a shortcut."""

    def __init__(self, inputs: int, outputs: int, vector: int) -> None:
        super().__init__()
        channels = (inputs, inputs, outputs, outputs)
        self.affines = nn.ModuleList(Affine(count, vector) for count in channels)
        self.first = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.second = nn.Conv2d(outputs, outputs, 3, padding=1)
        self.shortcut = nn.Conv2d(inputs, outputs, 1) if inputs != outputs else nn.Identity()

    @override
    def forward(self, features: Tensor, vector: Tensor) -> Tensor:
        # What each pixel undergoes alone comes before the side doubles: the same result for a
        # quarter of the work.
        beside = interpolate(self.shortcut(features), scale_factor=2)
        features = self._affine(features, vector, slice(0, 2))
        features = self.first(interpolate(features, scale_factor=2))
        changed: Tensor = self.second(self._affine(features, vector, slice(2, 4)))
        return beside + changed

    def _affine(self, features: Tensor, vector: Tensor, numbers: slice) -> Tensor:
        for affine in self.affines[numbers]:
            features = leaky_relu(affine(features, vector), _SLOPE)
        return features


class Generator(nn.Module):
    """Noise `(B, latent_dim)` and text embeddings `(B, text_dim)` to images in [-1, 1].

    A linear layer of the noise to the smallest map, a block for each doubling of the side, then
    LeakyReLU, conv3 and tanh. There is no BatchNorm.

    Args:
        image_shape: channels, height, width.
        latent_dim: size of the noise.
        width: channels of the last map, doubling towards the noise up to eight times as many.
        text_dim: size of a text's embedding.

    Raises:
        ConfigError: the image's side cannot be made, or a size is not positive.
    """

    def __init__(
        self,
        image_shape: ImageShape,
        latent_dim: PositiveInt = 100,
        width: PositiveInt = 32,
        text_dim: int = 0,
    ) -> None:
        super().__init__()
        check_sizes("generator", latent_dim=latent_dim, width=width)
        self.image_shape, self.latent_dim = image_shape, latent_dim
        side, doublings = plan_sizes(image_shape)
        channels = _channels(width, doublings)[::-1]
        self.smallest = nn.Linear(latent_dim, _MOST * width * side**2)
        self.unflatten = nn.Unflatten(1, (_MOST * width, side, side))
        pairs = zip([_MOST * width, *channels[1:]], channels[1:], strict=False)
        vector = latent_dim + text_dim
        self.blocks = nn.ModuleList(GeneratorBlock(*pair, vector) for pair in pairs)
        self.last = nn.Conv2d(width, image_shape[0], 3, padding=1)
        self.to(memory_format=torch.channels_last)

    @override
    def forward(self, noise: Tensor, text: Tensor | None = None) -> Tensor:
        vector = noise if text is None else torch.cat([noise, text.to(noise.dtype)], 1)
        features = self.unflatten(self.smallest(noise))
        features = features.contiguous(memory_format=torch.channels_last)
        for block in self.blocks:
            features = block(features, vector)
        return torch.tanh(self.last(leaky_relu(features, _SLOPE)))


class DiscriminatorBlock(nn.Module):
    """Halves the side: conv4 with stride 2 and conv3, LeakyReLU after each, times a learned factor.

    With a factor of 0 a block starts as its shortcut: the mean of 2x2 pixels.
    """

    def __init__(self, inputs: int, outputs: int, factor: float = 0.0) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(inputs, outputs, 4, stride=2, padding=1, bias=False),
            nn.LeakyReLU(_SLOPE, inplace=True),
            nn.Conv2d(outputs, outputs, 3, padding=1, bias=False),
            nn.LeakyReLU(_SLOPE, inplace=True),
        )
        self.shortcut = nn.Conv2d(inputs, outputs, 1) if inputs != outputs else nn.Identity()
        self.factor = nn.Parameter(torch.full((1,), float(factor)))

    @override
    def forward(self, features: Tensor) -> Tensor:
        # 1x1 after the mean: the same result for a quarter of the work
        beside: Tensor = self.shortcut(avg_pool2d(features, 2))
        changed: Tensor = self.layers(features)
        return torch.addcmul(beside, self.factor.to(changed.dtype), changed)


class Discriminator(nn.Module):
    """Images `(B, C, H, W)` and text embeddings `(B, text_dim)` to logits `(B,)`.

    conv3, a block for each halving of the side, and a head that sees the text beside the smallest
    map: conv3, LeakyReLU and a convolution over the whole map. There may be more texts than images:
    those behind are judged with the first images again, whose features are computed once.

    Args:
        image_shape: channels, height, width.
        width: channels of the first map, doubling with each halving up to eight times as many.
        text_dim: size of a text's embedding.
        head_width: channels of the head, where image meets text; None: twice the width.
        initial_factor: of what each block adds to its shortcut. At the paper's 0 the first
            thousands of updates see little more than a thumbnail.

    Raises:
        ConfigError: the image's side cannot be read, or a size is not positive.
    """

    independent_samples = True
    takes_more_texts = True

    def __init__(
        self,
        image_shape: ImageShape,
        width: PositiveInt = 32,
        text_dim: int = 0,
        head_width: PositiveInt | None = None,
        initial_factor: float = 0.0,
    ) -> None:
        super().__init__()
        head_width = 2 * width if head_width is None else head_width
        check_sizes("discriminator", width=width, head_width=head_width)
        self.image_shape = image_shape
        side, doublings = plan_sizes(image_shape)
        channels = _channels(width, doublings)
        self.first = nn.Conv2d(image_shape[0], width, 3, padding=1)
        blocks = (DiscriminatorBlock(*pair, initial_factor) for pair in pairwise(channels))
        self.blocks = nn.Sequential(*blocks)
        self.head = nn.Sequential(
            nn.Conv2d(channels[-1] + text_dim, head_width, 3, padding=1, bias=False),
            nn.LeakyReLU(_SLOPE, inplace=True),
            nn.Conv2d(head_width, 1, side, bias=False),
        )
        self.to(memory_format=torch.channels_last)

    @override
    def forward(self, images: Tensor, text: Tensor | None = None) -> Tensor:
        features: Tensor = self.blocks(self.first(images))
        if text is not None:
            features = torch.cat([features, features[: len(text) - len(features)]])
            planes = text.to(features.dtype)[:, :, None, None]
            features = torch.cat([features, planes.expand(-1, -1, *features.shape[2:])], 1)
        logits: Tensor = self.head(features)
        return logits.flatten()


def _channels(width: int, doublings: int) -> list[int]:
    """Returns the channels of maps from the largest to the smallest."""
    return [width * min(2**depth, _MOST) for depth in range(doublings + 1)]


def _mlp(inputs: int, channels: int) -> nn.Sequential:
    last = nn.Linear(channels, channels)
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)
    return nn.Sequential(nn.Linear(inputs, channels), nn.ReLU(), last)
