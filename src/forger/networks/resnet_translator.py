"""The residual translator of CycleGAN (arXiv:1703.10593) and CUT (arXiv:2007.15651)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from typing_extensions import override

from forger.bounds import FractionBelowOne, PositiveInt, check_bounds, check_choice
from forger.errors import ConfigError
from forger.networks.resampling import Downsample2x, Upsample2x
from forger.networks.settings import ImageShape, Normalise, check_sizes
from forger.networks.translation import (
    Init,
    TranslatorNorm,
    check_same_sides,
    check_sides,
    init_weights,
    translator_norm,
)

Padding = Literal["reflect", "replicate", "zeros"]

_PADS: dict[str, type[nn.Module]] = {
    "reflect": nn.ReflectionPad2d,
    "replicate": nn.ReplicationPad2d,
    "zeros": nn.ZeroPad2d,
}


class Block(nn.Module):
    """Adds to `(B, C, H, W)` two convolutions of 3x3 with a normalisation each, ReLU between."""

    def __init__(
        self, channels: int, normalise: Normalise, padding: Padding, dropout: float, bias: bool
    ) -> None:
        super().__init__()
        first, second = (
            nn.Conv2d(channels, channels, 3, padding=1, padding_mode=padding, bias=bias)
            for _ in range(2)
        )
        dropped = [nn.Dropout(dropout)] if dropout else []
        self.residual = nn.Sequential(
            *(first, normalise(channels), nn.ReLU(), *dropped, second, normalise(channels))
        )

    @override
    def forward(self, features: Tensor) -> Tensor:
        total: Tensor = features + self.residual(features)
        return total


class Generator(nn.Module):
    """Sources `(B, C', H, W)` to images `(B, C, H, W)` in [-1, 1].

    A convolution of 7x7, two of 3x3 that halve the sides and double the channels, residual blocks,
    two that double the sides, one of 7x7 and tanh; a normalisation and ReLU after each but the
    last. 11,378,179 parameters for 3 channels with 9 blocks, 7,837,699 with 6. Sources of other
    sides that are multiples of `side_multiple` pass too.

    Args:
        image_shape: channels, height, width; sides are multiples of 4, at least 8.
        source_shape: the same of what it is given; of the same height and width.
        width: channels of the first map.
        blocks: published are 6 for a side of 128, 9 from 256 on.
        norm: `instance` has no gain and bias; with `batch` an image depends on the others.
        padding: around the convolutions of 7x7 and those of the blocks.
        dropout: chance of a feature to be dropped in the middle of a block.
        antialias: whether sides change by a filter beside a convolution of stride 1 (CUT), not by
            the convolution's stride. The filter is StyleGAN2's, with zeros around, both ways; CUT's
            public code halves by one of three taps.
        init: `normal` or, as in CUT, `xavier`, see `init_weights`.

    Raises:
        ConfigError: sides are not as above, or an argument is not allowed.
    """

    side_multiple, smallest_side = 4, 8

    def __init__(
        self,
        image_shape: ImageShape,
        source_shape: ImageShape,
        width: PositiveInt = 64,
        blocks: PositiveInt = 9,
        norm: TranslatorNorm = "instance",
        padding: Padding = "reflect",
        dropout: FractionBelowOne = 0.0,
        antialias: bool = False,
        init: Init = "normal",
    ) -> None:
        super().__init__()
        check_sizes("generator", width=width, blocks=blocks)
        check_choice("model.generator.padding", padding, Padding)
        check_bounds(dropout, FractionBelowOne, "model.generator.dropout")
        check_same_sides(image_shape, source_shape)
        least, multiple = self.smallest_side, self.side_multiple
        check_sides("model.generator", image_shape, least=least, multiple=multiple)
        self.image_shape, self.source_shape, self.norm = image_shape, source_shape, norm
        normalise, bias = translator_norm(norm), norm != "batch"
        own = (normalise, padding, dropout, bias)
        layers = [
            *(_PADS[padding](3), nn.Conv2d(source_shape[0], width, 7, bias=bias)),
            *(normalise(width), nn.ReLU()),
            *_half(width, normalise, bias, antialias),
            *_half(2 * width, normalise, bias, antialias),
            *(Block(4 * width, *own) for _ in range(blocks)),
            *_double(4 * width, normalise, bias, antialias),
            *_double(2 * width, normalise, bias, antialias),
            *(_PADS[padding](3), nn.Conv2d(width, image_shape[0], 7), nn.Tanh()),
        ]
        self.layers = nn.Sequential(*layers)
        init_weights(self, init)
        if norm != "instance":  # which would change the order in memory at every layer
            self.to(memory_format=torch.channels_last)

    @override
    def forward(self, source: Tensor) -> Tensor:
        images: Tensor = self.layers(source)
        return images

    def features(self, source: Tensor, layers: Sequence[int]) -> list[Tensor]:
        """Returns the outputs `(B, C, H, W)` of some layers, and computes none after the last.

        Numbered as in CUT's public code, whatever `antialias` is: 0 is the padded source, 4 and 8
        are the convolutions that double the channels, and the blocks begin with 12.

        Raises:
            ConfigError: there is no such layer.
        """
        if not layers or not all(0 <= layer < len(self.layers) for layer in layers):
            last = len(self.layers) - 1
            raise ConfigError(f"layers={list(layers)}: must be numbers from 0 to {last}")
        found = {}
        for number, layer in enumerate(self.layers[: max(layers) + 1]):
            found[number] = source = layer(source)
        return [found[number] for number in layers]


def _half(inputs: int, normalise: Normalise, bias: bool, antialias: bool) -> list[nn.Module]:
    """Returns layers that halve the sides and double the channels; always four of them."""
    stride, filtered = (1, Downsample2x()) if antialias else (2, nn.Identity())
    convolution = nn.Conv2d(inputs, 2 * inputs, 3, stride, padding=1, bias=bias)
    return [convolution, normalise(2 * inputs), nn.ReLU(), filtered]


def _double(inputs: int, normalise: Normalise, bias: bool, antialias: bool) -> list[nn.Module]:
    """Returns layers that double the sides and halve the channels."""
    outputs = inputs // 2
    if antialias:
        resized = [Upsample2x(), nn.Conv2d(inputs, outputs, 3, padding=1, bias=bias)]
    else:
        resized = [nn.ConvTranspose2d(inputs, outputs, 3, 2, 1, output_padding=1, bias=bias)]
    return [*resized, normalise(outputs), nn.ReLU()]
