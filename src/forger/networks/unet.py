"""The U-Net of pix2pix (arXiv:1611.07004): from image to image, fine detail by skips."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.functional import relu
from typing_extensions import override

from forger.bounds import FractionBelowOne, NonNegativeInt, PositiveInt, check_bounds
from forger.errors import ConfigError
from forger.networks.settings import ImageShape, check_sizes
from forger.networks.translation import (
    Init,
    TranslatorNorm,
    check_same_sides,
    check_sides,
    init_weights,
    translator_norm,
)

_MOST_DOWNS = 8  # as published for 256x256


def _number_of_downs(image_shape: ImageShape, downs: int | None) -> int:
    """Returns how often sides are halved: as told, or down to one pixel."""
    check_sides("model.generator", image_shape, least=2)
    most = min(image_shape[1:]).bit_length() - 1
    if downs is None:
        return min(most, _MOST_DOWNS)
    check_sizes("generator", downs=downs)
    if downs > most:
        _, height, width = image_shape
        raise ConfigError(
            f"model.generator.downs={downs}: {height}x{width} can be halved {most} times at most;"
            f" nearest: model.generator.downs={most}, or data.image_size={2**downs}"
        )
    return downs


class Up(nn.Module):
    """ReLU and a transposed convolution (4, stride 2, pad 1) of `(B, C, H, W)`, then `after`.

    A map of an odd side comes back to it: the size that is to come out is told.
    """

    def __init__(self, inputs: int, outputs: int, bias: bool, after: Sequence[nn.Module]) -> None:
        super().__init__()
        self.convolution = nn.ConvTranspose2d(inputs, outputs, 4, stride=2, padding=1, bias=bias)
        self.after = nn.Sequential(*after)

    @override
    def forward(self, features: Tensor, height: int, width: int) -> Tensor:
        features = self.convolution(relu(features), output_size=[height, width])
        upsampled: Tensor = self.after(features)
        return upsampled


class Generator(nn.Module):
    """Sources `(B, C', H, W)` to images `(B, C, H, W)` in [-1, 1].

    Convolutions (4, stride 2, pad 1) with LeakyReLU 0.2 before each but the first, whose channels
    double from `width` up to 8 times as many; transposed convolutions back, each given the map of
    its size from the way down beside the one below it; tanh at the end. A normalisation after all
    but the first, the smallest and the last map. 54,413,955 parameters for 3x256x256, 41,828,995
    for 3x128x128, 16,659,075 for 3x32x32. Sources of other sides of at least `2^downs` pass too.

    Args:
        image_shape: channels, height, width.
        source_shape: the same of what it is given; of the same height and width.
        width: channels of the first map.
        downs: how often sides are halved, odd ones rounded down; `None`: as often as there are
            pixels for, at most 8 times.
        norm: `batch` is published; with `instance` or `none` each image depends on its own source.
        dropout: chance of a feature to be dropped, the only noise there is; published is 0.5.
        dropout_layers: how many of the maps on the way up it falls on, from the smallest.
        init: `normal` or `xavier`, see `init_weights`.

    Raises:
        ConfigError: sides are too small for so many `downs`, or an argument is not allowed.
    """

    def __init__(
        self,
        image_shape: ImageShape,
        source_shape: ImageShape,
        width: PositiveInt = 64,
        downs: PositiveInt | None = None,
        norm: TranslatorNorm = "batch",
        dropout: FractionBelowOne = 0.5,
        dropout_layers: NonNegativeInt = 3,
        init: Init = "normal",
    ) -> None:
        super().__init__()
        check_sizes("generator", width=width)
        check_bounds(dropout, FractionBelowOne, "model.generator.dropout")
        check_bounds(dropout_layers, NonNegativeInt, "model.generator.dropout_layers")
        check_same_sides(image_shape, source_shape)
        self.image_shape, self.source_shape, self.norm = image_shape, source_shape, norm
        normalise, bias = translator_norm(norm), norm != "batch"
        number = _number_of_downs(image_shape, downs)
        self.smallest_side = 2**number
        channels = [source_shape[0], *(width * min(2**k, 8) for k in range(number))]
        self.downs, self.ups = nn.ModuleList(), nn.ModuleList()
        for depth, (inputs, outputs) in enumerate(pairwise(channels)):
            layers: list[nn.Module] = [nn.LeakyReLU(0.2)] if depth > 0 else []
            layers.append(nn.Conv2d(inputs, outputs, 4, stride=2, padding=1, bias=bias))
            layers += [normalise(outputs)] if 0 < depth < number - 1 else []
            self.downs.append(nn.Sequential(*layers))
        for depth, outputs in enumerate(reversed(channels[1:-1])):
            dropped = [nn.Dropout(dropout)] if dropout and depth < dropout_layers else []
            inputs = channels[-1 - depth] * (2 if depth > 0 else 1)
            self.ups.append(Up(inputs, outputs, bias, [normalise(outputs), *dropped]))
        inputs = channels[1] * (2 if number > 1 else 1)
        self.ups.append(Up(inputs, image_shape[0], True, [nn.Tanh()]))
        init_weights(self, init)
        if norm != "instance":  # which would change the order in memory at every layer
            self.to(memory_format=torch.channels_last)

    @override
    def forward(self, source: Tensor) -> Tensor:
        maps = [source]
        for down in self.downs:
            maps.append(down(maps[-1]))
        features = maps.pop()
        for up in self.ups:
            skip = maps.pop()
            features = up(features, *skip.shape[2:])
            features = torch.cat([skip, features], 1) if maps else features
        return features
