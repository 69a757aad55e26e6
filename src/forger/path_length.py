"""The path-length penalty of a generator with styles: a term beside its adversarial loss."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from forger.reducing import sum_over_processes


def path_lengths(images: Tensor, styles: Tensor, directions: Tensor) -> Tensor:
    """Returns how far images move in random directions when styles do, `(B,)`, differentiable.

    With the Jacobian `J` of an image `(C, H, W)` by the styles of its layers, the length is
    `||J^T y||_2` for a direction `y`, as a root of the mean over layers (arXiv:1912.04958, eq. 4,
    with the style of each layer apart, as in the authors' code).

    Args:
        images: `(B, C, H, W)`.
        styles: that they were made of, `(B, layers, style_dim)`.
        directions: N(0, 1), `(B, C, H, W)`; they are divided by the root of the number of pixels.
    """
    scale = math.sqrt(images.shape[2] * images.shape[3])
    moved = (images * directions).sum() / scale  # each image depends on its own styles alone
    (gradients,) = torch.autograd.grad(moved, styles, create_graph=True)
    return gradients.square().sum(2).mean(1).sqrt()


class PathLength(nn.Module):
    """`E (||J^T y|| - a)^2`: keeps `path_lengths` near their running mean `a`.

    Args:
        weight: of the term.
        interval: the term is added to every so many updates of G, its weight times as much.
        decay: share of the new lengths in the running mean.

    Attributes:
        mean: `a`, a scalar, the same in all processes; it starts at 0.
    """

    mean: Tensor

    def __init__(self, weight: float, interval: int = 4, decay: float = 0.01) -> None:
        super().__init__()
        self.weight, self.interval, self.decay = weight, interval, decay
        self.register_buffer("mean", torch.zeros(()))

    def forward(self, lengths: Tensor) -> Tensor:
        """Takes lengths `(B,)` into the mean, and returns the weighted term, a scalar."""
        found = lengths.detach().mean()
        found /= sum_over_processes(found)
        self.mean.lerp_(found.to(self.mean.dtype), self.decay)
        term: Tensor = (lengths - self.mean).square().mean()
        return term * (self.weight * self.interval)


class Paths(nn.Module):
    """A generator with styles, as a function that gives images and styles in one graph."""

    def __init__(self, generator: Any) -> None:
        super().__init__()
        self.generator = generator

    def forward(self, noise: Tensor, extra: Tensor | None, *given: Tensor) -> tuple[Tensor, Tensor]:
        """Returns images `(B, C, H, W)` and styles `(B, layers, style_dim)`."""
        styles = self.generator.styles(noise, *given, extra=extra)
        return self.generator.synthesize(styles, extra=extra), styles
