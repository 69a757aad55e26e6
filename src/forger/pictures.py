"""Turns images into pictures to look at: grids, PNG, GIF."""

from __future__ import annotations

import io
import math
from collections.abc import Iterable

import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

_WIDTH = 640  # pixels, about: a grid of small images is enlarged to be comfortable to look at
_BORDER = 2  # pixels between images
_BORDER_GREY = 64  # tells the border from black images and from white ones
_COMPRESSION = 4  # of zlib's 9: half the time of its usual 6, for files 2 % larger


def to_pixels(images: Tensor) -> Tensor:
    """Rounds images in [-1, 1] to uint8, `round(127.5 (x + 1))`; values outside are clipped."""
    scaled = images.detach().float().add(1)  # a copy: the rest may work in place
    return scaled.mul_(127.5).round_().clamp_(0, 255).to(torch.uint8)


def image_grid(images: Tensor) -> Tensor:
    """Lays images `(N, C, H, W)` in [-1, 1] out as one near-square picture.

    No image is stretched to its own range, so that two grids can be compared.

    Returns:
        `(C, height, width)`, uint8, on the CPU.
    """
    return pixel_grid(to_pixels(images))


def pixel_grid(pixels: Tensor, columns: int | None = None, width: int = _WIDTH) -> Tensor:
    """Lays uint8 images `(N, C, H, W)` out as one picture, near-square unless `columns` says so.

    Small images are enlarged by the whole factor that brings the picture closest to `width`.
    """
    columns = columns or math.ceil(math.sqrt(len(pixels)))
    factor = max(1, round(width / (columns * pixels.shape[-1])))
    pixels = pixels.cpu()
    pixels = pixels.repeat_interleave(factor, dim=-2).repeat_interleave(factor, dim=-1)
    if len(pixels) == 1:
        return pixels[0]
    columns = min(columns, len(pixels))
    rows = math.ceil(len(pixels) / columns)
    # Each image brings the border above and to the left of it, and absent ones are all border.
    absent = (0, 0) * 3 + (0, rows * columns - len(pixels))
    tiles = F.pad(pixels, (_BORDER, 0, _BORDER, 0), value=_BORDER_GREY)
    tiles = F.pad(tiles, absent, value=_BORDER_GREY).view(rows, columns, *tiles.shape[1:])
    grid = tiles.permute(2, 0, 3, 1, 4).flatten(3, 4).flatten(1, 2)  # (C, rows H, columns W)
    return F.pad(grid, (0, _BORDER, 0, _BORDER), value=_BORDER_GREY)


def to_pil(image: Tensor) -> Image.Image:
    """Turns a `(C, H, W)` uint8 image with 1 or 3 channels into a PIL image."""
    return Image.fromarray(image.permute(1, 2, 0).squeeze(-1).numpy())


def png_bytes(image: Tensor) -> bytes:
    """Encodes a `(C, H, W)` uint8 image with 1 or 3 channels as PNG."""
    buffer = io.BytesIO()
    to_pil(image).save(buffer, format="png", compress_level=_COMPRESSION)
    return buffer.getvalue()


def gif_bytes(frames: Iterable[Tensor], rate: int) -> bytes:
    """Encodes `(C, H, W)` uint8 images as an endless GIF of `rate` frames a second."""
    pictures, buffer = (to_pil(frame) for frame in frames), io.BytesIO()
    settings = {"append_images": pictures, "duration": 1000 // rate, "loop": 0}
    next(pictures).save(buffer, "gif", save_all=True, **settings)
    return buffer.getvalue()
