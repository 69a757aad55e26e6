"""How one network is updated. Owns optimizer, schedule, accumulation and clipping of each.

Lightning leaves all four to the module under manual optimization.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor, nn
from torch.optim import Adam, Optimizer
from torch.optim.lr_scheduler import LambdaLR

from forger.bounds import PositiveFloat, PositiveInt, check_bounds
from forger.errors import ConfigError
from forger.schedules import Constant, Schedule

OptimizerFactory = Callable[[Iterable[nn.Parameter]], Optimizer]


@dataclass(frozen=True, kw_only=True)
class Updates:
    """The settings of one network's updates.

    Args:
        optimizer: makes the optimizer from parameters; the default is DCGAN's Adam
            (arXiv:1511.06434, section 4).
        schedule: factor of the learning rate by progress.
        gradient_clip: largest 2-norm of the gradient over all weights; `None` is no clipping.
        accumulate: batches whose mean gradient makes one update.

    Raises:
        ConfigError: a number is out of range.
    """

    optimizer: OptimizerFactory = field(
        default_factory=lambda: partial(Adam, lr=2e-4, betas=(0.5, 0.999))
    )
    schedule: Schedule = field(default_factory=Constant)
    gradient_clip: PositiveFloat | None = None
    accumulate: PositiveInt = 1

    def __post_init__(self) -> None:
        check_bounds(self.accumulate, PositiveInt, "model.accumulate")
        if self.gradient_clip is not None:
            check_bounds(self.gradient_clip, PositiveFloat, "model.gradient_clip")

    def make_optimizer(self, network: nn.Module) -> Optimizer:
        """Returns the optimizer over the network's trainable weights."""
        return self.optimizer([p for p in network.parameters() if p.requires_grad])

    def make_scheduler(self, optimizer: Optimizer, total: float) -> LambdaLR | None:
        """Returns what applies the schedule, to be stepped once per iteration; `None` if constant.

        Args:
            optimizer: whose rate it sets.
            total: iterations of the whole run.

        Raises:
            ConfigError: the schedule ends with a run that has no end.
        """
        if not getattr(self.schedule, "needs_total", True):  # a plain function has no such word
            return None
        if not math.isfinite(total) or total <= 0:
            raise ConfigError(
                f"schedule={type(self.schedule).__name__.lower()}: a schedule needs a run of known"
                " length; set trainer.max_steps or trainer.max_epochs, or write schedule=constant"
            )
        return LambdaLR(optimizer, lambda iteration: self.schedule(min(iteration / total, 1.0)))


def match_layout(optimizer: Optimizer) -> None:
    """Lays the optimizer's state out in memory as the weights that it belongs to.

    A checkpoint keeps the layout of its time. torch's fused optimizers for the CPU go through
    memory in order, and where the two differ take a state for another weight's, silently.
    """
    for weight, state in optimizer.state.items():
        for name, value in state.items():
            fits = isinstance(value, Tensor) and value.shape == weight.shape
            if fits and value.stride() != weight.stride():
                state[name] = torch.empty_like(weight, dtype=value.dtype).copy_(value)
