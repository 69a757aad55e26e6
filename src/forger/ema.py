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
        self._following: _Following | None = None

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
        if self._following is None or self._following.source is not source:
            self._following = _Following(self.module, source)
        averages, values = self._following.tensors(floating=True)
        torch._foreach_lerp_(averages, values, 1 - decay)
        averages, values = self._following.tensors(floating=False)
        if averages:
            torch._foreach_copy_(averages, values)


class _Following:
    """Which tensor of an average follows which of its source.

    Found once, since walking through the modules takes longer than averaging a small network.
    Parameters stay the objects that they are, buffers may be replaced in their modules.
    """

    def __init__(self, average: nn.Module, source: nn.Module) -> None:
        self.source = source
        parameters = zip(average.parameters(), source.parameters(), strict=True)
        self._parameters: dict[bool, list[tuple[Tensor, Tensor]]] = {True: [], False: []}
        for mean, value in parameters:
            self._parameters[value.is_floating_point()].append((mean, value))
        self._buffers: dict[bool, list[tuple[nn.Module, nn.Module, str]]] = {True: [], False: []}
        for name, buffer in source.named_buffers():
            owner, _, own_name = name.rpartition(".")
            places = average.get_submodule(owner), source.get_submodule(owner), own_name
            self._buffers[buffer.is_floating_point()].append(places)

    def tensors(self, *, floating: bool) -> tuple[list[Tensor], list[Tensor]]:
        """Returns the average's tensors and, in the same order, the source's."""
        pairs = list(self._parameters[floating])
        for mean, value, name in self._buffers[floating]:
            pairs.append((getattr(mean, name), getattr(value, name)))
        return [mean for mean, _ in pairs], [value for _, value in pairs]
