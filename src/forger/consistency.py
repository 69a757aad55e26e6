"""Consistency: what the discriminator says shall change little where an image changes little.

- CR (arXiv:1910.12027): `cr (D(x) - D(T x))^2` of real images x in D's loss.
- bCR (arXiv:2002.04724, section 3.1) adds `cr_fake (D(G(z)) - D(T G(z)))^2`.
- zCR (section 3.2): `zcr_d (D(G(z)) - D(G(z')))^2` in D's loss, `-zcr_g (G(z) - G(z'))^2` in G's.
"""

from __future__ import annotations

import torch
from torch import Tensor

from forger.augment.base import Rows, normal, uniform
from forger.augment.diffaugment import whole_shift
from forger.augment.regions import gathered


def changed(images: Tensor, rows: Rows, flip: bool) -> Tensor:
    """Returns T of images `(B, C, H, W)`.

    With `flip` each is mirrored in half the cases. It is moved by up to an eighth of each side, and
    mirrored at its edges.
    """
    height, width = images.shape[2:]
    u = rows(uniform, len(images), 3)
    down = torch.arange(height, device=u.device) - whole_shift(u[:, 0], height)[:, None]
    right = torch.arange(width, device=u.device) - whole_shift(u[:, 1], width)[:, None]
    down, right = _mirrored(down, height), _mirrored(right, width)
    if flip:
        right = torch.where(u[:, 2:] < 0.5, width - 1 - right, right)
    return gathered(images, down, right)


def near(noise: Tensor, rows: Rows, radius: float) -> Tensor:
    """Returns `z' = z + N(0, radius^2)` of noise `(B, latent_dim)`."""
    return noise + radius * rows(normal, *noise.shape).to(noise.dtype)


def squared_difference(one: Tensor, other: Tensor) -> Tensor:
    """Returns the mean of squares, a scalar."""
    return (one - other).square().mean()


def _mirrored(places: Tensor, side: int) -> Tensor:
    """Brings places at most a side outside back in, without showing the edge twice."""
    last = side - 1
    return last - (last - places.abs()).abs()
