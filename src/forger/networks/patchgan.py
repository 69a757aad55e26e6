"""The PatchGAN of pix2pix (arXiv:1611.07004) and CycleGAN (arXiv:1703.10593): a logit a patch."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from typing_extensions import override

from forger.bounds import PositiveInt
from forger.networks.settings import (
    ImageShape,
    Norm,
    Normalise,
    check_sizes,
    conv_norm,
    norm_layers,
    resolve_norm,
)
from forger.networks.translation import Init, check_sides, init_weights


class Discriminator(nn.Module):
    """Images `(B, C, H, W)` to logits `(B, 1, H', W')` of patches; positive means real.

    Convolutions (4, pad 1) with LeakyReLU 0.2, `layers` of stride 2 and two of stride 1, whose
    channels double from `width` up to 8 times as many; a normalisation after all but the first and
    the last. A logit sees 16, 34, 70 pixels a side with 1, 2, 3 layers, and H' is
    `H // 2^layers - 2`. 2,768,705 parameters for 6 channels with BatchNorm, 2,764,737 for 3 with
    InstanceNorm; 139,585 and 666,433 for 6 with 1 and 2 layers.

    Args:
        image_shape: channels, height, width; for pairs, the channels of image and source together.
        width: channels of the first map.
        layers: of stride 2; sides are at least `3 * 2^layers`.
        norm: `auto` is pix2pix's BatchNorm, or LayerNorm under a gradient penalty; `instance` is
            CycleGAN's, without gain and bias.
        gradient_penalty: whether the loss penalises gradients per sample.
        init: `normal` or `xavier`, see `init_weights`.

    Raises:
        ConfigError: sides are too small, or an argument is not allowed.
    """

    def __init__(
        self,
        image_shape: ImageShape,
        width: PositiveInt = 64,
        layers: PositiveInt = 3,
        norm: Norm = "auto",
        gradient_penalty: bool = False,
        init: Init = "normal",
    ) -> None:
        super().__init__()
        check_sizes("discriminator", width=width, layers=layers)
        check_sides(f"model.discriminator.layers={layers}", image_shape, least=3 * 2**layers)
        self.image_shape = image_shape
        self.norm = resolve_norm(norm, "batch", gradient_penalty)
        self.independent_samples = self.norm != "batch"
        instance = self.norm == "instance"
        normalise: Normalise = nn.InstanceNorm2d if instance else conv_norm(self.norm)
        bias = self.norm not in ("batch", "layer")
        channels = [width * min(2**k, 8) for k in range(layers + 1)]
        modules = [nn.Conv2d(image_shape[0], width, 4, 2, padding=1), nn.LeakyReLU(0.2, True)]
        for depth, (inputs, outputs) in enumerate(pairwise(channels)):
            stride = 2 if depth < layers - 1 else 1
            modules.append(nn.Conv2d(inputs, outputs, 4, stride, padding=1, bias=bias))
            modules += [normalise(outputs), nn.LeakyReLU(0.2, True)]
        self.layers = nn.Sequential(*modules, nn.Conv2d(channels[-1], 1, 4, padding=1))
        init_weights(self, init)
        if self.norm == "spectral":
            norm_layers(self, nn.Conv2d)
        if not instance:  # which would change the order in memory at every layer
            self.to(memory_format=torch.channels_last)

    @override
    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.layers(images)
        return logits
