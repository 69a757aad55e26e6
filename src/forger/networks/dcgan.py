"""DCGAN's generator and discriminator (arXiv:1511.06434) for square images of many sizes.

The smallest feature map has 4 to 7 pixels a side and doubles up to the image's side: 64 and 32
start from 4x4 as in the paper, 28 from 7x7.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from typing_extensions import override

from forger.bounds import PositiveInt
from forger.networks.conditional import (
    ClassHead,
    Head,
    Layers,
    Logits,
    generator_norm,
    logits_and_features,
)
from forger.networks.settings import (
    GeneratorNorm,
    ImageShape,
    Norm,
    check_sizes,
    conv_norm,
    plan_sizes,
    resolve_norm,
    with_spectral_norm,
)

_NORMS = (nn.BatchNorm2d, nn.GroupNorm, nn.InstanceNorm2d)


def _init_weights(network: nn.Module) -> None:
    """Draws convolutions from N(0, 0.02) and norm scales from N(1, 0.02), 1 for those of classes.

    Biases are 0.
    """
    for module in network.modules():
        if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)):
            nn.init.normal_(module.weight, 0.0, 0.02)
        elif isinstance(module, _NORMS) and module.affine:
            nn.init.normal_(module.weight, 1.0, 0.02)
        bias = getattr(module, "bias", None)
        if isinstance(bias, nn.Parameter):
            nn.init.zeros_(bias)


class Generator(nn.Module):
    """Noise `(B, latent_dim)` and labels `(B,)` to images `(B, C, H, W)` in [-1, 1].

    A transposed convolution to the smallest map, then transposed convolutions (4, stride 2, pad 1)
    that halve the channels down to `width`; BatchNorm and ReLU after each but the last, tanh at the
    end, no bias. 3,576,704 parameters for 3x64x64, 1,068,928 for 3x32x32.

    Args:
        image_shape: channels, height, width.
        latent_dim: size of the noise.
        width: channels of the last hidden map; the paper's generator has 128.
        norm: `none` puts a bias in BatchNorm's place: each image depends on its own noise alone.
        num_classes: whose BatchNorms the layers have; 0: there are no classes.

    Raises:
        ConfigError: the image's side cannot be made, a size is not positive, or `norm` is refused.
    """

    def __init__(
        self,
        image_shape: ImageShape,
        latent_dim: PositiveInt = 100,
        width: PositiveInt = 64,
        norm: GeneratorNorm = "batch",
        num_classes: int = 0,
    ) -> None:
        super().__init__()
        check_sizes("generator", latent_dim=latent_dim, width=width)
        self.image_shape, self.latent_dim, self.norm = image_shape, latent_dim, norm
        side, doublings = plan_sizes(image_shape)
        normalise, bias = generator_norm(norm, nn.BatchNorm2d, num_classes), norm == "none"
        channels = [*(width * 2**k for k in reversed(range(doublings))), image_shape[0]]
        layers: list[nn.Module] = [nn.ConvTranspose2d(latent_dim, channels[0], side, bias=bias)]
        for inputs, outputs in pairwise(channels):
            layers += [normalise(inputs), nn.ReLU(inplace=True)]
            layers.append(nn.ConvTranspose2d(inputs, outputs, 4, stride=2, padding=1, bias=bias))
        self.layers = Layers(*layers, nn.Tanh())
        _init_weights(self)
        self.to(memory_format=torch.channels_last)  # convolutions run faster, and keep it

    @override
    def forward(self, noise: Tensor, label: Tensor | None = None) -> Tensor:
        images: Tensor = self.layers(noise[:, :, None, None], label)
        return images


class Discriminator(nn.Module):
    """Images `(B, C, H, W)` and labels `(B,)` to logits `(B,)`; positive means real.

    The generator's mirror: convolutions (4, stride 2, pad 1) with LeakyReLU 0.2 that double the
    channels from `width`, a normalisation after each but the first, then one convolution over the
    smallest map. No bias beside a normalisation. 2,765,568 parameters for 3x64x64, 663,296 for
    3x32x32.

    Args:
        image_shape: channels, height, width.
        width: channels of the first hidden map.
        norm: `auto` is the paper's BatchNorm, or LayerNorm under a gradient penalty.
        gradient_penalty: whether the loss penalises gradients per sample.
        num_classes: 0: there are no classes.
        head: how it judges classes by the last map, see `ClassHead`.

    Raises:
        ConfigError: the image's side cannot be read, or `norm` or `head` is refused.
    """

    def __init__(
        self,
        image_shape: ImageShape,
        width: PositiveInt = 64,
        norm: Norm = "auto",
        gradient_penalty: bool = False,
        num_classes: int = 0,
        head: Head = "projection",
    ) -> None:
        super().__init__()
        check_sizes("discriminator", width=width)
        self.image_shape = image_shape
        self.norm = resolve_norm(norm, "batch", gradient_penalty)
        self.independent_samples = self.norm != "batch"
        side, doublings = plan_sizes(image_shape)
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
        features = channels[-1] * side**2
        self.class_head = ClassHead(features, num_classes, head, self.norm == "spectral")
        self.to(memory_format=torch.channels_last)

    @override
    def forward(self, images: Tensor, label: Tensor | None = None) -> Logits:
        judged: Logits = self.class_head(*logits_and_features(self.layers, images), label)
        return judged
