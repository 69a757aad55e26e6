"""Moves and replaces parts of images by whole pixels."""

from __future__ import annotations

import torch
from torch import Tensor


def cut_out(
    images: Tensor, row: Tensor, column: Tensor, size: tuple[float, float], fill: float
) -> Tensor:
    """Fills a rectangle of each image `(B, C, H, W)`.

    Args:
        images: of which a pixel is filled where its middle lies inside.
        row: of the rectangle's middle `(B,)`, in pixels from the upper edge.
        column: the same from the left edge.
        size: height and width, in pixels.
        fill: what is put there.
    """
    near = []
    for side, middle, length in zip(images.shape[2:], (row, column), size, strict=True):
        pixels = torch.arange(side, device=images.device) + 0.5
        near.append((pixels - middle[:, None]).abs() < length / 2)
    hole = near[0][:, :, None] & near[1][:, None, :]
    return torch.where(hole[:, None], fill, images)


def gathered(images: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Returns `image[:, rows][:, :, columns]` of each image `(B, C, H, W)`; `(B, H)`, `(B, W)`."""
    batch, channels, height, width = images.shape
    places = (rows[:, :, None] * width + columns[:, None, :]).view(batch, 1, height * width)
    found = images.flatten(2).gather(2, places.expand(-1, channels, -1))
    return found.view_as(images)
