"""StyleGAN2's generator and discriminator (arXiv:1912.04958) for square images of many sizes.

The smallest feature map has 4 to 7 pixels a side and doubles up to the image's side: powers of two
start from a constant of 4x4 as published, 28 from one of 7x7.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from typing_extensions import override

from forger.bounds import Fraction, NonNegativeInt, PositiveInt, check_bounds, check_choice
from forger.networks.conditional import Head, Logits
from forger.networks.modulated_layers import StyledLayer, ToImage
from forger.networks.resampling import Upsample2x
from forger.networks.settings import ImageShape, Widths, check_sizes, check_stages, plan_sizes
from forger.networks.stylegan2_layers import (
    EqualConv2d,
    EqualLinear,
    Mapping,
    MinibatchDeviation,
)


def _plan(
    network: str, image_shape: ImageShape, base: Widths, most: int
) -> tuple[list[int], list[int]]:
    """Returns the sides of the maps, the smallest first, and their channels.

    Raises:
        ConfigError: no such maps make the image, or a size is not allowed.
    """
    check_sizes(network, channel_base=base, channel_max=most)
    smallest, doublings = plan_sizes(image_shape)
    sides = [smallest * 2**k for k in range(doublings + 1)]
    if isinstance(base, Sequence):
        check_stages(network, "channel_base", base, len(sides))
        return sides, [min(width, most) for width in base]
    return sides, [max(1, min(base // side, most)) for side in sides]


class Generator(nn.Module):
    """Noise `(B, latent_dim)` and labels `(B,)` to images `(B, C, H, W)`, mostly in [-1, 1].

    A mapping network makes a style of the noise; a learned constant is doubled in steps of two
    modulated convolutions with per-pixel noise, and each step adds to the image. No tanh: what is
    out of range is clipped where images are shown. 30,370,060 parameters for 3x1024x1024; with two
    mapping layers, StyleGAN2-ADA's `cifar` settings (arXiv:2006.06676), 19,947,539 for 3x32x32 and
    20,215,315 with 10 classes. Clamps of float16 are left out.

    Args:
        image_shape: channels, height, width.
        latent_dim: size of the noise.
        style_dim: size of a style.
        mapping_layers: from noise to style.
        channel_base: a map of side `s` has `channel_base / s` channels; or a list of the channels
            of each side, from the smallest map to the image;
        channel_max: but no more than this.
        style_mixing: share of training images whose style changes to another one at some layer.
        num_classes: 0: there are no classes.

    Attributes:
        extra_noise: how many numbers N(0, 1) of an image `extra` holds: the noise of its pixels,
            and with style mixing the other style's noise, whether and where.

    Raises:
        ConfigError: the image's side cannot be made, or a setting is out of range.
    """

    has_styles = True

    def __init__(
        self,
        image_shape: ImageShape,
        latent_dim: PositiveInt = 512,
        style_dim: PositiveInt = 512,
        mapping_layers: PositiveInt = 8,
        channel_base: Widths = 32768,
        channel_max: PositiveInt = 512,
        style_mixing: Fraction = 0.9,
        num_classes: int = 0,
    ) -> None:
        super().__init__()
        sizes = {"latent_dim": latent_dim, "style_dim": style_dim, "mapping_layers": mapping_layers}
        check_sizes("generator", **sizes)
        check_bounds(style_mixing, Fraction, "model.generator.style_mixing")
        self.image_shape, self.latent_dim = image_shape, latent_dim
        self.style_mixing = style_mixing
        self.mapping = Mapping(latent_dim, num_classes, style_dim, mapping_layers)
        sides, channels = _plan("generator", image_shape, channel_base, channel_max)
        self.constant = nn.Parameter(torch.randn(1, channels[0], sides[0], sides[0]))
        layers = [StyledLayer(channels[0], channels[0], sides[0], style_dim)]
        for side, (inputs, outputs) in zip(sides[1:], pairwise(channels), strict=True):
            layers.append(StyledLayer(inputs, outputs, side, style_dim, doubles=True))
            layers.append(StyledLayer(outputs, outputs, side, style_dim))
        self.layers = nn.ModuleList(layers)
        self.images = nn.ModuleList(ToImage(each, image_shape[0], style_dim) for each in channels)
        self.upsample = Upsample2x()
        self.num_styles = len(layers) + 1  # an image is made with the style of the layer behind it
        self.noise_sizes = [layer.fixed_noise.numel() for layer in layers]
        mixing = latent_dim + 2 if style_mixing > 0 else 0
        self.extra_noise = sum(self.noise_sizes) + mixing
        self.to(memory_format=torch.channels_last)

    @override
    def forward(
        self, noise: Tensor, label: Tensor | None = None, extra: Tensor | None = None
    ) -> Tensor:
        """Takes `extra` `(B, extra_noise)` in training; without it pixels have fixed noise."""
        return self.synthesize(self.styles(noise, label, extra), extra)

    def styles(
        self, noise: Tensor, label: Tensor | None = None, extra: Tensor | None = None
    ) -> Tensor:
        """Returns the style of each layer, `(B, num_styles, style_dim)`."""
        own: Tensor = self.mapping(noise, label)
        styles = own[:, None].expand(-1, self.num_styles, -1)
        if extra is None or self.style_mixing == 0:
            return styles
        sizes = [sum(self.noise_sizes), self.latent_dim, 1, 1]
        _, other, whether, where = torch.split(extra, sizes, 1)
        mixes = torch.special.ndtr(whether) < self.style_mixing  # U(0, 1) of N(0, 1)
        first = 1 + torch.special.ndtr(where) * (self.num_styles - 1)  # of the other's layers
        layers = torch.arange(self.num_styles, device=noise.device)
        others = mixes & (layers >= first.floor())  # (B, num_styles)
        return torch.where(others[:, :, None], self.mapping(other, label)[:, None], styles)

    def synthesize(self, styles: Tensor, extra: Tensor | None = None) -> Tensor:
        """Returns the images of styles `(B, num_styles, style_dim)`."""
        each: list[Tensor | None] = [None] * len(self.layers)
        if extra is not None:
            pixels = torch.split(extra[:, : sum(self.noise_sizes)], self.noise_sizes, 1)
            each = [one.view(len(one), 1, math.isqrt(one.shape[1]), -1) for one in pixels]
        maps: Tensor = self.constant
        image: Tensor | None = None
        for number, (layer, noise) in enumerate(zip(self.layers, each, strict=True)):
            maps = layer(maps, styles[:, number], noise)
            if number % 2 == 0:  # the last layer of a side
                added = self.images[number // 2](maps, styles[:, number + 1])
                image = added if image is None else self.upsample(image) + added
        assert image is not None
        return image


class _Block(nn.Module):
    """Two convolutions of 3x3, of which the second halves the map, beside a shortcut of 1x1."""

    def __init__(self, inputs: int, outputs: int, residual: bool) -> None:
        super().__init__()
        gain = math.sqrt(0.5) if residual else 1.0  # keeps the variance of the sum
        self.first = EqualConv2d(inputs, inputs, 3)
        self.second = EqualConv2d(inputs, outputs, 3, halves=True, gain=gain)
        self.shortcut: EqualConv2d | None = None
        if residual:
            self.shortcut = EqualConv2d(
                inputs, outputs, 1, halves=True, activation=False, gain=gain
            )

    @override
    def forward(self, maps: Tensor) -> Tensor:
        found: Tensor = self.second(self.first(maps))
        return found if self.shortcut is None else found + self.shortcut(maps)


class Discriminator(nn.Module):
    """Images `(B, C, H, W)` and labels `(B,)` to logits `(B,)`; positive means real.

    Blocks of two convolutions that halve the map, minibatch standard deviation, a convolution and
    two linear layers. With classes the last one gives a vector, whose product with the mapped label
    is the logit. 29,012,513 parameters for 3x1024x1024; without residual connections, as in
    StyleGAN2-ADA's `cifar` settings (arXiv:2006.06676), 20,720,641 for 3x32x32 and 23,089,664 with
    10 classes.

    Args:
        image_shape: channels, height, width.
        channel_base: a map of side `s` has `channel_base / s` channels; or a list of the channels
            of each side, from the smallest map to the image;
        channel_max: but no more than this.
        residual: whether blocks have a shortcut.
        group_size: images whose standard deviation D sees; 0: none, and a logit depends on its own
            image alone.
        mapping_layers: from label to the vector of `projection`.
        num_classes: 0: there are no classes.
        head: how it judges classes: `projection`, or `auxiliary` by logits of classes beside.

    Raises:
        ConfigError: the image's side cannot be read, or a setting is out of range.
    """

    def __init__(
        self,
        image_shape: ImageShape,
        channel_base: Widths = 32768,
        channel_max: PositiveInt = 512,
        residual: bool = True,
        group_size: NonNegativeInt = 4,
        mapping_layers: PositiveInt = 8,
        num_classes: int = 0,
        head: Head = "projection",
    ) -> None:
        super().__init__()
        check_sizes("discriminator", mapping_layers=mapping_layers)
        check_bounds(group_size, NonNegativeInt, "model.discriminator.group_size")
        check_choice("model.discriminator.head", head, Head)
        self.image_shape, self.independent_samples = image_shape, group_size == 0
        sides, channels = _plan("discriminator", image_shape, channel_base, channel_max)
        last = channels[0]
        self.of_image = EqualConv2d(image_shape[0], channels[-1], 1)
        self.maps = nn.Sequential(
            *(_Block(*pair, residual) for pair in pairwise(reversed(channels))),
            *([MinibatchDeviation(group_size)] if group_size else []),
            EqualConv2d(last + bool(group_size), last, 3),
        )
        self.features = EqualLinear(last * sides[0] ** 2, last, activation=True)
        projects = num_classes > 0 and head == "projection"
        self.logit = EqualLinear(last, last if projects else 1)
        self.mapping = Mapping(0, num_classes, last, mapping_layers) if projects else None
        auxiliary = num_classes > 0 and not projects
        self.classes = EqualLinear(last, num_classes) if auxiliary else None
        self.to(memory_format=torch.channels_last)

    @override
    def forward(self, images: Tensor, label: Tensor | None = None) -> Logits:
        # Of grey images neither input nor weight tells how maps are to lie in memory.
        maps = self.maps(self.of_image(images).contiguous(memory_format=torch.channels_last))
        features = self.features(maps.movedim(1, -1).flatten(1))  # as they lie in memory
        found: Tensor = self.logit(features)
        if self.mapping is None:
            logits = found.squeeze(1)
        else:
            logits = (found * self.mapping(None, label)).sum(1) / math.sqrt(found.shape[1])
        return logits if self.classes is None else (logits, self.classes(features))
