"""Decodes image files to uint8 arrays of one size; without torch, so that processes start soon."""

from __future__ import annotations

import warnings
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from forger.worker_signals import start_worker

_TRANSPARENT = ("LA", "La", "PA", "RGBA", "RGBa")
# Formats that Pillow names but cannot decode, or has another program run (PostScript).
_NOT_DECODED = {"BUFR", "EMF", "EPS", "GRIB", "HDF5", "MPEG", "PDF", "WMF"}
_16_BITS = "16-bit"
_DARK = 1 << 8  # of 16 bits: an image with no value as high would come out black


def image_endings() -> tuple[str, ...]:
    """Returns the extensions, in lower case, of all files that Pillow decodes."""
    return tuple(
        ending
        for ending, name in Image.registered_extensions().items()
        if name not in _NOT_DECODED and (name in Image.OPEN or name == "MPO")  # read as JPEG
    )


@dataclass(frozen=True)
class ImageFormat:
    """What each image file becomes; the settings are those of `ImageFolder`."""

    channels: int
    size: int | tuple[int, int]  # the side of a square, or height and width
    value_range: tuple[float, float] | None = None
    part: Literal["whole", "left", "right"] = "whole"  # the half of a pair side by side

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height, width."""
        side = self.size
        return (self.channels, *((side, side) if isinstance(side, int) else side))


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
    """Reads an image upright, cuts a centre of the wanted proportions, and resizes it antialiased.

    Transparent images are laid on white; an animation, or a file of several pages, gives its first.

    Returns:
        uint8 `(C, H, W)`.

    Raises:
        ValueError: deep pixels would lose their contrast, or a pair cannot be split in two; Pillow
            raises many others.
    """
    channels, height, width = target.shape
    with Image.open(path) as image:
        if image.format == "EPS":  # Pillow would have Ghostscript run it
            raise ValueError("is PostScript, which is a program; save it as an image")
        # A JPEG decoder halves sizes at next to no cost; twice the result leaves the rest to an
        # antialiased resize.
        if target.part == "whole":
            image.draft(None, (2 * width, 2 * height))
        cut = _is_cut(image)
        image.load()
        with suppress(Exception):  # damaged notes of a camera: its pixels are good
            ImageOps.exif_transpose(image, in_place=True)
        flat = _flat(image, target.value_range).convert("L" if channels == 1 else "RGB")
    if target.part != "whole":
        flat = _half(flat, target)
    if flat.size != (width, height):
        cut_width = min(flat.width, flat.height * width / height)
        cut_height = min(flat.height, flat.width * height / width)
        left, top = (flat.width - cut_width) // 2, (flat.height - cut_height) // 2
        centre = (left, top, left + cut_width, top + cut_height)
        flat = flat.resize((width, height), Image.Resampling.BILINEAR, box=centre)
    pixels = np.asarray(flat, dtype=np.uint8).reshape(height, width, channels)
    if cut and target.value_range is None and pixels.max() == 0:
        raise ValueError(
            "has 16-bit colours, of which Pillow gives the upper 8 bits, and these are black;"
            " save it with 8 bits"
        )
    chw: NDArray[np.uint8] = pixels.transpose(2, 0, 1)
    return chw


def upright_size(path: str | Path) -> tuple[int, int] | None:
    """Returns width and height of an image as its camera held it; None: it is unreadable."""
    with suppress(Exception), Image.open(path) as image:
        turned = image.getexif().get(ExifTags.Base.Orientation, 1) > 4
        return (image.height, image.width) if turned else image.size
    return None


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


def _half(pair: Image.Image, target: ImageFormat) -> Image.Image:
    """Returns the half of a pair that is wanted."""
    (width, height), (_, own_height, own_width) = pair.size, target.shape
    half = width // 2
    if width % 2 or 2 * half * own_height <= height * own_width:
        why = "an odd width" if width % 2 else "halves that would lose half of their height or more"
        raise ValueError(
            f"is {width}x{height}, which cannot be split into two images side by side: {why}"
        )
    left = half if target.part == "right" else 0
    return pair.crop((left, 0, left + half, height))


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
