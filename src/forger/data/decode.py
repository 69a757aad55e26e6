"""One image file to one square uint8 array. Owns what happens to odd sizes, modes and rotations.

It stands alone, since processes that decode run this file without importing the package.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

Decoded: TypeAlias = tuple[NDArray[np.uint8], list[str]]  # images, and faults in words


def decode_all(paths: Sequence[str | Path], shape: tuple[int, int, int]) -> Decoded:
    """Decodes some images, going on where one cannot be read.

    Args:
        paths: of the images.
        shape: `(C, S, S)` of each result.

    Returns:
        uint8 `(N, C, S, S)`, those that can be read, in order; and what is wrong with the others.
    """
    images, faults = np.empty((len(paths), *shape), dtype=np.uint8), []
    good = 0
    for path in paths:
        try:
            images[good] = decode(path, channels=shape[0], size=shape[1])
            good += 1
        except UnidentifiedImageError:
            faults.append(f"{path}: not an image, or its beginning is damaged")
        except Exception as error:  # Pillow's plugins raise many kinds for a damaged file
            faults.append(
                f"{path}: {getattr(error, 'strerror', None) or str(error) or repr(error)}"
            )
    return images[:good], faults


def allow_large() -> None:
    """Lets Pillow read large images in silence: they are the user's own.

    What has twice as many pixels as Pillow warns of is refused, and named.
    """
    warnings.simplefilter("ignore", Image.DecompressionBombWarning)


def decode(path: str | Path, channels: int, size: int) -> NDArray[np.uint8]:
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
