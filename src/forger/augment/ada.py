"""ADA: geometry and color change with a probability that keeps the discriminator in check."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from forger.augment.base import Augment, Rows, normal, uniform
from forger.augment.colors import color_map, recolor
from forger.augment.controller import Controller
from forger.augment.regions import cut_out
from forger.augment.warping import product, rotation, scaling, shifting, warp
from forger.bounds import Fraction, Pixel, PositiveInt, check_bounds
from forger.errors import ConfigError

SHIFT = 0.125  # of a side: the largest by whole pixels, and the deviation of the others
SCALE = 0.2  # deviation of the binary logarithm


class ADA(Augment):
    """Adaptive discriminator augmentation, the pipeline `bgc` (arXiv:2006.06676, appendix B).

    Each change happens to an image with probability p times the factor of its group, in this order:

    - `blit`: mirrored in half the cases, turned by 0, 90, 180 or 270 degrees, moved by whole pixels
      up to an eighth of each side;
    - `geometry`: scaled by 2^N(0, 0.2^2), turned by any angle, stretched by 2^N(0, 0.2^2) in x and
      shrunk as much in y, turned again, moved by N(0, 0.125^2) of each side; either turn happens
      with `1 - sqrt(1 - p)`, so that both leave an image as often as the others do;
    - `color`: brightness + N(0, 0.2^2), contrast x 2^N(0, 0.5^2), luma mirrored in half the cases;
      of three channels the hue turned by any angle, of more than one the saturation x 2^N(0, 1);
    - `cutout`: a square of half of each side, its centre anywhere (arXiv:2102.12967; off in `bgc`).

    All of geometry is one warp, see `forger.augment.warping`. Where p is 0 images stay as they are,
    in bits.

    Args:
        p: the probability; a schedule may scale it. None: the `Controller` sets it, from 0 on.
        blit: factor of p for this group, in [0, 1]; 0 leaves it out.
        geometry: the same.
        color: the same.
        cutout: the same.
        fill: color of what is cut out.
        target: of the controller: how often real images are found real, minus how often not.
        interval: of the controller: updates of D after which it moves p.
        ramp_images: of the controller: real images in which it could move p from 0 to 1.

    Raises:
        ConfigError: an argument is out of range, or all groups are left out.
    """

    logged_names = ("augment_p",)

    def __init__(
        self,
        p: Fraction | None = None,
        *,
        blit: Fraction = 1.0,
        geometry: Fraction = 1.0,
        color: Fraction = 1.0,
        cutout: Fraction = 0.0,
        fill: Pixel = 0.0,
        target: Fraction = 0.6,
        interval: PositiveInt = 4,
        ramp_images: PositiveInt = 500_000,
    ) -> None:
        super().__init__()
        self.groups = {"blit": blit, "geometry": geometry, "color": color, "cutout": cutout}
        fractions = {**self.groups, "target": target} | ({} if p is None else {"p": p})
        for name, value in fractions.items():
            check_bounds(value, Fraction, f"augment.{name}")
        check_bounds(fill, Pixel, "augment.fill")
        check_bounds(interval, PositiveInt, "augment.interval")
        check_bounds(ramp_images, PositiveInt, "augment.ramp_images")
        if not any(self.groups.values()):
            raise ConfigError(
                f"augment: {', '.join(self.groups)} are all 0, which changes nothing; write"
                " augment=none"
            )
        self.fixed, self.fill = p, fill
        self.takes_factor, self.is_adaptive = p is not None, p is None
        self.controller = Controller(target, interval, ramp_images) if p is None else None

    def forward(self, images: Tensor, rows: Rows, factor: float = 1.0) -> Tensor:
        """Changes each image with its probabilities."""
        if self.fixed is not None and self.fixed * factor == 0:
            return images
        p, (batch, channels, *size) = self._p(factor), images.shape
        chances = {name: p * own for name, own in self.groups.items() if own > 0}
        maps = [
            draw(rows, batch, size, chances[name])
            for name, draw in (("blit", drawn_blit), ("geometry", drawn_geometry))
            if name in chances
        ]
        if maps:
            images = warp(images, product(*maps))
        if "color" in chances:
            images = recolor(images, drawn_colors(rows, batch, channels, chances["color"]))
        if "cutout" in chances:
            images = self._cut(images, rows, chances["cutout"])
        return images

    def describe(self) -> str:
        """Says how strong it is, and what is changed."""
        how = f"{self.fixed:g}" if self.controller is None else f"for r_t {self.controller.target}"
        groups = [
            name if own == 1 else f"{name} x {own:g}" for name, own in self.groups.items() if own
        ]
        return f"ADA of real and fake images, p {how}: {', '.join(groups)}"

    def see(self, real_logits: Tensor, boundary: float | None) -> None:
        """Lets the controller count the signs of D's logits."""
        if self.controller is not None and boundary is not None:
            self.controller.see(real_logits, boundary)

    def adapt(self) -> None:
        """Lets the controller move p."""
        if self.controller is not None:
            self.controller.adapt()

    def logged(self, factor: float, device: torch.device) -> dict[str, Tensor]:
        """Returns `augment_p`."""
        p = self._p(factor)
        return {"augment_p": p if isinstance(p, Tensor) else torch.full((), p, device=device)}

    def _p(self, factor: float) -> float | Tensor:
        if self.controller is not None:
            return self.controller.p
        assert self.fixed is not None
        return self.fixed * factor

    def _cut(self, images: Tensor, rows: Rows, p: float | Tensor) -> Tensor:
        height, width = images.shape[2:]
        chance, down, right = rows(uniform, len(images), 3).unbind(1)
        outside = torch.full_like(down, -float(height))
        row = torch.where(chance < p, down * height, outside)
        return cut_out(images, row, right * width, (height / 2, width / 2), self.fill)


def drawn_blit(rows: Rows, batch: int, size: Sequence[int], p: float | Tensor) -> Tensor:
    """Draws inverse maps `(B, 3, 3)` of what leaves pixels whole; `size` is height and width."""
    u = rows(uniform, batch, 7)
    flip, turn, move = (u[:, :3] < p).unbind(1)
    x = 1 - 2 * (flip * (u[:, 3] * 2).floor())
    quarters = (turn * (u[:, 4] * 4).floor()).long()
    right, down = (
        move * ((at * 2 - 1) * SHIFT * side).round()
        for at, side in zip((u[:, 5], u[:, 6]), reversed(size), strict=True)
    )
    cosine, sine = (((1 - q) * (1 - q % 2)).to(u.dtype) for q in (quarters, (quarters + 3) % 4))
    return product(
        scaling(x, torch.ones_like(x)),
        rotation(cosine, sine),
        shifting(-right, -down),
    )


def drawn_geometry(rows: Rows, batch: int, size: Sequence[int], p: float | Tensor) -> Tensor:
    """Draws inverse maps `(B, 3, 3)` of what falls between pixels."""
    u, bell = rows(uniform, batch, 7), rows(normal, batch, 4)
    turn = 1 - (1 - p) ** 0.5
    scale = 2 ** (SCALE * bell[:, 0] * (u[:, 0] < p))
    stretch = 2 ** (SCALE * bell[:, 1] * (u[:, 1] < p))
    before, after = ((u[:, 2:4] < turn) * (u[:, 4:6] * 2 - 1) * math.pi).unbind(1)
    moved = (u[:, 6:] < p) * SHIFT * bell[:, 2:]
    return product(
        scaling(1 / scale, 1 / scale),
        rotation(before.cos(), before.sin()),
        scaling(1 / stretch, stretch),
        rotation(after.cos(), after.sin()),
        shifting(-moved[:, 0] * size[1], -moved[:, 1] * size[0]),
    )


def drawn_colors(rows: Rows, batch: int, channels: int, p: float | Tensor) -> Tensor:
    """Draws maps of colors `(B, C + 1, C + 1)`."""
    u, bell = rows(uniform, batch, 7), rows(normal, batch, 3)
    happens = u[:, :5] < p
    return color_map(
        channels,
        brightness=0.2 * bell[:, 0] * happens[:, 0],
        contrast=2 ** (0.5 * bell[:, 1] * happens[:, 1]),
        luma=1 - 2 * (happens[:, 2] * (u[:, 5] * 2).floor()),
        hue=happens[:, 3] * (u[:, 6] * 2 - 1) * math.pi,
        saturation=2 ** (bell[:, 2] * happens[:, 4]),
    )
