"""The networks of SimGAN (arXiv:1612.07828): a refiner of rendered images, and a local D."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import relu
from typing_extensions import override

from forger.bounds import PositiveInt
from forger.networks.settings import ImageShape, check_sizes
from forger.networks.translation import Init, check_same_sides, init_weights


class Block(nn.Module):
    """`relu(x + conv(relu(conv(x))))` with convolutions of 3x3, on `(B, C, H, W)`."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)

    @override
    def forward(self, features: Tensor) -> Tensor:
        return relu(features + self.conv2(relu(self.conv1(features))))


class Generator(nn.Module):
    """The refiner: sources `(B, C', H, W)` to images `(B, C, H, W)` in [-1, 1], of any size.

    A convolution of 3x3 with ReLU, residual blocks, a convolution of 1x1, tanh; no normalisation,
    and sides stay as they are throughout. 296,129 parameters for one channel.

    Args:
        image_shape: channels, height, width.
        source_shape: the same of what it is given; of the same height and width.
        width: channels of all maps.
        blocks: residual ones; an output depends on `4 blocks + 3` pixels a side.
        init: `normal` or `xavier`, see `init_weights`; the paper tells none.

    Raises:
        ConfigError: sources have other sides, or an argument is not allowed.
    """

    def __init__(
        self,
        image_shape: ImageShape,
        source_shape: ImageShape,
        width: PositiveInt = 64,
        blocks: PositiveInt = 4,
        init: Init = "xavier",
    ) -> None:
        super().__init__()
        check_sizes("generator", width=width, blocks=blocks)
        check_same_sides(image_shape, source_shape)
        self.image_shape, self.source_shape = image_shape, source_shape
        self.layers = nn.Sequential(
            *(nn.Conv2d(source_shape[0], width, 3, padding=1), nn.ReLU(inplace=True)),
            *(Block(width) for _ in range(blocks)),
            *(nn.Conv2d(width, image_shape[0], 1), nn.Tanh()),
        )
        init_weights(self, init)
        self.to(memory_format=torch.channels_last)

    @override
    def forward(self, source: Tensor) -> Tensor:
        images: Tensor = self.layers(source)
        return images


class Discriminator(nn.Module):
    """Images `(B, C, H, W)` to logits `(B, 1, H', W')` of places; positive means real.

    Convolutions of 3x3, two of them of stride 2 and a max-pool (3, stride 1) before the third, then
    two of 1x1; ReLU after each but the last. So H' is `ceil(H / 4)` and a logit sees 23 pixels a
    side. The last has two outputs, as in the paper: the logit is their difference, whose sigmoid is
    the softmax of both. 75,906 parameters for one channel.

    Args:
        image_shape: channels, height, width.
        width: channels of the last maps; the first two have 3 and 2 times as many.
        init: `normal` or `xavier`, see `init_weights`; the paper tells none.

    Raises:
        ConfigError: an argument is not allowed.
    """

    independent_samples = True

    def __init__(
        self, image_shape: ImageShape, width: PositiveInt = 32, init: Init = "xavier"
    ) -> None:
        super().__init__()
        check_sizes("discriminator", width=width)
        self.image_shape = image_shape
        self.layers = nn.Sequential(
            *(nn.Conv2d(image_shape[0], 3 * width, 3, 2, padding=1), nn.ReLU(inplace=True)),
            *(nn.Conv2d(3 * width, 2 * width, 3, 2, padding=1), nn.ReLU(inplace=True)),
            nn.MaxPool2d(3, stride=1, padding=1),
            *(nn.Conv2d(2 * width, width, 3, padding=1), nn.ReLU(inplace=True)),
            *(nn.Conv2d(width, width, 1), nn.ReLU(inplace=True)),
            nn.Conv2d(width, 2, 1),
        )
        init_weights(self, init)
        self.to(memory_format=torch.channels_last)

    @override
    def forward(self, images: Tensor) -> Tensor:
        real, fake = self.layers(images).split(1, 1)
        logits: Tensor = real - fake
        return logits
