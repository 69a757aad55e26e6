"""Truncation: a generator with styles whose styles are pulled towards their mean."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


class Truncated(nn.Module):
    """Images of `mean + psi (styles - mean)` (arXiv:1812.04948, appendix B).

    Below 1 images come nearer to the usual one: cleaner, and less various.

    Args:
        generator: has `styles(noise, ...)` and `synthesize(styles)`.
        mean: of styles, `(style_dim,)`.
        truncation: psi; 1 changes nothing, 0 gives the image of the mean alone.
    """

    mean: Tensor

    def __init__(self, generator: Any, mean: Tensor, truncation: float) -> None:
        super().__init__()
        self.generator, self.truncation = generator, truncation
        self.register_buffer("mean", mean)

    def forward(self, noise: Tensor, *given: Tensor) -> Tensor:
        """Generates `(B, C, H, W)` of noise, and of what a condition gives."""
        styles = self.generator.styles(noise, *given)
        images: Tensor = self.generator.synthesize(
            torch.lerp(self.mean.to(styles.dtype), styles, self.truncation)
        )
        return images
