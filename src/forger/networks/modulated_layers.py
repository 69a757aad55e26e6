"""The layers of StyleGAN2's generator (arXiv:1912.04958), which a style of each image modulates."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, conv_transpose2d, linear
from typing_extensions import override

from forger.networks.resampling import blur, fir_kernel
from forger.networks.stylegan2_layers import EPS, SQRT2, EqualLinear, activated


class ModulatedConv2d(nn.Module):
    """A convolution whose weights are scaled by a style of each image (section 2.2).

    With style scales `s` of the inputs, `w'[o, i] = s[i] w[o, i]`, and demodulated
    `w''[o] = w'[o] / sqrt(sum w'[o]^2)`, which gives outputs of unit variance for inputs of such.
    Since weights differ between images, inputs are scaled instead, and outputs demodulated: the
    same numbers by one convolution for all, which can be exported.

    Args:
        inputs: channels.
        outputs: channels.
        size: of the kernel, 1 or 3.
        style_dim: size of a style.
        doubles: whether the map's side is doubled, with a FIR filter behind.
        demodulates: False for images, whose weights are scaled to He's deviation instead.
    """

    filter: Tensor | None

    def __init__(
        self,
        inputs: int,
        outputs: int,
        size: int,
        style_dim: int,
        doubles: bool = False,
        demodulates: bool = True,
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs, size, size))
        self.scales = EqualLinear(style_dim, inputs, bias=1.0)
        self.register_buffer("filter", 4 * fir_kernel() if doubles else None, persistent=False)
        self.demodulates = demodulates

    @override
    def forward(self, maps: Tensor, style: Tensor) -> tuple[Tensor, Tensor | None]:
        """Returns maps, and what they are still to be multiplied by, `(B, outputs)`."""
        with torch.autocast(style.device.type, enabled=False):
            scales, gains = self.scales(style), None
            if self.demodulates:
                squares = self.weight.square().sum((2, 3))  # (outputs, inputs)
                gains = torch.rsqrt(linear(scales.square(), squares) + EPS)
            else:
                scales = scales / math.sqrt(self.weight[0].numel())
        maps = maps * scales[:, :, None, None].to(maps.dtype)
        if self.filter is not None:
            maps = conv_transpose2d(maps, self.weight.transpose(0, 1), stride=2)
            return blur(maps, self.filter, padding=1), gains
        return conv2d(maps, self.weight, padding=self.weight.shape[-1] // 2), gains


class StyledLayer(nn.Module):
    """A modulated convolution of 3x3, noise of a learned strength, bias and LeakyReLU 0.2.

    Args:
        inputs: channels.
        outputs: channels.
        side: of the map that comes out.
        style_dim: size of a style.
        doubles: whether the map's side is doubled.
    """

    fixed_noise: Tensor

    def __init__(
        self, inputs: int, outputs: int, side: int, style_dim: int, doubles: bool = False
    ) -> None:
        super().__init__()
        self.convolution = ModulatedConv2d(inputs, outputs, 3, style_dim, doubles)
        self.bias = nn.Parameter(torch.zeros(outputs))
        self.noise_strength = nn.Parameter(torch.zeros(()))
        self.register_buffer("fixed_noise", torch.randn(side, side))

    @override
    def forward(self, maps: Tensor, style: Tensor, noise: Tensor | None = None) -> Tensor:
        """Takes noise `(B, 1, side, side)`, or that which is the same for all images."""
        maps, gains = self.convolution(maps, style)
        assert gains is not None
        kind, added = maps.dtype, self.fixed_noise if noise is None else noise
        gains = (gains * SQRT2)[:, :, None, None].to(kind)
        bias = (self.bias * SQRT2)[:, None, None].to(kind)
        maps = torch.addcmul(bias, maps, gains)
        maps += (added * (self.noise_strength * SQRT2)).to(kind)
        return activated(maps)


class ToImage(nn.Module):
    """A modulated convolution of 1x1 to an image, without demodulation, and a bias."""

    def __init__(self, inputs: int, outputs: int, style_dim: int) -> None:
        super().__init__()
        self.convolution = ModulatedConv2d(inputs, outputs, 1, style_dim, demodulates=False)
        self.bias = nn.Parameter(torch.zeros(outputs))

    @override
    def forward(self, maps: Tensor, style: Tensor) -> Tensor:
        """Returns the image in the precision of the style: 16 bits would be lost in its sums."""
        maps, _ = self.convolution(maps, style)
        return maps.to(style.dtype) + self.bias[:, None, None]
