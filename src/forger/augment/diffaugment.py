"""DiffAugment: every image that the discriminator sees is changed (arXiv:2006.10738)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import torch
from torch import Tensor

from forger.augment.base import Augment, Rows, uniform
from forger.augment.regions import cut_out, gathered
from forger.bounds import Pixel, check_bounds
from forger.errors import ConfigError

Policy = Literal["color", "translation", "cutout"]
SHIFT = 1 / 8  # largest translation, of a side
SIZE = 1 / 2  # of the square that is cut out, of a side


class DiffAugment(Augment):
    """Changes each image by color, place and a hole, in this order (arXiv:2006.10738, section 3).

    - `color`: brightness by U(-0.5, 0.5), saturation by U(0, 2) around each pixel's mean, contrast
      by U(0.5, 1.5) around the image's mean.
    - `translation`: by whole pixels, up to an eighth of each side.
    - `cutout`: a square of half of each side, its centre anywhere in the image.

    Args:
        policy: which of them.
        fill: color of what comes in from outside, and of the hole: -1 is the black around digits.

    Raises:
        ConfigError: `policy` names none, another or one twice, or `fill` is out of range.
    """

    def __init__(
        self,
        policy: Sequence[Policy] = ("color", "translation", "cutout"),
        fill: Pixel = 0.0,
    ) -> None:
        super().__init__()
        known = get_args(Policy)
        if not policy or len({*policy}) < len(policy) or not {*policy} <= {*known}:
            raise ConfigError(
                f"augment.policy={list(policy)}: must name some of {', '.join(known)}, each once;"
                " for none of them write augment=none"
            )
        check_bounds(fill, Pixel, "augment.fill")
        self.policy, self.fill = tuple(policy), fill

    def forward(self, images: Tensor, rows: Rows, factor: float = 1.0) -> Tensor:
        """Changes every image; there is no `factor` in it."""
        u, (height, width) = rows(uniform, len(images), 7), images.shape[2:]
        if "color" in self.policy:
            images = recolor(images, u[:, 0] - 0.5, u[:, 1] * 2, u[:, 2] + 0.5)
        if "translation" in self.policy:
            down, right = whole_shift(u[:, 3], height), whole_shift(u[:, 4], width)
            images = translate(images, down, right, self.fill)
        if "cutout" in self.policy:
            size = int(height * SIZE + 0.5), int(width * SIZE + 0.5)
            row, column = centre(u[:, 5], height, size[0]), centre(u[:, 6], width, size[1])
            images = cut_out(images, row, column, size, self.fill)
        return images

    def describe(self) -> str:
        """Says what is changed."""
        return f"DiffAugment of real and fake images: {', '.join(self.policy)}, fill {self.fill:g}"


def recolor(images: Tensor, brightness: Tensor, saturation: Tensor, contrast: Tensor) -> Tensor:
    """Adds the brightness, then scales around the mean of each pixel, then of the image; `(B,)`."""
    added, around_pixel, around_image = (
        amount.to(images.dtype)[:, None, None, None]
        for amount in (brightness, saturation, contrast)
    )
    images = images + added
    if images.shape[1] > 1:  # grey has no saturation
        mean = images.mean(1, keepdim=True)
        images = mean + (images - mean) * around_pixel
    mean = images.mean((1, 2, 3), keepdim=True)
    return mean + (images - mean) * around_image


def whole_shift(u: Tensor, side: int) -> Tensor:
    """Turns U(0, 1) into a whole number of pixels, all from -side / 8 to side / 8 equally often."""
    most = int(side * SHIFT + 0.5)
    return (u * (2 * most + 1)).floor().long() - most


def centre(u: Tensor, side: int, size: int) -> Tensor:
    """Turns U(0, 1) into the middle of a hole so many pixels wide, in pixels from the edge.

    A hole of an even size lies around a border of pixels, one of an odd size around a pixel.
    """
    odd = size % 2
    return (u * (side + 1 - odd)).floor() + odd / 2


def translate(images: Tensor, down: Tensor, right: Tensor, fill: float) -> Tensor:
    """Moves images `(B, C, H, W)` by whole pixels `(B,)`, with `fill` in what becomes free."""
    height, width = images.shape[2:]
    rows = torch.arange(height, device=images.device) - down[:, None]
    columns = torch.arange(width, device=images.device) - right[:, None]
    inside_rows, inside_columns = (
        (places >= 0) & (places < side) for places, side in ((rows, height), (columns, width))
    )
    moved = gathered(images, rows.clamp(0, height - 1), columns.clamp(0, width - 1))
    inside = inside_rows[:, :, None] & inside_columns[:, None, :]
    return torch.where(inside[:, None], moved, fill)
