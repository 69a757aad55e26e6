"""Images as pictures to look at. Owns the grid and its encoding, not what is drawn."""

from __future__ import annotations

import io
import math

import torch
from PIL import Image
from torch import Tensor
from torchvision.utils import make_grid

_WIDTH = 640  # pixels, about: a grid of small images is enlarged to be comfortable to look at
_BORDER = 2  # pixels between images
_BORDER_GREY = 64  # tells the border from black images and from white ones


def image_grid(images: Tensor) -> Tensor:
    """Lays images out as one near-square picture.

    Each value x becomes round(127.5 (x + 1)): no image is stretched to its own range, so that two
    grids can be compared. Small images are enlarged by a whole factor, without interpolation.

    Args:
        images: `(N, C, H, W)` with N >= 1 and C 1 or 3, in [-1, 1]; values outside are clipped.

    Returns:
        `(C, height, width)`, uint8, on the CPU.
    """
    columns = math.ceil(math.sqrt(len(images)))
    factor = max(1, round(_WIDTH / (columns * images.shape[-1])))
    pixels = images.detach().float().add(1).mul(127.5).round().clamp(0, 255).to(torch.uint8).cpu()
    pixels = pixels.repeat_interleave(factor, dim=-2).repeat_interleave(factor, dim=-1)
    grid: Tensor = make_grid(pixels, nrow=columns, padding=_BORDER, pad_value=_BORDER_GREY)
    return grid[: images.shape[1]]  # make_grid repeats a single channel three times


def to_pil(image: Tensor) -> Image.Image:
    """Turns a `(C, H, W)` uint8 image with 1 or 3 channels into a PIL image."""
    return Image.fromarray(image.permute(1, 2, 0).squeeze(-1).numpy())


def png_bytes(image: Tensor) -> bytes:
    """Encodes a `(C, H, W)` uint8 image with 1 or 3 channels as PNG."""
    buffer = io.BytesIO()
    to_pil(image).save(buffer, format="png")
    return buffer.getvalue()
