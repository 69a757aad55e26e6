"""The residual networks of SNGAN (arXiv:1802.05957) and WGAN-GP (arXiv:1704.00028).

Both papers use one topology for 32x32, at different widths, normalisations and pools.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, interpolate, relu
from torch.nn.utils.parametrizations import spectral_norm
from typing_extensions import override

from forger.bounds import PositiveInt, check_choice
from forger.networks.conditional import ClassHead, Head, Layers, Logits, batch_norm
from forger.networks.settings import ImageShape, check_sizes, side_in

Pool = Literal["sum", "mean"]

# Image side: the side of the smallest map, and the generator's channels from there to the image.
_GENERATORS: dict[int, tuple[int, Sequence[int]]] = {
    28: (7, (256, 256, 256)),  # not published: the table of 32 with one block less
    32: (4, (256, 256, 256, 256)),
    48: (6, (512, 256, 128, 64)),
    64: (4, (1024, 512, 256, 128, 64)),
    128: (4, (1024, 1024, 512, 256, 128, 64)),
}
# Image side: channels after each block of the discriminator, and how many blocks halve the map.
_DISCRIMINATORS: dict[int, tuple[Sequence[int], int]] = {
    28: ((128, 128, 128, 128), 2),
    32: ((128, 128, 128, 128), 2),
    48: ((64, 128, 256, 512, 1024), 4),
    64: ((64, 128, 256, 512, 1024), 5),
    128: ((64, 128, 256, 512, 1024, 1024), 5),
}
_EPS = 2e-5  # of BatchNorm, as published
_MODEL = "sngan|wgan_gp_resnet"


def _scaled(channels: Sequence[int], width: int | None, published: int) -> list[int]:
    factor = 1.0 if width is None else width / published
    return [max(1, round(each * factor)) for each in channels]


def _convolution(inputs: int, outputs: int, size: int, gain: float, spectral: bool) -> nn.Module:
    layer = nn.Conv2d(inputs, outputs, size, padding=size // 2)
    nn.init.xavier_uniform_(layer.weight, gain)
    nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
    return spectral_norm(layer) if spectral else layer


def _linear(inputs: int, outputs: int, spectral: bool) -> nn.Module:
    layer = nn.Linear(inputs, outputs)
    nn.init.xavier_uniform_(layer.weight)
    nn.init.zeros_(layer.bias)
    return spectral_norm(layer) if spectral else layer


class UpBlock(nn.Module):
    """Doubles the side of `(B, C, H, W)`.

    BatchNorm, ReLU, nearest x2, conv3, BatchNorm, ReLU, conv3. The shortcut is nearest x2 and a
    convolution of 1x1. `norm` makes BatchNorm of so many channels, which may be given something.
    """

    def __init__(self, inputs: int, outputs: int, norm: Callable[[int], nn.Module]) -> None:
        super().__init__()
        self.residual = Layers(
            norm(inputs),
            nn.ReLU(inplace=True),
            nn.Upsample(scale_factor=2),
            _convolution(inputs, outputs, 3, math.sqrt(2), spectral=False),
            norm(outputs),
            nn.ReLU(inplace=True),
            _convolution(outputs, outputs, 3, math.sqrt(2), spectral=False),
        )
        self.shortcut = _convolution(inputs, outputs, 1, 1, spectral=False)

    @override
    def forward(self, features: Tensor, given: Tensor | None = None) -> Tensor:
        # A convolution of 1x1 commutes with repeating pixels, and is cheaper before it.
        shortcut = interpolate(self.shortcut(features), scale_factor=2.0)
        total: Tensor = self.residual(features, given) + shortcut
        return total


class DownBlock(nn.Module):
    """ReLU, conv3, ReLU, conv3 on `(B, C, H, W)`, with an average over 2x2 pixels where it halves.

    The shortcut is a convolution of 1x1 and the average; nothing where neither size changes. The
    first block of a discriminator has no ReLU before its first convolution, which sees images. A
    `wide` block has all its channels from its first convolution on, as a first block has.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        halves: bool,
        spectral: bool = False,
        first: bool = False,
        wide: bool = False,
    ) -> None:
        super().__init__()
        self.halves, self.first = halves, first
        hidden = outputs if first or wide else inputs
        self.conv1 = _convolution(inputs, hidden, 3, math.sqrt(2), spectral)
        self.conv2 = _convolution(hidden, outputs, 3, math.sqrt(2), spectral)
        self.shortcut: nn.Module = nn.Identity()
        if halves or inputs != outputs:
            self.shortcut = _convolution(inputs, outputs, 1, 1, spectral)

    @override
    def forward(self, features: Tensor) -> Tensor:
        residual = self.conv1(features if self.first else relu(features))
        residual = self.conv2(relu(residual))
        if self.halves:
            # The shortcut's convolution of 1x1 commutes with the average, and is cheaper after it.
            residual, features = avg_pool2d(residual, 2), avg_pool2d(features, 2)
        total: Tensor = residual + self.shortcut(features)
        return total


class Generator(nn.Module):
    """Noise `(B, latent_dim)` and labels `(B,)` to images `(B, C, H, W)` in [-1, 1].

    A linear layer to the smallest map, residual blocks that double it, BatchNorm, ReLU, conv3 and
    tanh. 4,276,739 parameters for 3x32x32 and 4,304,387 with 10 classes; at width 128, that of
    WGAN-GP, 1,218,307 with 10 classes.

    Args:
        image_shape: channels, height, width; a side is 28, 32, 48, 64 or 128.
        latent_dim: size of the noise.
        width: channels of the last map, with which all others scale; `None` is as published: 256
            for sides up to 32, else 64.
        num_classes: whose BatchNorms the blocks have; 0: there are no classes.

    Raises:
        ConfigError: there is no table for the image's side, or a size is not positive.
    """

    def __init__(
        self,
        image_shape: ImageShape,
        latent_dim: PositiveInt = 128,
        width: PositiveInt | None = None,
        num_classes: int = 0,
    ) -> None:
        super().__init__()
        check_sizes("generator", latent_dim=latent_dim, width=1 if width is None else width)
        self.image_shape, self.latent_dim = image_shape, latent_dim
        side, published = _GENERATORS[side_in(_GENERATORS, image_shape, _MODEL)]
        channels = _scaled(published, width, published[-1])
        self.map_shape = (channels[0], side, side)
        self.linear = _linear(latent_dim, math.prod(self.map_shape), spectral=False)
        norm = partial(batch_norm, nn.BatchNorm2d, num_classes=num_classes, eps=_EPS)
        self.blocks = nn.ModuleList(UpBlock(*pair, norm) for pair in pairwise(channels))
        self.norm = nn.BatchNorm2d(channels[-1], eps=_EPS)
        self.image = _convolution(channels[-1], image_shape[0], 3, 1, spectral=False)
        self.to(memory_format=torch.channels_last)

    @override
    def forward(self, noise: Tensor, label: Tensor | None = None) -> Tensor:
        features = self.linear(noise).unflatten(1, self.map_shape)
        features = features.contiguous(memory_format=torch.channels_last)
        for block in self.blocks:
            features = block(features, label)
        images: Tensor = self.image(relu(self.norm(features))).tanh()
        return images


class Discriminator(nn.Module):
    """Images `(B, C, H, W)` and labels `(B,)` to logits `(B,)`; positive means real.

    Residual blocks that halve the map, then plain ones, ReLU, a pool over all pixels and a linear
    layer; no normalisation of features. 1,053,825 parameters for 3x32x32; with 10 classes 1,055,105
    by projection and 1,055,115 with a class head.

    Args:
        image_shape: channels, height, width; a side is 28, 32, 48, 64 or 128.
        width: channels of the first block, with which all others scale; `None` is as published: 128
            for sides up to 32, else 64.
        spectral: whether the largest singular value of each layer is held at 1 (SNGAN).
        pool: over the pixels of the last map: `sum` (SNGAN) or `mean` (WGAN-GP).
        num_classes: 0: there are no classes.
        head: how it judges classes, see `ClassHead`.

    Raises:
        ConfigError: there is no table for the image's side, or an argument is not allowed.
    """

    independent_samples = True

    def __init__(
        self,
        image_shape: ImageShape,
        width: PositiveInt | None = None,
        spectral: bool = True,
        pool: Pool = "sum",
        num_classes: int = 0,
        head: Head = "projection",
    ) -> None:
        super().__init__()
        check_sizes("discriminator", width=1 if width is None else width)
        check_choice("model.discriminator.pool", pool, Pool)
        self.image_shape, self.pool = image_shape, pool
        published, halvings = _DISCRIMINATORS[side_in(_DISCRIMINATORS, image_shape, _MODEL)]
        channels = [image_shape[0], *_scaled(published, width, published[0])]
        self.blocks = nn.Sequential(
            *(
                DownBlock(*pair, halves=depth < halvings, spectral=spectral, first=depth == 0)
                for depth, pair in enumerate(pairwise(channels))
            )
        )
        self.logit = _linear(channels[-1], 1, spectral)
        self.class_head = ClassHead(channels[-1], num_classes, head, spectral)
        self.to(memory_format=torch.channels_last)

    @override
    def forward(self, images: Tensor, label: Tensor | None = None) -> Logits:
        maps = relu(self.blocks(images))
        features = maps.sum((2, 3)) if self.pool == "sum" else maps.mean((2, 3))
        judged: Logits = self.class_head(self.logit(features).squeeze(1), features, label)
        return judged
