"""Whole batches of pixels: resize, flip and scale. Pure functions of tensors."""

from __future__ import annotations

import torch
from torch import Tensor
from torchvision.transforms.v2 import functional

_CHUNK = 4096  # images resized at a time: bounds the float copy that resizing makes


def resize(images: Tensor, size: int) -> Tensor:
    """Resizes to a square, antialiased and bilinear.

    Args:
        images: uint8 `(N, C, H, W)`.
        size: side in pixels.

    Returns:
        uint8 `(N, C, size, size)`; `images` itself where nothing is to do.
    """
    if images.shape[-2:] == (size, size):
        return images
    out = torch.empty(*images.shape[:2], size, size, dtype=torch.uint8)
    for begin in range(0, len(images), _CHUNK):
        chunk = images[begin : begin + _CHUNK]
        resized = functional.resize(chunk, [size, size], antialias=True)  # type: ignore[attr-defined]
        out[begin : begin + _CHUNK] = resized
    return out


def flip_some(images: Tensor, flip: Tensor) -> Tensor:
    """Mirrors those images `(B, C, H, W)` left to right for which `flip`, bool `(B,)`, is set."""
    # Gathering rows from both versions costs a quarter of torch.where, and unlike a boolean mask it
    # doesn't make a GPU wait.
    rows = torch.arange(len(images), device=images.device) + len(images) * flip
    return torch.cat((images, images.flip(-1))).index_select(0, rows)


def to_unit_range(images: Tensor) -> Tensor:
    """Scales uint8 to float32, `x / 127.5 - 1`: 0 gives exactly -1, and 255 exactly 1."""
    return images.to(torch.float32).div_(127.5).sub_(1)
