"""The exponential moving average of the generator. Owns the average, not when it is taken.

torch's `AveragedModel` reads its counter back from the device at every update; this one does not.
"""

from __future__ import annotations

from copy import deepcopy

import torch
from torch import Tensor, nn

from forger.bounds import FractionBelowOne, check_bounds


class EMA(nn.Module):
    """Keeps `average <- d average + (1 - d) weights`, buffers included, always in eval mode.

    The decay is warmed up, `d = min(decay, (1 + t) / (10 + t))` at iteration `t`, so that the
    initial weights are soon forgotten. Floating-point buffers (BatchNorm's statistics) are averaged
    like weights, since they belong to them; counters are copied.

    Args:
        module: the network to average; it is copied, not changed.
        decay: `d` per iteration, in [0, 1); 0 keeps a plain copy.

    Raises:
        ConfigError: `decay` is out of range.
    """

    def __init__(self, module: nn.Module, decay: FractionBelowOne) -> None:
        super().__init__()
        check_bounds(decay, FractionBelowOne, "model.ema_decay")
        self.decay = decay
        self.module = deepcopy(module).requires_grad_(False).eval()

    def train(self, mode: bool = True) -> EMA:
        """Stays in eval mode: the average is only ever used to sample."""
        return super().train(False)

    def forward(self, noise: Tensor) -> Tensor:
        """Generates with the averaged weights: `(B, latent_dim)` to `(B, C, H, W)`."""
        images: Tensor = self.module(noise)
        return images

    @torch.no_grad()
    def update(self, source: nn.Module, iteration: int) -> None:
        """Takes the weights of `source` after `iteration` updates into the average."""
        decay = min(self.decay, (1 + iteration) / (10 + iteration))
        averages = [*self.module.parameters(), *self.module.buffers()]
        values = [*source.parameters(), *source.buffers()]
        floating = [(a, v) for a, v in zip(averages, values, strict=True) if a.is_floating_point()]
        torch._foreach_lerp_([a for a, _ in floating], [v for _, v in floating], 1 - decay)
        for average, value in zip(averages, values, strict=True):
            if not average.is_floating_point():
                average.copy_(value)
