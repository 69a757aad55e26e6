"""Affine changes of the colors of images."""

from __future__ import annotations

import torch
from torch import Tensor

from forger.augment.warping import product


def color_map(
    channels: int,
    brightness: Tensor,
    contrast: Tensor,
    luma: Tensor,
    hue: Tensor,
    saturation: Tensor,
) -> Tensor:
    """Returns maps `(B, C + 1, C + 1)` of colors with a 1 below, of changes in this order.

    Args:
        channels: of the images; the grey axis is that of equal channels.
        brightness: added, `(B,)` as all others.
        contrast: factor.
        luma: factor along the grey axis: 1, or -1 to mirror it.
        hue: angle around that axis, of three channels alone.
        saturation: factor across it.
    """
    lit = _affine(contrast[:, None, None] * torch.eye(channels, device=contrast.device), brightness)
    lit[:, :-1, -1] *= contrast[:, None]  # brightness comes first
    grey = torch.full((channels, channels), 1 / channels, device=luma.device)
    across = torch.eye(channels, device=luma.device) - grey
    mirrored = torch.eye(channels, device=luma.device) + grey * (luma - 1)[:, None, None]
    found = product(_affine(mirrored), lit)
    if channels == 3:
        found = product(_affine(_turned(hue, grey)), found)
    if channels > 1:
        one = torch.eye(channels, device=luma.device)
        found = product(_affine(one + across * (saturation - 1)[:, None, None]), found)
    return found


def _turned(angle: Tensor, grey: Tensor) -> Tensor:
    """Returns turns around the grey axis, by the formula of Rodrigues."""
    one = torch.eye(3, device=grey.device)
    around = (one.roll(1, 0) - one.roll(1, 1)) / 3**0.5  # the cross product with the axis
    cosine, sine = angle.cos()[:, None, None], angle.sin()[:, None, None]
    return one + (one - grey) * (cosine - 1) + around * sine


def _affine(linear: Tensor, added: Tensor | None = None) -> Tensor:
    """Returns maps `(B, n + 1, n + 1)` that multiply by a matrix and add the same everywhere."""
    batch, size = linear.shape[:2]
    maps = torch.zeros(batch, size + 1, size + 1, device=linear.device)
    maps[:, :size, :size], maps[:, size, size] = linear, 1
    if added is not None:
        maps[:, :size, size] = added[:, None]
    return maps


def recolor(images: Tensor, maps: Tensor) -> Tensor:
    """Applies maps `(B, C + 1, C + 1)` to the colors of images `(B, C, H, W)`."""
    size = images.shape[1]
    maps = maps.to(images.dtype)
    mixed = maps[:, :size, :size, None, None] * images[:, None]
    return mixed.sum(2) + maps[:, :size, size, None, None]
