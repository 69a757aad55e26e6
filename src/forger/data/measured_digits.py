"""Measures in images of drawn digits what their captions say: colours, width, slant and place."""

from __future__ import annotations

import torch
from torch import Tensor

from forger.data.digit_captions import INKS

_RING = 2  # pixels at each border, where there is ground alone
_FULL = 9  # pixels that differ most from the ground
_BETWEEN = {  # what lies between one value and the next
    "thickness": (2.45, 3.75),  # pixels
    "slant": (-0.2, 0.2),
}
_FAR = 1.75  # pixels from the middle, where a side begins


def measure(images: Tensor) -> Tensor:
    """Measures ink, ground, thickness, slant and place of images, uint8 `(N, 3, H, W)`.

    The ground is the palette's nearest colour to the median of the border, the ink that to the
    median of what differs from it most. How far each pixel lies between both says how much ink
    covers it: twice the area over the perimeter is the width of a stroke, the moments tell slant
    and place.

    Returns:
        numbers of values as in `digit_captions.VALUES`, int64 `(N, 5)`.
    """
    pixels = images.float()
    bare, inked = _colours(pixels)
    cover = _cover(pixels, bare, inked)
    palette = torch.tensor(list(INKS.values()), dtype=torch.float32, device=images.device)
    ink, ground = (torch.cdist(one, palette).argmin(1) for one in (inked, bare))
    shape = torch.stack(width_slant_place(cover), 1)
    return torch.cat((torch.stack((ink, ground), 1), values_of(shape)), 1)


def values_of(measures: Tensor) -> Tensor:
    """Returns which thickness, slant and place measures `(N, 4)` are, int64 `(N, 3)`."""
    width, lean, x, y = measures.unbind(1)
    thickness, slant = (
        torch.bucketize(one.contiguous(), torch.tensor(_BETWEEN[name], device=one.device))
        for name, one in (("thickness", width), ("slant", lean))
    )
    far = torch.maximum(x.abs(), y.abs()) > _FAR
    sideways, vertical = torch.where(x > 0, 2, 0), torch.where(y > 0, 4, 3)
    place = torch.where(x.abs() > y.abs(), sideways, vertical).where(far, 1)
    return torch.stack((thickness, slant, place), 1)


def width_slant_place(cover: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Measures strokes by how much ink covers each pixel, `(N, H, W)` from 0 to 1.

    Returns:
        width in pixels, slant in pixels to the right for each one up, and how far right and down of
        the middle the centre of mass is, in pixels; each `(N,)`.
    """
    height, width = cover.shape[1:]
    area = cover.sum((1, 2)).clamp(min=1e-3)
    across = cover[:, :, 1:] - cover[:, :, :-1]
    down = cover[:, 1:] - cover[:, :-1]
    slope = (across[:, :-1].square() + down[:, :, :-1].square()).sqrt()
    perimeter = slope.sum((1, 2)).clamp(min=1e-3)
    rows = (torch.arange(height, device=cover.device) - (height - 1) / 2).view(-1, 1)
    columns = torch.arange(width, device=cover.device) - (width - 1) / 2
    y, x = ((cover * one).sum((1, 2)) / area for one in (rows, columns))
    dy, dx = rows - y.view(-1, 1, 1), columns - x.view(-1, 1, 1)
    spread = (cover * dy * dy).sum((1, 2)).clamp(min=1e-3)
    slant = -(cover * dy * dx).sum((1, 2)) / spread
    return 2 * area / perimeter, slant, x, y


def _colours(pixels: Tensor) -> tuple[Tensor, Tensor]:
    """Returns the colours of ground and ink, each `(N, 3)`."""
    ring = torch.ones(pixels.shape[2:], dtype=torch.bool, device=pixels.device)
    ring[_RING:-_RING, _RING:-_RING] = False
    bare = pixels[:, :, ring].median(2).values
    flat = pixels.flatten(2)
    difference = (flat - bare.unsqueeze(2)).square().sum(1)
    most = difference.topk(_FULL, dim=1).indices  # which ink covers wholly, even of thin strokes
    inked = flat.gather(2, most.unsqueeze(1).expand(-1, 3, -1)).median(2).values
    return bare, inked


def _cover(pixels: Tensor, bare: Tensor, inked: Tensor) -> Tensor:
    """Returns how much ink covers each pixel, from 0 to 1, `(N, H, W)`."""
    way = (inked - bare)[:, :, None, None]
    along = ((pixels - bare[:, :, None, None]) * way).sum(1)
    return (along / way.square().sum(1).clamp(min=1)).clamp(0, 1)
