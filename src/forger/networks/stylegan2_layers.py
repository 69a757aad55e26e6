"""The layers of StyleGAN2 (arXiv:1912.04958) that no style modulates."""

from __future__ import annotations

import math
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, leaky_relu, linear
from typing_extensions import override

from forger.gradients import full_precision
from forger.networks.resampling import blur, downsample2x, fir_kernel

_SLOPE = 0.2  # of LeakyReLU
SQRT2 = math.sqrt(2)  # keeps the variance behind LeakyReLU
EPS = 1e-8


def activated(features: Tensor) -> Tensor:
    """Applies LeakyReLU in place; its gain stands in the weights, since it is homogeneous."""
    return leaky_relu(features, _SLOPE, inplace=True)


def normalised(features: Tensor) -> Tensor:
    """Returns `(B, F)` with a mean square of 1 in each row."""
    return features * torch.rsqrt(features.square().mean(1, keepdim=True) + EPS)


class EqualLinear(nn.Module):
    """A linear layer of equalised learning rate (arXiv:1710.10196, section 4.1).

    Weights are kept as N(0, 1) and scaled to He's deviation when they are used.

    Args:
        inputs: features.
        outputs: features.
        bias: that of each output at the start.
        activation: whether LeakyReLU 0.2 of gain sqrt(2) follows.
        lr_multiplier: of the learning rate of weights and biases.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        bias: float = 0.0,
        activation: bool = False,
        lr_multiplier: float = 1.0,
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs) / lr_multiplier)
        self.bias = nn.Parameter(torch.full((outputs,), bias / lr_multiplier))
        self.activation = activation
        self.bias_scale = lr_multiplier * (SQRT2 if activation else 1.0)
        self.scale = self.bias_scale / math.sqrt(inputs)

    @override
    def forward(self, features: Tensor) -> Tensor:
        found = linear(features, self.weight * self.scale, self.bias * self.bias_scale)
        return activated(found) if self.activation else found


class EqualConv2d(nn.Module):
    """A convolution of equalised learning rate on `(B, C, H, W)`.

    Args:
        inputs: channels.
        outputs: channels.
        size: of the kernel, 1 or 3.
        halves: whether the map's side is halved, behind a FIR filter (section 3 of the appendix).
        activation: whether a bias and LeakyReLU 0.2 of gain sqrt(2) follow; else there is no bias.
        gain: of what comes out.
    """

    filter: Tensor | None

    def __init__(
        self,
        inputs: int,
        outputs: int,
        size: int,
        halves: bool = False,
        activation: bool = True,
        gain: float = 1.0,
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs, size, size))
        self.bias = nn.Parameter(torch.zeros(outputs)) if activation else None
        self.register_buffer("filter", fir_kernel() if halves else None, persistent=False)
        self.size = size
        self.bias_scale = gain * (SQRT2 if activation else 1.0)
        self.scale = self.bias_scale / math.sqrt(inputs * size**2)

    @override
    def forward(self, maps: Tensor) -> Tensor:
        stride, padding = 1, self.size // 2
        if self.filter is not None and self.size == 1:
            maps = downsample2x(maps, self.filter)
        elif self.filter is not None:  # its border is the convolution's, too
            maps, stride, padding = blur(maps, self.filter, padding=2), 2, 0
        weight = self.weight * self.scale
        if self.bias is None:
            return conv2d(maps, weight, None, stride, padding)
        return activated(conv2d(maps, weight, self.bias * self.bias_scale, stride, padding))


class Mapping(nn.Module):
    """Noise, and an embedding of the label, to a style: layers of a slower learning rate.

    Both are brought to a mean square of 1 first. Without noise, as in a discriminator, the label
    alone is mapped.

    Args:
        noise_dim: size of the noise; 0: there is none.
        num_classes: of labels; 0: there are none.
        width: of the embedding, the layers and what comes out.
        layers: linear layers with LeakyReLU 0.2.
        lr_multiplier: of the learning rate of the layers.
    """

    def __init__(
        self,
        noise_dim: int,
        num_classes: int,
        width: int,
        layers: int,
        lr_multiplier: float = 0.01,
    ) -> None:
        super().__init__()
        self.embedding: nn.Embedding | None = None
        if num_classes:
            self.embedding = nn.Embedding(num_classes, width)
            self.embedding_bias = nn.Parameter(torch.zeros(width))
        widths = [noise_dim + (width if num_classes else 0), *[width] * layers]
        self.layers = nn.Sequential(
            *(
                EqualLinear(*pair, activation=True, lr_multiplier=lr_multiplier)
                for pair in pairwise(widths)
            )
        )

    @override
    def forward(self, noise: Tensor | None, label: Tensor | None = None) -> Tensor:
        parts = [] if noise is None else [normalised(noise)]
        if self.embedding is not None:
            embedded = self.embedding(label) / math.sqrt(self.embedding.num_embeddings)
            parts.append(normalised(embedded + self.embedding_bias))
        with torch.autocast(parts[0].device.type, enabled=False):  # 16 bits would tell on all maps
            found: Tensor = self.layers(torch.cat(parts, 1))
        return found


class MinibatchDeviation(nn.Module):
    """Adds a channel: how much images of a group differ (arXiv:1710.10196, section 3).

    It is the standard deviation over the group, without a correction, as a mean over channels and
    pixels: one number for all images of a group.

    Args:
        group_size: images in a group, or what comes nearest where it does not divide a batch.
    """

    def __init__(self, group_size: int) -> None:
        super().__init__()
        self.group_size = group_size

    @override
    def forward(self, maps: Tensor) -> Tensor:
        rows = len(maps)
        sizes = [size for size in range(1, rows + 1) if rows % size == 0]
        size = min(sizes, key=lambda size: (abs(size - self.group_size), -size))
        groups = full_precision(maps).reshape(size, rows // size, *maps.shape[1:])
        variance = (groups - groups.mean(0)).square().mean(0)  # faster than torch's own here
        deviation = (variance + EPS).sqrt().flatten(1).mean(1)  # (groups,)
        plane = deviation.repeat(size)[:, None, None, None].to(maps.dtype)
        found = torch.cat([maps, plane.expand(-1, 1, *maps.shape[2:])], 1)
        return found.contiguous(memory_format=torch.channels_last)
