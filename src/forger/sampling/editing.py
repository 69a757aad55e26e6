"""Edits images by strokes: the images nearest to colours and lines that look real."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from forger.bounds import NonNegativeFloat, PositiveInt, check_bounds
from forger.errors import ConfigError
from forger.sampling.latent_search import (
    Pool,
    Progress,
    counted,
    descend,
    draw_pool,
    labels_for,
    prior_term,
)
from forger.sampling.sampler import Sampler
from forger.sampling.walk import slerp

Realism = Callable[[Tensor, tuple[Tensor, ...]], Tensor]
"""Images `(R, C, H, W)`, and what a condition adds, to a discriminator's logits `(R,)`."""

_ANGLES, _CELL = 8, 4  # of histograms of gradients: directions in half a circle, pixels of a cell
_NEAR = 0.6  # how much of other noise is mixed into that of an image to begin near it


@dataclass(frozen=True)
class Edit:
    """The best candidates, the nearest to what was drawn first.

    Attributes:
        noise: `(K, latent_dim)`.
        label: numbers of classes `(K,)`; None: the generator is told none.
        images: `(K, C, H, W)` in [-1, 1].
        loss: what was minimised, `(K,)`, rising.
        frames: the way to each from where its search began, `(frames, K, C, H, W)`.
    """

    noise: Tensor
    label: Tensor | None
    images: Tensor
    loss: Tensor
    frames: Tensor


@dataclass(frozen=True)
class Strokes:
    """What was drawn, as a loss of images (arXiv:1609.03552, eq. 5).

    Attributes:
        mask: where colours hold and how much, `(H, W)` in [0, 1].
        colours: `(C, H, W)` in [-1, 1].
        edges: how much of a line is where, `(H, W)` in [0, 1]; None: no lines.
    """

    mask: Tensor
    colours: Tensor
    edges: Tensor | None = None

    def check(self, shape: tuple[int, ...]) -> None:
        """Raises `ConfigError` unless strokes are of images of a shape, and something is drawn."""
        sizes = {"mask": self.mask, "colours": self.colours, "edges": self.edges}
        for name, drawn in sizes.items():
            wanted = shape if name == "colours" else shape[1:]
            if drawn is not None and tuple(drawn.shape) != wanted:
                raise ConfigError(f"{name} {tuple(drawn.shape)}: must be {wanted}")
        if not bool(self.mask.any()) and (self.edges is None or not bool(self.edges.any())):
            raise ConfigError("nothing is drawn: mask and edges are empty")

    def loss(self, images: Tensor) -> Tensor:
        """Returns the mean square of masked colours, and of gradients where lines are, `(R,)`."""
        apart = (images - self.colours).square().mean(1) * self.mask
        total = apart.sum((1, 2)) / self.mask.sum().clamp_min(1)
        if self.edges is not None and bool(self.edges.any()):
            wanted = _gradients(self.edges[None, None])
            near = wanted.sum(1) > 0  # cells that lines touch
            apart = (_gradients(images) - wanted).square().sum(1) * near
            total = total + apart.sum((1, 2)) / near.sum()
        return total


def edit(
    sampler: Sampler,
    mask: Tensor,
    colours: Tensor,
    edges: Tensor | None = None,
    *,
    noise: Tensor | None = None,
    label: Any = None,
    realism: Realism | None = None,
    stay: NonNegativeFloat = 0.1,
    realism_weight: NonNegativeFloat = 0.02,
    candidates: PositiveInt = 4,
    starts: PositiveInt = 24,
    steps: PositiveInt = 60,
    frames: PositiveInt = 12,
    seed: int = 0,
    on_step: Progress | None = None,
) -> Edit:
    """Finds images that agree with strokes and look real (iGAN, arXiv:1609.03552, section 2.2).

    Minimised are what `Strokes` says, `stay mean((z - noise)^2)`, or `stay mean(z^2)` of nothing to
    stay near, and `realism_weight softplus(-D)`. Lines count by histograms of gradients in cells of
    4x4 pixels, whichever side of a line is bright.

    Args:
        sampler: of the generator.
        mask: where colours hold and how much, `(H, W)` in [0, 1].
        colours: `(C, H, W)` in [-1, 1].
        edges: lines, `(H, W)` in [0, 1].
        noise: of an image to stay near, `(latent_dim,)`; None: there is none, and searches begin at
            the best of 1,000 random images.
        label: the class, by name or number; None: any.
        realism: what D says; None: it is not asked.
        stay: how much the distance to `noise` counts.
        realism_weight: how much D counts.
        candidates: to return, at most `starts`.
        starts: of searches.
        steps: of Adam from each.
        frames: of the way to each candidate.
        seed: of random images.
        on_step: told of progress.

    Raises:
        ConfigError: the generator takes no noise, nothing is drawn, sizes differ, or a setting is
            out of range.
    """
    for name, value in {"candidates": candidates, "starts": starts, "steps": steps}.items():
        check_bounds(value, PositiveInt, name)
    check_bounds(stay, NonNegativeFloat, "stay")
    check_bounds(realism_weight, NonNegativeFloat, "realism_weight")
    pool = draw_pool(sampler, seed, label)
    given = [None if one is None else one.to(pool.images) for one in (mask, colours, edges)]
    strokes = Strokes(*given)  # type: ignore[arg-type]
    strokes.check(tuple(pool.images.shape[1:]))
    starts = min(starts, len(pool.noise))
    home = None if noise is None else noise.to(pool.noise)
    begin = _nearest(pool, strokes, starts) if home is None else _around(pool, home, starts)
    inputs = labels_for(sampler, begin.label)

    def loss(images: Tensor, noise: Tensor) -> Tensor:
        away = prior_term(sampler, noise) if home is None else (noise - home).square().mean(1)
        total = strokes.loss(images) + stay * away
        if realism is not None:
            total = total + realism_weight * F.softplus(-realism(images, inputs))
        return total

    found, values = descend(sampler, begin, loss, steps, counted(on_step, 0, steps))
    best = values.argsort()[: min(candidates, starts)]
    source = begin.noise[best] if home is None else home.expand(len(best), -1)
    labels = None if begin.label is None else begin.label[best]
    with torch.no_grad():
        t = torch.linspace(0, 1, max(2, frames), device=source.device)
        way = slerp(source, found[best], t)
        each = labels_for(sampler, labels)
        shown = torch.stack([sampler(points, *each) for points in way])
    return Edit(found[best], labels, shown[-1], values[best], shown)


def _nearest(pool: Pool, strokes: Strokes, starts: int) -> Pool:
    """Returns the random images that agree best with what was drawn."""
    return pool.at(strokes.loss(pool.images).topk(starts, largest=False).indices)


def _around(pool: Pool, home: Tensor, starts: int) -> Pool:
    """Returns noise near that of an image, itself first."""
    some = pool.at(torch.arange(starts, device=home.device))
    mixed = math.sqrt(1 - _NEAR**2) * home + _NEAR * some.noise
    mixed[0] = home
    return some._replace(noise=mixed)


def _gradients(images: Tensor) -> Tensor:
    """Returns `(N, angles, H', W')`: how much brightness changes along each direction in a cell.

    The histogram of each cell has length 1 where it changes much, and is near 0 where it does not.
    """
    grey = images.mean(1, keepdim=True)
    across = grey.new_tensor([[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]]) / 8
    kernels = torch.stack([across, across.T])[:, None]
    change = F.conv2d(F.pad(grey, (1, 1, 1, 1), mode="replicate"), kernels)
    dx, dy = change[:, :1], change[:, 1:]
    angles = torch.arange(_ANGLES, device=grey.device) * (math.pi / _ANGLES)
    along = dx * angles.cos().view(1, -1, 1, 1) + dy * angles.sin().view(1, -1, 1, 1)
    cells = F.avg_pool2d(along.abs(), _CELL, ceil_mode=True)
    return cells / (cells.square().sum(1, keepdim=True) + 1e-2).sqrt()
