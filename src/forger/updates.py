"""Updates one network: optimizer, schedule, accumulation, clipping, exchange, and the step."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from lightning import LightningModule
from lightning.pytorch.core.optimizer import LightningOptimizer
from lightning.pytorch.plugins.precision import (
    DoublePrecision,
    HalfPrecision,
    MixedPrecision,
    Precision,
)
from lightning.pytorch.strategies import DDPStrategy, SingleDeviceStrategy, Strategy
from lightning.pytorch.utilities.model_helpers import is_overridden
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Adam, Optimizer
from torch.optim.lr_scheduler import LambdaLR

from forger.bounds import PositiveFloat, PositiveInt, check_fields
from forger.gradients import clip_gradient, trainable
from forger.schedules import Constant, Schedule, check_length, factor_at

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
        check_fields(self, "model")

    def make_optimizer(self, network: nn.Module) -> Optimizer:
        """Returns the optimizer over the network's trainable weights."""
        return self.optimizer(trainable(network))

    def make_scheduler(
        self, optimizer: Optimizer, total: float, images: Callable[[], float] = lambda: 0.0
    ) -> LambdaLR | None:
        """Returns what applies the schedule of the learning rate; `None` if that is constant.

        Args:
            optimizer: whose learning rates follow it.
            total: iterations of the run.
            images: returns how many real images the discriminator was trained on.

        Raises:
            ConfigError: the schedule ends with a run that has no end.
        """
        check_length(self.schedule, total)
        if isinstance(self.schedule, Constant):
            return None
        return LambdaLR(optimizer, lambda done: factor_at(self.schedule, done, images(), total))


class NetworkUpdate:
    """Updates one network: gradients of some batches, their exchange, clipping, optimizer step.

    Lightning counts those steps that are made through its own wrapper of the optimizer: `counted`.
    """

    def __init__(
        self,
        module: LightningModule,
        network: nn.Module,
        settings: Updates,
        optimizer: LightningOptimizer,
        *,
        counted: bool,
    ) -> None:
        self.module, self.network, self.settings = module, network, settings
        self._optimizer, self._counted = optimizer, counted
        self._strategy: Any = module.trainer.strategy
        self._world_size = module.trainer.world_size
        self._plain = _lightning_adds_nothing(module)
        self._exchanges = exchanges_itself(self._strategy)
        self.weights = trainable(network)
        _match_layout(optimizer.optimizer)

    def begin(self) -> None:
        """Forgets the gradients of the last update."""
        self._optimizer.zero_grad()

    def backward(self, loss: Tensor, batches: int) -> None:
        """Adds the gradient of one of so many batches, shared out among the processes."""
        if self._exchanges:
            batches *= self._world_size  # gradients are summed over the processes
        loss = loss / batches if batches > 1 else loss
        with self._strategy.block_backward_sync() if self._exchanges else nullcontext():
            if self._plain:
                loss.backward()  # type: ignore[no-untyped-call]
            else:
                self.module.manual_backward(loss)

    def step(self, measure: bool) -> Tensor | None:
        """Steps the optimizer; returns the norm of the gradient before clipping, if asked to."""
        if self._exchanges:
            sum_gradients(self.weights)
        norm, limit = None, self.settings.gradient_clip
        if measure or limit is not None:
            scaler = getattr(self.module.trainer.precision_plugin, "scaler", None)  # of 16-mixed
            norm = clip_gradient(self.network, limit, scaler.get_scale() if scaler else 1.0)
        with self._without_scaler_if_idle():
            if self._counted:
                self._optimizer.step()
            elif self._plain:
                self._optimizer.optimizer.step()
            else:
                self._strategy.optimizer_step(self._optimizer.optimizer, lambda: None)
        return norm if measure else None

    @contextmanager
    def _without_scaler_if_idle(self) -> Iterator[None]:
        """Steps without the scaler of 16-mixed where no weight has a gradient: it refuses that."""
        plugin = self.module.trainer.precision_plugin
        scaler = getattr(plugin, "scaler", None)
        if scaler is None or any(weight.grad is not None for weight in self.weights):
            yield
            return
        plugin.scaler = None  # type: ignore[attr-defined]
        try:
            yield
        finally:
            plugin.scaler = scaler  # type: ignore[attr-defined]


def exchanges_itself(strategy: Strategy) -> bool:
    """Tells whether gradients of this strategy are to be summed by `sum_gradients`.

    DDP, unless the user gave it a communication hook, would exchange those of both networks after
    every backward pass. Other strategies exchange shards as they go.
    """
    return (
        isinstance(strategy, DDPStrategy)
        and isinstance(strategy.model, DistributedDataParallel)
        and strategy._ddp_comm_hook is None  # Lightning 2.6 tells it nowhere else
    )


@torch.no_grad()
def sum_gradients(weights: Sequence[nn.Parameter]) -> None:
    """Replaces each gradient by its sum over all processes, in one message.

    A weight without a gradient here counts as zero, and stays without one if it has none anywhere,
    so that optimizers pass it over as they would in one process. All processes call this with the
    weights of one network in the same order.
    """
    if not weights:
        return
    missing = [index for index, weight in enumerate(weights) if weight.grad is None]
    used = torch.ones(len(weights), dtype=weights[0].dtype, device=weights[0].device)
    for index in missing:
        used[index] = 0
        weights[index].grad = torch.zeros_like(weights[index])
    gradients = [weight.grad for weight in weights if weight.grad is not None]
    message = torch.cat([used, *(gradient.reshape(-1) for gradient in gradients)])
    distributed.all_reduce(message)
    sizes = [len(weights), *(gradient.numel() for gradient in gradients)]
    counts, *sums = torch.split(message, sizes)
    for gradient, total in zip(gradients, sums, strict=True):
        gradient.copy_(total.view_as(gradient))
    for index in missing:  # looks at the counts, which waits for a GPU
        if not counts[index]:
            weights[index].grad = None


def _lightning_adds_nothing(module: LightningModule) -> bool:
    """Tells whether `loss.backward()` and `optimizer.step()` are all that Lightning would do.

    So it is without a scaler in one process, or where `sum_gradients` sums, unless the module or a
    callback hooks into them. Lightning calls six empty hooks of every callback in each iteration,
    which take a twentieth of a small network's time.
    """
    trainer = module.trainer
    hooks = ("on_before_backward", "on_after_backward", "on_before_optimizer_step")
    return (
        (isinstance(trainer.strategy, SingleDeviceStrategy) or exchanges_itself(trainer.strategy))
        and type(trainer.precision_plugin)
        in (Precision, MixedPrecision, HalfPrecision, DoublePrecision)
        and getattr(trainer.precision_plugin, "scaler", None) is None
        and not is_overridden("backward", module)
        and not any(
            is_overridden(hook, listener)
            for listener in (module, *trainer.callbacks)  # type: ignore[attr-defined]
            for hook in hooks
        )
    )


def _match_layout(optimizer: Optimizer) -> None:
    """Lays the optimizer's state out in memory as the weights that it belongs to.

    A checkpoint keeps the layout of its time. torch's fused optimizers for the CPU go through
    memory in order, and where the two differ take a state for another weight's, silently.
    """
    for weight, state in optimizer.state.items():
        for name, value in state.items():
            fits = isinstance(value, Tensor) and value.shape == weight.shape
            if fits and value.stride() != weight.stride():
                state[name] = torch.empty_like(weight, dtype=value.dtype).copy_(value)
