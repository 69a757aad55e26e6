"""Turns images into pictures to look at: grids, PNG, GIF, MP4."""

from __future__ import annotations

import io
import math
import textwrap
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor
from torch.nn import functional as F

_WIDTH = 640  # pixels, about: a grid of small images is enlarged to be comfortable to look at
_BORDER = 2  # pixels between images
_BORDER_GREY = 64  # tells the border from black images and from white ones
_MARGIN = 4  # pixels left and right of the name of a row
_LONGEST = 16  # letters of a name that is shown whole
_LONGEST_LINE = 24  # letters of a line of a longer name
_LINE = 16  # pixels, height of a line
_COMPRESSION = 4  # of zlib's 9: half the time of its usual 6, for files 2 % larger


def to_pixels(images: Tensor) -> Tensor:
    """Rounds images in [-1, 1] to uint8, `round(127.5 (x + 1))`; values outside are clipped."""
    scaled = images.detach().float().add(1)  # a copy: the rest may work in place
    return scaled.mul_(127.5).round_().clamp_(0, 255).to(torch.uint8)


def image_grid(images: Tensor, columns: int | None = None, names: Sequence[str] = ()) -> Tensor:
    """Lays images `(N, C, H, W)` in [-1, 1] out as one picture; see `pixel_grid`.

    No image is stretched to its own range, so that two grids can be compared.

    Returns:
        `(C, height, width)`, uint8, on the CPU.
    """
    return pixel_grid(to_pixels(images), columns, names=names)


def pixel_grid(
    pixels: Tensor, columns: int | None = None, width: int = _WIDTH, names: Sequence[str] = ()
) -> Tensor:
    """Lays uint8 images `(N, C, H, W)` out as one picture, near-square unless `columns` says so.

    Small images are enlarged by the whole factor that brings the picture closest to `width`, or one
    of more rows than columns to the area of such a square. `names` are written beside the rows.
    """
    columns = columns or math.ceil(math.sqrt(len(pixels)))
    side = max(columns, math.sqrt(math.ceil(len(pixels) / columns) * columns))
    factor = max(1, round(width / (side * pixels.shape[-1])))
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
    grid = F.pad(grid, (0, _BORDER, 0, _BORDER), value=_BORDER_GREY)
    return torch.cat([_names_of_rows(names, grid), grid], dim=2) if names else grid


def _names_of_rows(names: Sequence[str], grid: Tensor) -> Tensor:
    """Returns a strip `(C, height, width)` as high as a grid, with a name beside each row."""
    font, row = ImageFont.load_default(), (grid.shape[1] - _BORDER) // len(names)
    lines = max(1, row // _LINE)
    texts = [_in_lines(name, lines) for name in names]
    measure = ImageDraw.Draw(Image.new("L", (1, 1)))
    boxes = [measure.multiline_textbbox((0, 0), text, font=font) for text in texts]
    width = math.ceil(max(right for _, _, right, _ in boxes)) + 2 * _MARGIN
    strip = Image.new("L", (width, grid.shape[1]), _BORDER_GREY)
    for number, (text, (_, top, right, bottom)) in enumerate(zip(texts, boxes, strict=True)):
        y = _BORDER + number * row + (row - _BORDER - round(top + bottom)) // 2
        place = (width - _MARGIN - math.ceil(right), y)
        ImageDraw.Draw(strip).multiline_text(place, text, fill=255, font=font, align="right")
    pixels = torch.from_numpy(np.array(strip))
    return pixels.expand(len(grid), -1, -1)


def _in_lines(name: str, lines: int) -> str:
    """Breaks a name of several words into lines, and cuts off what is too long."""
    if len(name) <= _LONGEST:
        return name
    if lines == 1:
        return f"{name[: _LONGEST - 3]}..."
    return "\n".join(textwrap.wrap(name, _LONGEST_LINE, max_lines=lines, placeholder=" ..."))


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


def mp4_bytes(frames: Iterable[Tensor], rate: int) -> bytes:
    """Encodes `(C, H, W)` uint8 images of 1 or 3 channels as MP4 of `rate` frames a second.

    In H.264, which browsers and slides play; it takes sides of even length, so that odd ones get a
    black line. By PyAV, the package `av`, which is imported here alone.
    """
    import av

    buffer = io.BytesIO()
    stream: Any = None
    with av.open(buffer, "w", format="mp4") as film:
        for frame in frames:
            even = F.pad(frame, (0, frame.shape[2] % 2, 0, frame.shape[1] % 2))
            pixels = even.expand(3, -1, -1).permute(1, 2, 0).contiguous().numpy()
            if stream is None:
                stream = film.add_stream("h264", rate=rate, options={"crf": "18"})  # fine
                stream.height, stream.width = pixels.shape[:2]
                stream.pix_fmt = "yuv420p"  # what all players know
            film.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, "rgb24")))
        if stream is not None:
            film.mux(stream.encode(None))  # what is still held back
    return buffer.getvalue()


FILMS: dict[str, Callable[[Iterable[Tensor], int], bytes]] = {"gif": gif_bytes, "mp4": mp4_bytes}
"""How frames become a film, by the end of its file's name."""
