"""Gradients among the processes of a run. Owns their exchange for one network at a time.

`DistributedDataParallel` would exchange those of both networks after every backward pass.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from lightning.pytorch.strategies import DDPStrategy, Strategy
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

from forger.shared_memory import shared_rows


def exchanges_itself(strategy: Strategy) -> bool:
    """Tells whether gradients of this strategy are to be exchanged by `GradientSum`.

    So it is under DDP, unless the user gave it a communication hook of its own or had it average
    models. Other strategies shard weights and gradients, and exchange them as they go.
    """
    return (
        isinstance(strategy, DDPStrategy)
        and isinstance(strategy.model, DistributedDataParallel)
        and strategy._ddp_comm_hook is None
        and strategy._model_averaging_period is None
    )


class GradientSum:
    """Replaces each gradient by its sum over all processes, in one message.

    Processes on the CPU of one machine exchange through memory that they share, which takes a third
    of the time of the loopback network; all others through `torch.distributed`.

    A weight without a gradient here counts as zero, and stays without one if it has none anywhere,
    so that optimizers pass it over as they would in one process.

    Args:
        weights: of one network, in the same order in all processes, which all come here.
    """

    def __init__(self, weights: Sequence[nn.Parameter]) -> None:
        self._weights = list(weights)
        if not self._weights:
            return
        first = self._weights[0]
        size = len(self._weights) + sum(weight.numel() for weight in self._weights)
        rows = shared_rows(size, first.dtype) if first.device.type == "cpu" else None
        self._shared = rows is not None
        self._rows = [first.new_zeros(size)] if rows is None else list(rows)
        self._views = [_views(row, self._weights) for row in self._rows]

    @torch.no_grad()
    def __call__(self) -> None:
        """Does so, in all processes together."""
        if not self._weights:
            return
        missing = [weight.grad is None for weight in self._weights]
        gradients = [torch.zeros_like(w) if w.grad is None else w.grad for w in self._weights]
        rank = distributed.get_rank() if self._shared else 0
        row, views = self._rows[rank], self._views[rank]
        flags = slice(0, len(missing))
        row[flags] = torch.tensor([float(not m) for m in missing], dtype=row.dtype)
        torch._foreach_copy_(views, gradients)
        if self._shared:
            counts = self._sum_shared(gradients, flags)
        else:
            distributed.all_reduce(row)
            torch._foreach_copy_(gradients, views)
            counts = row[flags]
        if any(missing):  # only then are the counts looked at, which waits for a GPU
            for weight, gradient, count in zip(
                self._weights, gradients, counts.tolist(), strict=True
            ):
                weight.grad = gradient if count else None

    def _sum_shared(self, gradients: list[Tensor], flags: slice) -> Tensor:
        """Sums in the order of ranks, so that all processes get the same bits."""
        distributed.barrier()  # all have written
        torch._foreach_copy_(gradients, self._views[0])
        for views in self._views[1:]:
            torch._foreach_add_(gradients, views)
        counts = torch.stack([row[flags] for row in self._rows]).sum(0)
        distributed.barrier()  # all have read
        return counts


def _views(row: Tensor, weights: Sequence[nn.Parameter]) -> list[Tensor]:
    """Returns parts of a row, each laid out in memory as its weight; flags come first."""
    found, at = [], row.storage_offset() + len(weights)
    for weight in weights:
        found.append(row.as_strided(weight.shape, weight.stride(), at))
        at += weight.numel()
    return found
