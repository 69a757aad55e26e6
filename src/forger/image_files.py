"""Decodes image files to square uint8 arrays; without torch, so that processes start soon."""

from __future__ import annotations

import warnings
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from forger.worker_signals import start_worker

_TRANSPARENT = ("LA", "La", "PA", "RGBA", "RGBa")
_16_BITS = "16-bit"
_DARK = 1 << 8  # of 16 bits: an image with no value as high would come out black


@dataclass(frozen=True)
class ImageFormat:
    """What each image file becomes; the settings are those of `ImageFolder`."""

    channels: int
    size: int
    value_range: tuple[float, float] | None = None

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height, width."""
        return (self.channels, self.size, self.size)


def try_decode(path: str, target: ImageFormat) -> NDArray[np.uint8] | str:
    """Returns what `decode` does, or why the image cannot be read."""
    try:
        return decode(path, target)
    except UnidentifiedImageError:
        return "not an image, or its beginning is damaged"
    except Exception as error:  # Pillow's plugins raise many types for a damaged file
        reason = getattr(error, "strerror", None) or " ".join(str(error).split())
        return reason or type(error).__name__


def decode(path: str | Path, target: ImageFormat) -> NDArray[np.uint8]:
    """Reads an image upright, cuts its central square and resizes it, antialiased.

    Transparent images are laid on white; an animation, or a file of several pages, gives its first.

    Returns:
        uint8 `(C, S, S)`.

    Raises:
        ValueError: deep pixels would lose their contrast; Pillow raises many others.
    """
    size = target.size
    with Image.open(path) as image:
        if image.format == "EPS":  # Pillow would have Ghostscript run it
            raise ValueError("is PostScript, which is a program; save it as an image")
        # A JPEG decoder halves sizes at next to no cost; twice the result leaves the rest to an
        # antialiased resize.
        image.draft(None, (2 * size, 2 * size))
        cut = _is_cut(image)
        image.load()
        with suppress(Exception):  # damaged notes of a camera: its pixels are good
            ImageOps.exif_transpose(image, in_place=True)
        flat = _flat(image, target.value_range).convert("L" if target.channels == 1 else "RGB")
    width, height = flat.size
    if (width, height) != (size, size):
        side = min(width, height)
        left, top = (width - side) // 2, (height - side) // 2
        square = (left, top, left + side, top + side)
        flat = flat.resize((size, size), Image.Resampling.BILINEAR, box=square)
    pixels = np.asarray(flat, dtype=np.uint8).reshape(size, size, target.channels)
    if cut and target.value_range is None and pixels.max() == 0:
        raise ValueError(
            "has 16-bit colours, of which Pillow gives the upper 8 bits, and these are black;"
            " save it with 8 bits"
        )
    chw: NDArray[np.uint8] = pixels.transpose(2, 0, 1)
    return chw


def largest_of_16_bits(path: str | Path) -> int | None:
    """Returns the largest value of an image of 16 bits; None: of another depth, or unreadable."""
    with suppress(Exception), Image.open(path) as image:
        if _depth(image) == _16_BITS:
            return int(np.asarray(image).max())
        if _is_cut(image):
            return int(np.asarray(image.convert("RGB")).max()) << 8
    return None


def start_decoding_process() -> None:
    """Prepares a process that decodes for another one."""
    start_worker(None, 0)
    warnings.simplefilter("ignore")


def _is_cut(image: Image.Image) -> bool:
    """Tells whether Pillow leaves the lower 8 bits of 16 out, as it does with colours."""
    return ";16" in str(getattr(image, "tile", "")) and _depth(image) is None


def _depth(image: Image.Image) -> str | None:
    """Names pixels of one channel that Pillow gives with more than 8 bits; None: it doesn't."""
    if image.mode == "F":
        return "floating-point"
    if image.mode != "I":
        return _16_BITS if image.mode.startswith("I;16") else None
    return _16_BITS if image.format in ("PNG", "PPM") else "32-bit"  # 16 bits in Pillow's 32


def _flat(image: Image.Image, value_range: tuple[float, float] | None) -> Image.Image:
    """Returns an opaque 8-bit image."""
    depth = _depth(image)
    if depth is not None:
        return Image.fromarray(_eight_bits(np.asarray(image), depth, value_range))
    palette = image.palette.mode if image.mode == "P" and image.palette is not None else ""
    if image.mode in _TRANSPARENT or "transparency" in image.info or palette.endswith("A"):
        colour = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", colour.size, "white"), colour)
    return image


def _eight_bits(
    values: NDArray[np.generic], depth: str, value_range: tuple[float, float] | None
) -> NDArray[np.uint8]:
    """Brings deep pixels to 8 bits."""
    if value_range is not None:
        if not np.isfinite(values).all():
            raise ValueError("holds pixels that are no finite numbers")
        black, white = value_range
        scaled = (values.astype(np.float64) - black) * (255 / (white - black))
        values = np.rint(scaled.clip(0, 255))
        return values.astype(np.uint8)
    low, high = values.min(), values.max()
    if depth != _16_BITS or 0 < high < _DARK:
        lost = ", which would come out black" if depth == _16_BITS else ""
        raise ValueError(
            f"has {depth} pixels from {low:g} to {high:g}{lost}; write"
            " data.value_range=[<black>,<white>], the values of both in all images"
        )
    return (values.clip(0, 65535).astype(np.int64) >> 8).astype(np.uint8)
