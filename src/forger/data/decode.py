"""One image file to one square uint8 array. Owns what happens to odd sizes, modes and rotations."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps


def decode(path: Path, channels: int, size: int) -> NDArray[np.uint8]:
    """Reads an image upright, cuts its central square and resizes it, antialiased.

    Transparent images are laid on white; 16-bit grey keeps its upper 8 bits; an animation gives its
    first frame.

    Args:
        path: anything that Pillow reads.
        channels: 1 (grey) or 3 (colour).
        size: side S of the result in pixels.

    Returns:
        uint8 `(channels, S, S)`.

    Raises:
        OSError, ValueError, SyntaxError: what Pillow raises for a file that it cannot read.
    """
    with Image.open(path) as image:
        # A JPEG decoder halves sizes at next to no cost; twice the result leaves the rest to an
        # antialiased resize.
        image.draft(None, (2 * size, 2 * size))
        ImageOps.exif_transpose(image, in_place=True)
        flat = _flat(image).convert("L" if channels == 1 else "RGB")
    width, height = flat.size
    side = min(width, height)
    left, top = (width - side) // 2, (height - side) // 2
    square = (left, top, left + side, top + side)
    if (width, height) != (size, size):
        flat = flat.resize((size, size), Image.Resampling.BILINEAR, box=square)
    pixels = np.asarray(flat, dtype=np.uint8).reshape(size, size, channels)
    chw: NDArray[np.uint8] = pixels.transpose(2, 0, 1)
    return chw


def _flat(image: Image.Image) -> Image.Image:
    """Returns an opaque 8-bit image."""
    if image.mode == "F":
        raise ValueError("has floating-point pixels; save it with 8 or 16 bits")
    if image.mode.startswith("I"):  # 16-bit grey, which Pillow would clip to white
        wide = np.asarray(image).clip(0, 65535)
        return Image.fromarray((wide >> 8).astype(np.uint8))
    if image.has_transparency_data:
        colour = image.convert("RGBA")
        white = Image.new("RGBA", colour.size, "white")
        return Image.alpha_composite(white, colour)
    return image
