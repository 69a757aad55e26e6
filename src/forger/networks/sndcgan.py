"""The plain convolutional networks of SNGAN's paper (arXiv:1802.05957, table 3)."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn
from typing_extensions import override

from forger.bounds import PositiveInt
from forger.networks.conditional import (
    ClassHead,
    Head,
    Layers,
    Logits,
    batch_norm,
    logits_and_features,
)
from forger.networks.settings import (
    ImageShape,
    check_sizes,
    init_layers,
    norm_layers,
    plan_sizes,
)

_normal = partial(nn.init.normal_, std=0.02)


class Generator(nn.Module):
    """Noise `(B, latent_dim)` and labels `(B,)` to images `(B, C, H, W)` in [-1, 1].

    A linear layer to the smallest map, transposed convolutions (4, stride 2, pad 1) that halve the
    channels down to `width`, BatchNorm and ReLU after each, then conv3 and tanh.

    Args:
        image_shape: channels, height, width.
        latent_dim: size of the noise.
        width: channels of the last hidden map.
        num_classes: whose BatchNorms the layers have; 0: there are no classes.

    Raises:
        ConfigError: the image's side cannot be made, or a size is not positive.
    """

    def __init__(
        self,
        image_shape: ImageShape,
        latent_dim: PositiveInt = 128,
        width: PositiveInt = 64,
        num_classes: int = 0,
    ) -> None:
        super().__init__()
        check_sizes("generator", latent_dim=latent_dim, width=width)
        self.image_shape, self.latent_dim = image_shape, latent_dim
        side, doublings = plan_sizes(image_shape)
        channels = width * 2**doublings
        layers: list[nn.Module] = [
            nn.Linear(latent_dim, channels * side**2),
            nn.Unflatten(1, (channels, side, side)),
            batch_norm(nn.BatchNorm2d, channels, num_classes),
            nn.ReLU(inplace=True),
        ]
        for _ in range(doublings):
            up = nn.ConvTranspose2d(channels, channels // 2, 4, stride=2, padding=1)
            channels //= 2
            layers += [up, batch_norm(nn.BatchNorm2d, channels, num_classes), nn.ReLU(inplace=True)]
        layers += [nn.Conv2d(width, image_shape[0], 3, padding=1), nn.Tanh()]
        self.layers = Layers(*layers)
        init_layers(self, _normal, nn.Linear, nn.ConvTranspose2d, nn.Conv2d)
        self.to(memory_format=torch.channels_last)

    @override
    def forward(self, noise: Tensor, label: Tensor | None = None) -> Tensor:
        images: Tensor = self.layers(noise, label)
        return images


class Discriminator(nn.Module):
    """Images `(B, C, H, W)` and labels `(B,)` to logits `(B,)`; positive means real.

    Pairs of convolutions, (3, stride 1) and (4, stride 2), at `width`, twice and four times as many
    channels, conv3 at eight times, LeakyReLU 0.1 after each, and a linear layer.

    Args:
        image_shape: channels, height, width.
        width: channels of the first pair.
        spectral: whether the largest singular value of each layer is held at 1.
        num_classes: 0: there are no classes.
        head: how it judges classes, see `ClassHead`.

    Raises:
        ConfigError: the image's side cannot be read, a size is not positive, or `head` is
            unknown.
    """

    independent_samples = True

    def __init__(
        self,
        image_shape: ImageShape,
        width: PositiveInt = 64,
        spectral: bool = True,
        num_classes: int = 0,
        head: Head = "projection",
    ) -> None:
        super().__init__()
        check_sizes("discriminator", width=width)
        self.image_shape = image_shape
        side, doublings = plan_sizes(image_shape)
        layers: list[nn.Module] = []
        inputs = image_shape[0]
        for depth in range(doublings):
            channels = width * 2**depth
            for size, stride in ((3, 1), (4, 2)):
                layers.append(nn.Conv2d(inputs, channels, size, stride, padding=1))
                layers.append(nn.LeakyReLU(0.1, inplace=True))
                inputs = channels
        channels = width * 2**doublings
        layers += [nn.Conv2d(inputs, channels, 3, padding=1), nn.LeakyReLU(0.1, inplace=True)]
        features = channels * side**2
        self.layers = nn.Sequential(*layers, nn.Flatten(), nn.Linear(features, 1))
        init_layers(self, _normal, nn.Conv2d, nn.Linear)
        if spectral:
            norm_layers(self, nn.Conv2d, nn.Linear)
        self.class_head = ClassHead(features, num_classes, head, spectral)
        self.to(memory_format=torch.channels_last)

    @override
    def forward(self, images: Tensor, label: Tensor | None = None) -> Logits:
        judged: Logits = self.class_head(*logits_and_features(self.layers, images), label)
        return judged
