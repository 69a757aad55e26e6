"""The exponential moving average of the generator.

torch's `AveragedModel` reads its counter back from the device at every update; this one does not.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from typing_extensions import override

from forger.bounds import FractionBelowOne, check_bounds
from forger.copying import copied
from forger.errors import ConfigError

STATISTICS = ("running_mean", "running_var")  # of BatchNorm and its relatives
_HALVES = (torch.float16, torch.bfloat16)


class EMA(nn.Module):
    """Keeps `average <- d average + (1 - d) weights`, always in eval mode and at least in float32.

    The decay is warmed up, `d = min(decay, (1 + t) / (10 + t))` at iteration `t`, so that the
    initial weights are soon forgotten. BatchNorm's statistics are averaged like weights, since they
    belong to them; all other buffers, for example spectral norm's vectors, are copied. In 16 bits
    the steps of an average would be lost to rounding.

    Attributes:
        earlier_updates: how many the average has taken in before iteration 1, in the run that its
            weights come from; the warm-up counts them.

    Args:
        module: the network to average; it is copied, not changed.
        decay: `d` per iteration, in [0, 1); 0 keeps a plain copy.

    Raises:
        ConfigError: `decay` is out of range, or the network cannot be copied.
    """

    def __init__(self, module: nn.Module, decay: FractionBelowOne) -> None:
        super().__init__()
        check_bounds(decay, FractionBelowOne, "model.ema_decay")
        self.decay = decay
        self.earlier_updates = 0
        self._following: _Following | None = None
        try:
            self.module = copied(module).requires_grad_(False).eval()
        except Exception as error:
            reason = f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
            raise ConfigError(
                f"model.generator: {type(module).__name__} cannot be copied, and its moving average"
                f" is a copy ({reason}); keep in the module only what copy.deepcopy takes"
            ) from error
        for tensor in [*self.module.parameters(), *self.module.buffers()]:
            if tensor.dtype in _HALVES:
                tensor.data = tensor.data.float()

    def train(self, mode: bool = True) -> EMA:
        """Stays in eval mode: the average is only ever used to sample."""
        return super().train(False)

    def forward(self, noise: Tensor) -> Tensor:
        """Generates with the averaged weights: `(B, latent_dim)` to `(B, C, H, W)`."""
        images: Tensor = self.module(noise.to(next(self.module.parameters()).dtype))
        return images

    @override
    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> EMA:
        """Goes along to another device or to 64 bits, never to 16."""

        def at_least_float32(tensor: Tensor) -> Tensor:
            applied = fn(tensor)
            narrowed = applied.dtype in _HALVES and tensor.dtype not in _HALVES
            return tensor.to(applied.device) if narrowed else applied

        self._following = None
        super()._apply(at_least_float32, recurse)  # type: ignore[no-untyped-call]
        return self

    @torch.no_grad()
    def update(self, source: nn.Module, iteration: int) -> None:
        """Takes the weights of `source` after `iteration` updates into the average."""
        updates = self.earlier_updates + iteration
        decay = min(self.decay, (1 + updates) / (10 + updates))
        if self._following is None or self._following.source is not source:
            self._following = _Following(self.module, source)
        averages, values = self._following.tensors(averaged=True)
        if self._following.widens:
            values = [v.to(mean.dtype) for mean, v in zip(averages, values, strict=True)]
        torch._foreach_lerp_(averages, values, 1 - decay)
        averages, values = self._following.tensors(averaged=False)
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
        self.widens = any(mean.dtype != value.dtype for mean, value in self._parameters[True])
        self._buffers: dict[bool, list[tuple[nn.Module, nn.Module, str]]] = {True: [], False: []}
        for name, buffer in source.named_buffers():
            owner, _, own_name = name.rpartition(".")
            places = average.get_submodule(owner), source.get_submodule(owner), own_name
            self._buffers[own_name in STATISTICS and buffer.is_floating_point()].append(places)

    def tensors(self, *, averaged: bool) -> tuple[list[Tensor], list[Tensor]]:
        """Returns the average's tensors and, in the same order, the source's."""
        pairs = list(self._parameters[averaged])
        for mean, value, name in self._buffers[averaged]:
            pairs.append((getattr(mean, name), getattr(value, name)))
        return [mean for mean, _ in pairs], [value for _, value in pairs]
