"""Digits as strokes of a known width: thinned to a line one pixel wide, and drawn anew from it."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

_BITS = ((-1, 0), (-1, 1), (0, 1), (1, 1), (1, 0), (1, -1), (0, -1), (-1, -1))  # clockwise, from N
_REACH = 7  # pixels from the line up to which distances are told apart


def thin(ink: Tensor) -> Tensor:
    """Thins ink, bool `(N, H, W)`, to lines one pixel wide that hang together as the ink did.

    Zhang and Suen, "A fast parallel algorithm for thinning digital patterns" (1984). Nothing
    touches the border.
    """
    lines, left = ink.clone(), torch.arange(len(ink))  # images that still change
    steps = [_removable(second) for second in (False, True)]
    while len(left):
        before = lines[left]
        now = before
        for removable in steps:
            now = now & ~removable[_codes(now).long()]
        lines[left] = now
        left = left[(now != before).flatten(1).any(1)]
    return lines


def distances(lines: Tensor) -> Tensor:
    """Returns how far each pixel is from the nearest one of lines, bool `(N, H, W)`.

    Returns:
        Euclidean distances in pixels, float32 `(N, H, W)`; those above 7 are told as 8.
    """
    far = float((_REACH + 1) ** 2)
    squares = torch.where(lines, 0.0, far)
    for dim in (2, 1):
        padding = (_REACH, _REACH, 0, 0) if dim == 2 else (0, 0, _REACH, _REACH)
        padded, size = F.pad(squares, padding, value=far), squares.shape[dim]
        squares = squares.clone()
        for offset in range(-_REACH, _REACH + 1):
            near = padded.narrow(dim, _REACH + offset, size)
            torch.minimum(squares, near + offset**2, out=squares)
    return squares.clamp_(max=far).sqrt_()


def _codes(ink: Tensor) -> Tensor:
    """Returns the eight neighbours of each pixel as the bits of a number, uint8 `(N, H, W)`."""
    padded, (height, width) = F.pad(ink.to(torch.uint8), (1, 1, 1, 1)), ink.shape[1:]
    codes = torch.zeros_like(ink, dtype=torch.uint8)
    for bit, (down, right) in enumerate(_BITS):
        shifted = padded[:, 1 + down : 1 + down + height, 1 + right : 1 + right + width]
        codes |= shifted << bit
    return codes


def _removable(second: bool) -> Tensor:
    """Returns for each code whether one of both steps of an iteration removes such a pixel."""
    bits = (torch.arange(256)[:, None] >> torch.arange(8)) & 1  # (256, 8): P2 to P9
    count, following = bits.sum(1), bits.roll(-1, 1)
    passages = ((bits == 0) & (following == 1)).sum(1)
    north, east, south, west = bits[:, 0], bits[:, 2], bits[:, 4], bits[:, 6]
    corners = (
        (north * east * west == 0) & (north * south * west == 0)
        if second
        else (north * east * south == 0) & (east * south * west == 0)
    )
    return (count >= 2) & (count <= 6) & (passages == 1) & corners
