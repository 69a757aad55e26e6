"""Consistency: what the discriminator says shall change little where an image changes little."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from forger.augment.base import Rows, normal, uniform
from forger.augment.diffaugment import whole_shift
from forger.augment.regions import gathered


@dataclass(frozen=True)
class Consistency:
    """Weights of the terms; 0 is off. All differences are squared and averaged.

    - CR (arXiv:1910.12027): `cr (D(x) - D(T x))^2` of real images x in D's loss; T mirrors an image
      in half the cases and moves it by up to an eighth of each side, mirrored at its edges.
    - bCR (arXiv:2002.04724, section 3.1) adds `cr_fake (D(G(z)) - D(T G(z)))^2`.
    - zCR (section 3.2): `zcr_d (D(G(z)) - D(G(z')))^2` in D's loss and `-zcr_g (G(z) - G(z'))^2` in
      G's, with z' = z + N(0, zcr_radius^2).
    """

    cr: float = 0.0
    cr_fake: float = 0.0
    cr_flip: bool = True
    zcr_d: float = 0.0
    zcr_g: float = 0.0
    zcr_radius: float = 0.05

    @property
    def of_noise(self) -> bool:
        """Whether a term needs the noise of fakes."""
        return self.zcr_d > 0 or self.zcr_g > 0

    def changed(self, images: Tensor, rows: Rows) -> Tensor:
        """Returns T of images `(B, C, H, W)`."""
        height, width = images.shape[2:]
        u = rows(uniform, len(images), 3)
        down = torch.arange(height, device=u.device) - whole_shift(u[:, 0], height)[:, None]
        right = torch.arange(width, device=u.device) - whole_shift(u[:, 1], width)[:, None]
        down, right = _mirrored(down, height), _mirrored(right, width)
        if self.cr_flip:
            right = torch.where(u[:, 2:] < 0.5, width - 1 - right, right)
        return gathered(images, down, right)

    def near(self, noise: Tensor, rows: Rows) -> Tensor:
        """Returns z' of noise `(B, latent_dim)`."""
        return noise + self.zcr_radius * rows(normal, *noise.shape).to(noise.dtype)


def squared_difference(one: Tensor, other: Tensor) -> Tensor:
    """Returns the mean of squares, a scalar."""
    return (one - other).square().mean()


def _mirrored(places: Tensor, side: int) -> Tensor:
    """Brings places at most a side outside back in, without showing the edge twice."""
    last = side - 1
    return last - (last - places.abs()).abs()
