"""Doubles and halves the side of feature maps through a small low-pass filter."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, conv_transpose2d
from typing_extensions import override

from forger.gradients import full_precision

BINOMIAL = (1.0, 3.0, 3.0, 1.0)
"""Taps of the filter of StyleGAN2 (arXiv:1912.04958) and R3GAN (arXiv:2501.05441)."""


def fir_kernel(taps: Sequence[float] = BINOMIAL) -> Tensor:
    """Returns the separable filter of an even number of taps, `(taps, taps)`, of sum 1."""
    assert len(taps) % 2 == 0, "an odd filter would shift maps by half a pixel"
    row = torch.tensor(taps, dtype=torch.get_default_dtype())
    return torch.outer(row, row) / row.sum() ** 2


def upsample2x(images: Tensor, kernel: Tensor) -> Tensor:
    """Doubles the side of `(B, C, H, W)`: zeros between pixels, then the filter, times 4.

    Outside of the map lie zeros.

    Args:
        images: fastest with channels last in memory, which they then keep.
        kernel: as `fir_kernel` returns it.
    """
    return _filtered(conv_transpose2d, images, 4 * kernel, len(kernel) // 2 - 1, stride=2)


def downsample2x(images: Tensor, kernel: Tensor) -> Tensor:
    """Halves the side of `(B, C, H, W)`: the filter, then every second pixel.

    Outside of the map lie zeros. Arguments as in `upsample2x`.
    """
    return _filtered(conv2d, images, kernel, len(kernel) // 2 - 1, stride=2)


def blur(images: Tensor, kernel: Tensor, padding: int) -> Tensor:
    """Filters `(B, C, H, W)` with so many zeros around; arguments as in `upsample2x`."""
    return _filtered(conv2d, images, kernel, padding)


def _filtered(
    convolve: Callable[..., Tensor], images: Tensor, kernel: Tensor, padding: int, stride: int = 1
) -> Tensor:
    """Convolves each channel with the filter, in the precision of the images.

    On the CPU in float32: torch's convolutions of each channel in 16 bits take up to 100 times as
    long where they have a stride.
    """
    wide = full_precision(images) if images.device.type == "cpu" else images
    weight = kernel.to(wide.dtype).expand(images.shape[1], 1, *kernel.shape)
    settings = {"stride": stride, "padding": padding, "groups": images.shape[1]}
    with torch.autocast(images.device.type, enabled=False):
        return convolve(wide, weight, **settings).to(images.dtype)


class _Resample2x(nn.Module):
    kernel: Tensor

    def __init__(self, taps: Sequence[float] = BINOMIAL) -> None:
        super().__init__()
        self.register_buffer("kernel", fir_kernel(taps), persistent=False)


class Upsample2x(_Resample2x):
    """`upsample2x` with a filter of its own; `taps` as in `fir_kernel`."""

    @override
    def forward(self, images: Tensor) -> Tensor:
        return upsample2x(images, self.kernel)


class Downsample2x(_Resample2x):
    """`downsample2x` with a filter of its own; `taps` as in `fir_kernel`."""

    @override
    def forward(self, images: Tensor) -> Tensor:
        return downsample2x(images, self.kernel)
