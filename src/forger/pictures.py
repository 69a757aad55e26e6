"""Images as pictures to look at. Owns the grid and its encoding, not what is drawn."""

from __future__ import annotations

import io
import math
from collections.abc import Iterable

import torch
from PIL import Image
from torch import Tensor
from torchvision.utils import make_grid

_WIDTH = 640  # pixels, about: a grid of small images is enlarged to be comfortable to look at
_BORDER = 2  # pixels between images
_BORDER_GREY = 64  # tells the border from black images and from white ones
_COMPRESSION = 4  # of zlib's 9: half the time of its usual 6, for files 2 % larger


def to_pixels(images: Tensor) -> Tensor:
    """Rounds images in [-1, 1] to uint8, `round(127.5 (x + 1))`; values outside are clipped."""
    return images.detach().float().add(1).mul(127.5).round().clamp(0, 255).to(torch.uint8)


def image_grid(images: Tensor) -> Tensor:
    """Lays images out as one near-square picture.

    Each value x becomes round(127.5 (x + 1)): no image is stretched to its own range, so that two
    grids can be compared. Small images are enlarged by a whole factor, without interpolation.

    Args:
        images: `(N, C, H, W)` with N >= 1 and C 1 or 3, in [-1, 1]; values outside are clipped.

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
    grid: Tensor = make_grid(pixels, nrow=columns, padding=_BORDER, pad_value=_BORDER_GREY)
    return grid[: pixels.shape[1]]  # make_grid repeats a single channel three times


def to_pil(image: Tensor) -> Image.Image:
    """Turns a `(C, H, W)` uint8 image with 1 or 3 channels into a PIL image."""
    return Image.fromarray(image.permute(1, 2, 0).squeeze(-1).numpy())


def png_bytes(image: Tensor) -> bytes:
    """Encodes a `(C, H, W)` uint8 image with 1 or 3 channels as PNG."""
    buffer = io.BytesIO()
    to_pil(image).save(buffer, format="png", compress_level=_COMPRESSION)
    return buffer.getvalue()


def gif_bytes(frames: Iterable[Tensor], rate: int) -> bytes:
    """Encodes `(C, H, W)` uint8 images as a GIF that repeats for ever, at `rate` frames a second.

    GIF has 256 colours a frame, and counts time in hundredths of a second.
    """
    pictures = (to_pil(frame) for frame in frames)
    buffer = io.BytesIO()
    next(pictures).save(
        buffer, "gif", save_all=True, append_images=pictures, duration=1000 // rate, loop=0
    )
    return buffer.getvalue()
