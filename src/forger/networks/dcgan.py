"""DCGAN's generator and discriminator (arXiv:1511.06434) for square images of many sizes.

The smallest feature map has 4 to 7 pixels a side and doubles up to the image's side: 64 and 32
start from 4x4 as in the paper, 28 from 7x7.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn

from forger.bounds import PositiveInt
from forger.errors import ConfigError
from forger.networks.settings import (
    GeneratorNorm,
    ImageShape,
    Norm,
    check_norm,
    check_sizes,
    conv_norm,
    resolve_norm,
    with_spectral_norm,
)


def _plan_sizes(image_shape: ImageShape) -> tuple[int, int]:
    """Returns the side of the smallest feature map, 4 to 7, and how often it doubles."""
    _, height, width = image_shape
    side, doublings = height, 0
    while side > 7 and side % 2 == 0:
        side, doublings = side // 2, doublings + 1
    if height != width or not 4 <= side <= 7 or doublings == 0:
        sizes = sorted(base * 2**k for base in (4, 5, 6, 7) for k in range(1, 9))
        nearest = sorted(sorted(sizes, key=lambda size: abs(size - height))[:3])
        raise ConfigError(
            "model=dcgan: makes square images with a side of 4, 5, 6 or 7 times a power of two,"
            f" not {height}x{width}; nearest: data.image_size={'|'.join(map(str, nearest))}"
        )
    return side, doublings


def _init_weights(network: nn.Module) -> None:
    """Draws convolutions from N(0, 0.02) and norm scales from N(1, 0.02); biases are 0."""
    for module in network.modules():
        if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)):
            nn.init.normal_(module.weight, 0.0, 0.02)
        elif isinstance(module, (nn.BatchNorm2d, nn.GroupNorm, nn.InstanceNorm2d)):
            nn.init.normal_(module.weight, 1.0, 0.02)
        bias = getattr(module, "bias", None)
        if isinstance(bias, nn.Parameter):
            nn.init.zeros_(bias)


class Generator(nn.Module):
    """Noise `(B, latent_dim)` to images `(B, C, H, W)` in [-1, 1].

    A transposed convolution to the smallest map, then transposed convolutions (4, stride 2, pad 1)
    that halve the channels down to `width`; BatchNorm and ReLU after each but the last, tanh at the
    end, no bias. 3,576,704 parameters for 3x64x64, 1,068,928 for 3x32x32.

    Args:
        image_shape: channels, height, width.
        latent_dim: size of the noise.
        width: channels of the last hidden map; the paper's generator has 128.
        norm: `none` puts a bias in BatchNorm's place: each image depends on its own noise alone.

    Raises:
        ConfigError: the image's side cannot be made, a size is not positive, or `norm` is unknown.
    """

    def __init__(
        self,
        image_shape: ImageShape,
        latent_dim: PositiveInt = 100,
        width: PositiveInt = 64,
        norm: GeneratorNorm = "batch",
    ) -> None:
        super().__init__()
        check_sizes("generator", latent_dim=latent_dim, width=width)
        check_norm(norm, GeneratorNorm, "generator")
        self.image_shape, self.latent_dim, self.norm = image_shape, latent_dim, norm
        side, doublings = _plan_sizes(image_shape)
        normalise, bias = conv_norm(norm), norm == "none"
        channels = [*(width * 2**k for k in reversed(range(doublings))), image_shape[0]]
        layers: list[nn.Module] = [nn.ConvTranspose2d(latent_dim, channels[0], side, bias=bias)]
        for inputs, outputs in pairwise(channels):
            layers += [normalise(inputs), nn.ReLU(inplace=True)]
            layers.append(nn.ConvTranspose2d(inputs, outputs, 4, stride=2, padding=1, bias=bias))
        self.layers = nn.Sequential(*layers, nn.Tanh())
        _init_weights(self)
        self.to(memory_format=torch.channels_last)  # convolutions run faster, and keep it

    def forward(self, noise: Tensor) -> Tensor:
        images: Tensor = self.layers(noise[:, :, None, None])
        return images


class Discriminator(nn.Module):
    """Images `(B, C, H, W)` to logits `(B,)`; positive means real.

    The generator's mirror: convolutions (4, stride 2, pad 1) with LeakyReLU 0.2 that double the
    channels from `width`, a normalisation after each but the first, then one convolution over the
    smallest map. No bias beside a normalisation. 2,765,568 parameters for 3x64x64, 663,296 for
    3x32x32.

    Args:
        image_shape: channels, height, width.
        width: channels of the first hidden map.
        norm: `auto` is the paper's BatchNorm, or LayerNorm under a gradient penalty.
        gradient_penalty: whether the loss penalises gradients per sample.

    Raises:
        ConfigError: the image's side cannot be read, or `norm` is refused.
    """

    def __init__(
        self,
        image_shape: ImageShape,
        width: PositiveInt = 64,
        norm: Norm = "auto",
        gradient_penalty: bool = False,
    ) -> None:
        super().__init__()
        check_sizes("discriminator", width=width)
        self.image_shape = image_shape
        self.norm = resolve_norm(norm, "batch", gradient_penalty)
        self.independent_samples = self.norm != "batch"
        side, doublings = _plan_sizes(image_shape)
        normalise = conv_norm(self.norm)
        bias = self.norm in ("spectral", "none")
        channels = [image_shape[0], *(width * 2**k for k in range(doublings))]
        layers: list[nn.Module] = []
        for depth, (inputs, outputs) in enumerate(pairwise(channels)):
            layers.append(nn.Conv2d(inputs, outputs, 4, stride=2, padding=1, bias=bias))
            if depth > 0:
                layers.append(normalise(outputs))
            layers.append(nn.LeakyReLU(0.2, inplace=True))
        layers.append(nn.Conv2d(channels[-1], 1, side, bias=bias))
        self.layers = nn.Sequential(*layers)
        _init_weights(self)
        for layer in self.layers:  # after drawing: the norm takes the weight as it finds it
            if isinstance(layer, nn.Conv2d):
                with_spectral_norm(self.norm, layer)
        self.to(memory_format=torch.channels_last)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.layers(images)  # (B, 1, 1, 1)
        return logits.flatten()
