"""The exponential moving average of the generator."""

from __future__ import annotations

from collections.abc import Callable
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from forger.bounds import FractionBelowOne, PositiveFloat, check_bounds
from forger.copying import copied
from forger.errors import ConfigError
from forger.gradients import HALVES, full_precision

STATISTICS = ("running_mean", "running_var")  # of BatchNorm and its relatives
DEFAULT_DECAY = 0.999


class EMA(nn.Module):
    """Keeps `average <- d average + (1 - d) weights`, always in eval mode and at least in float32.

    The decay is warmed up, `d = min(decay, (1 + t) / (10 + t))` at iteration `t`, so that the
    initial weights are soon forgotten. BatchNorm's statistics are averaged like weights, since they
    belong to them; all other buffers, for example spectral norm's vectors, are copied. In 16 bits
    the steps of an average would be lost to rounding.

    With a half-life `d = 2^(-n / (factor half_life))`, where `n` images make an iteration, without
    that warm-up.

    Args:
        module: the network to average; it is copied, not changed.
        decay: `d` per iteration, in [0, 1); 0 keeps a plain copy.
        half_life: images after which half of an average is left; it takes the place of `decay`,
            which must be left at its default.

    Attributes:
        factor: of the half-life, which a schedule sets; 0 keeps a plain copy.
        earlier_updates: how many the average has taken in before iteration 1, in the run that its
            weights come from; the warm-up counts them.

    Raises:
        ConfigError: an argument is out of range, both are given, or the network cannot be copied.
    """

    def __init__(
        self,
        module: nn.Module,
        decay: FractionBelowOne = DEFAULT_DECAY,
        half_life: PositiveFloat | None = None,
    ) -> None:
        super().__init__()
        check_bounds(decay, FractionBelowOne, "model.ema_decay")
        if half_life is not None:
            check_bounds(half_life, PositiveFloat, "model.ema_half_life")
            if decay != DEFAULT_DECAY:
                raise ConfigError(
                    f"model.ema_decay={decay}: model.ema_half_life={half_life} takes its place;"
                    " leave one of them out"
                )
        self.decay, self.half_life, self.factor = decay, half_life, 1.0
        self.earlier_updates = 0
        self._slots: tuple[nn.Module, list[_Slot]] | None = None  # a tuple hides it from torch
        try:
            self.module = copied(module).requires_grad_(False).eval()
        except Exception as error:
            reason = f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
            raise ConfigError(
                f"model.generator: {type(module).__name__} cannot be copied, and its moving average"
                f" is a copy ({reason}); keep in the module only what copy.deepcopy takes"
            ) from error
        for tensor in chain(self.module.parameters(), self.module.buffers()):
            tensor.data = full_precision(tensor.data)

    def train(self, mode: bool = True) -> EMA:
        """Stays in eval mode: the average is only ever used to sample."""
        return super().train(False)

    def forward(self, *inputs: Tensor) -> Any:
        """Runs the averaged network, in its own precision."""
        dtype = next(self.module.parameters()).dtype
        return self.module(*(one.to(dtype) if one.is_floating_point() else one for one in inputs))

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> EMA:
        """Goes along to another device or to 64 bits, never to 16."""

        def at_least_float32(tensor: Tensor) -> Tensor:
            applied = fn(tensor)
            narrowed = applied.dtype in HALVES and tensor.dtype not in HALVES
            return tensor.to(applied.device) if narrowed else applied

        super()._apply(at_least_float32, recurse)  # type: ignore[no-untyped-call]
        return self

    @torch.no_grad()
    def update(self, source: nn.Module, iteration: int, images: float = 0) -> None:
        """Takes the weights of `source` after `iteration` updates into the average.

        Args:
            source: the network that is averaged.
            iteration: completed ones.
            images: that this iteration took, which a half-life is counted in.
        """
        updates = self.earlier_updates + iteration
        decay = self._decay(updates, images)
        if self._slots is None or self._slots[0] is not source:
            # Once only: walking through the modules takes longer than averaging a small network.
            self._slots = source, self._find_slots(source)
        averages, values = [], []
        for average, current, name, averaged in self._slots[1]:
            mean, value = getattr(average, name), getattr(current, name)
            if averaged:
                averages.append(mean)
                values.append(value.to(mean.dtype))
            else:
                mean.copy_(value)
        get_ema_multi_avg_fn(decay)(averages, values, updates)  # type: ignore[no-untyped-call]

    def _decay(self, updates: int, images: float) -> float:
        if self.half_life is None:
            return min(self.decay, (1 + updates) / (10 + updates))
        half_life = self.factor * self.half_life
        return 0.5 ** (images / half_life) if half_life > 0 else 0.0

    def describe(self) -> str:
        """Says how slow it is, for the plan of a run."""
        return (
            f"{self.decay}" if self.half_life is None else f"half-life {self.half_life:,.0f} images"
        )

    def _find_slots(self, source: nn.Module) -> list[_Slot]:
        slots: list[_Slot] = []
        for name, tensor in chain(source.named_parameters(), source.named_buffers()):
            owner, _, own_name = name.rpartition(".")
            belongs = isinstance(tensor, nn.Parameter) or own_name in STATISTICS
            averaged = belongs and tensor.is_floating_point()
            here, there = self.module.get_submodule(owner), source.get_submodule(owner)
            slots.append((here, there, own_name, averaged))
        return slots


_Slot = tuple[nn.Module, nn.Module, str, bool]
"""A tensor's module in the average and in its source, its name, and whether it is averaged."""
