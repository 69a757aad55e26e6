"""Geometric changes of images: maps of places, and the interpolation of what lies there."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

# Values halfway between six neighbours (Deslauriers and Dubuc, 1989), exact for quintic curves.
_HALFWAY = (3 / 256, -25 / 256, 150 / 256, 150 / 256, -25 / 256, 3 / 256)


def scaling(x: Tensor, y: Tensor) -> Tensor:
    """Returns maps `(B, 3, 3)` of places `(x, y, 1)` that stretch by factors `(B,)`."""
    zero = torch.zeros_like(x)
    return _maps(x, zero, zero, zero, y, zero)


def rotation(cosine: Tensor, sine: Tensor) -> Tensor:
    """Returns maps that turn from the x axis towards the y axis."""
    zero = torch.zeros_like(cosine)
    return _maps(cosine, -sine, zero, sine, cosine, zero)


def shifting(x: Tensor, y: Tensor) -> Tensor:
    """Returns maps that move by so many pixels."""
    zero, one = torch.zeros_like(x), torch.ones_like(x)
    return _maps(one, zero, x, zero, one, y)


def _maps(*entries: Tensor) -> Tensor:
    """Fills the two upper rows."""
    zero, one = torch.zeros_like(entries[0]), torch.ones_like(entries[0])
    return torch.stack([*entries, zero, zero, one], dim=1).view(-1, 3, 3)


def product(first: Tensor, *others: Tensor) -> Tensor:
    """Multiplies matrices `(B, n, n)`, without the lower precision that devices may multiply in."""
    for other in others:
        first = (first[:, :, :, None] * other[:, None]).sum(2)
    return first


def warp(images: Tensor, inverse: Tensor) -> Tensor:
    """Shows at each place what lies where the map leads, linear in `images` `(B, C, H, W)`.

    The image goes on outside as in a mirror. It is doubled
    in size by six-point interpolation, and read there bilinearly: pixels that land on pixels stay
    as they are, in bits. A departure from arXiv:2006.06676 (appendix B), which doubles by wavelet
    filters of twelve points and filters once more on the way back, against aliasing where an image
    shrinks.

    Args:
        images: floating point.
        inverse: from places in the result to those in the image, `(B, 3, 3)`, in pixels from the
            middle, x to the right and y down.
    """
    batch, channels, height, width = images.shape
    places = inverse[:, :, :, None, None]
    x = torch.arange(width, device=images.device) - (width - 1) / 2
    y = (torch.arange(height, device=images.device) - (height - 1) / 2)[:, None]
    column = places[:, 0, 0] * x + places[:, 0, 1] * y + places[:, 0, 2] + (width - 1) / 2
    row = places[:, 1, 0] * x + places[:, 1, 1] * y + places[:, 1, 2] + (height - 1) / 2
    (left, right_part), (top, lower_part) = _between(column, width), _between(row, height)
    corner = top * (2 * width) + left
    corners = torch.stack([corner, corner + 1, corner + 2 * width, corner + 2 * width + 1], dim=1)
    weights = torch.stack(
        [
            (1 - right_part) * (1 - lower_part),
            right_part * (1 - lower_part),
            (1 - right_part) * lower_part,
            right_part * lower_part,
        ],
        dim=1,
    )
    flat = doubled(images).flatten(2)
    found = flat.gather(2, corners.view(batch, 1, -1).expand(-1, channels, -1))
    found = found.view(batch, channels, 4, height, width)
    return (found * weights[:, None].to(images.dtype)).sum(2)


def _between(place: Tensor, side: int) -> tuple[Tensor, Tensor]:
    """Mirrors places into the image; returns the half pixel before each, and what is left."""
    last = max(side - 1, 1)
    halves = 2 * (last - ((place.abs() % (2 * last)) - last).abs()).clamp(max=side - 1)
    before = halves.floor()
    return before.long(), halves - before


def doubled(images: Tensor) -> Tensor:
    """Returns images `(B, C, 2 H, 2 W)`, with values between each two pixels behind the first."""
    across = _halfway(images.shape[3], images.device, images.dtype)
    images = torch.stack([images, images @ across.T], dim=-1).flatten(-2)
    down = _halfway(images.shape[2], images.device, images.dtype)
    return torch.stack([images, down @ images], dim=3).flatten(2, 3)


@lru_cache(maxsize=16)
def _halfway(side: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    """Returns the matrix `(side, side)` of values behind each pixel of a mirrored row."""
    last, matrix = max(side - 1, 1), torch.zeros(side, side, dtype=torch.float64)
    for pixel in range(side):
        for step, weight in enumerate(_HALFWAY, start=-2):
            place = min(last - abs(abs(pixel + step) % (2 * last) - last), side - 1)
            matrix[pixel, place] += weight
    return matrix.to(device, dtype)
