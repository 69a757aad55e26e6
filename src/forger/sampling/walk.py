"""Walks through latent space: paths between points of noise."""

from __future__ import annotations

import torch
from torch import Tensor

from forger.noise import Prior

_PARALLEL = 1e-6  # below this sine of the angle, the great circle is straight or undefined
_INSIDE = 1 - 2**-24  # U(-1, 1) may draw -1, which is minus infinity as a normal number


def slerp(start: Tensor, end: Tensor, t: Tensor) -> Tensor:
    """Interpolates along the great circle from `start` to `end`.

    With the angle `w` between both and their directions `u`, `v`, the direction at t is
    `(sin((1 - t) w) u + sin(t w) v) / sin w` (Shoemake, 1985, "Animating rotation with quaternion
    curves"), and the length goes evenly from `|start|` to `|end|`. In many dimensions a straight
    line cuts through lengths that N(0, I) never has (1609.04468, section 2). Vectors that are
    parallel, opposite or zero have no one circle: they get the straight line.

    Args:
        start: `(..., d)`.
        end: `(..., d)`.
        t: `(frames,)` in [0, 1].

    Returns:
        `(frames, ..., d)` in the dtype of `start`; exactly `start` at 0 and `end` at 1.
    """
    t = t.double().view(-1, *[1] * start.ndim)
    a, b = start.double(), end.double()
    length_a, length_b = a.norm(dim=-1, keepdim=True), b.norm(dim=-1, keepdim=True)
    u, v = a / length_a.clamp_min(1e-30), b / length_b.clamp_min(1e-30)
    angle = 2 * torch.atan2((u - v).norm(dim=-1, keepdim=True), (u + v).norm(dim=-1, keepdim=True))
    sine = angle.sin()
    curved = (sine > _PARALLEL) & (length_a > 0) & (length_b > 0)
    direction = ((1 - t) * angle).sin() * u + (t * angle).sin() * v
    on_circle = direction / sine.clamp_min(_PARALLEL) * torch.lerp(length_a, length_b, t)
    path = torch.where(curved, on_circle, torch.lerp(a, b, t)).to(start.dtype)
    return torch.where(t == 0, start, torch.where(t == 1, end, path))


def loop(stops: Tensor, frames: int, prior: Prior = "normal") -> Tensor:
    """Returns a closed walk through all stops and back to the first; it repeats without a seam.

    Each frame is as likely a draw of the prior as the stops are. N(0, I) is walked by `slerp`. For
    U(-1, 1), whose cube a circle leaves while a straight line gathers in its middle, each number
    is walked as the normal number of the same quantile (why that matters: 1711.01970).

    Args:
        stops: `(stops, ..., d)`, for several walks at once with their number in between.
        frames: from a stop to the next, that stop not counted.
        prior: what the stops were drawn from.

    Returns:
        `(stops * frames, ..., d)`; frame `i * frames` is stop i exactly.
    """
    t = torch.arange(frames, dtype=torch.float64, device=stops.device) / frames
    points = stops
    if prior == "uniform":
        points = torch.special.ndtri((stops.double().clamp(-_INSIDE, _INSIDE) + 1) / 2)
    ends = points.roll(-1, 0)
    path = torch.stack([slerp(start, end, t) for start, end in zip(points, ends, strict=True)])
    if prior == "uniform":
        path = (2 * torch.special.ndtr(path) - 1).to(stops.dtype)
        path[:, 0] = stops
    return path.flatten(0, 1)
