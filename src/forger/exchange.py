"""Gradients among the processes of a run. Owns their exchange for one network at a time.

`DistributedDataParallel` would exchange those of both networks after every backward pass.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from lightning.pytorch.strategies import DDPStrategy, Strategy
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

from forger.shared_memory import shared_tensor


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
        # Two sets of rows in turn: who writes to one again has met all others since they read it.
        shape = (2, distributed.get_world_size(), size)
        self._shared = shared_tensor(shape, first.dtype) if first.device.type == "cpu" else None
        numbers = self._shared.numbers if self._shared else first.new_zeros(1, 1, size)
        self._turns = [_Rows(list(rows), self._weights) for rows in numbers]

    @torch.no_grad()
    def __call__(self) -> None:
        """Does so, in all processes together."""
        if not self._weights:
            return
        missing = [weight.grad is None for weight in self._weights]
        gradients = [torch.zeros_like(w) if w.grad is None else w.grad for w in self._weights]
        self._turns.reverse()
        rows = self._turns[0]
        rows.write(distributed.get_rank() if self._shared else 0, gradients, missing)
        if self._shared:
            self._shared.meet()
        else:
            distributed.all_reduce(rows.rows[0])
        rows.add_up(gradients)
        if any(missing):  # only then are the counts looked at, which waits for a GPU
            counts = rows.counts()
            for weight, gradient, count in zip(self._weights, gradients, counts, strict=True):
                weight.grad = gradient if count else None


class _Rows:
    """One row of numbers a process: for each weight whether it has a gradient, and all gradients.

    Args:
        rows: in the order of processes.
        weights: whose gradients they hold.
    """

    def __init__(self, rows: list[Tensor], weights: Sequence[nn.Parameter]) -> None:
        self.rows = rows
        self._flags = [row[: len(weights)] for row in rows]
        self._gradients = [_views(row, weights) for row in rows]

    def write(self, place: int, gradients: list[Tensor], missing: list[bool]) -> None:
        """Fills a row."""
        flags = self._flags[place]
        if any(missing):
            flags.copy_(torch.tensor([float(not m) for m in missing], dtype=flags.dtype))
        else:
            flags.fill_(1)  # without numbers from the host
        torch._foreach_copy_(self._gradients[place], gradients)

    def add_up(self, gradients: list[Tensor]) -> None:
        """Writes the sums to `gradients`, in the order of ranks: all get the same bits."""
        torch._foreach_copy_(gradients, self._gradients[0])
        for row in self._gradients[1:]:
            torch._foreach_add_(gradients, row)

    def counts(self) -> list[float]:
        """Returns how many processes had each gradient."""
        counts: list[float] = torch.stack(self._flags).sum(0).tolist()
        return counts


def _views(row: Tensor, weights: Sequence[nn.Parameter]) -> list[Tensor]:
    """Returns parts of a row, each laid out in memory as its weight; flags come first."""
    found, at = [], row.storage_offset() + len(weights)
    for weight in weights:
        found.append(row.as_strided(weight.shape, weight.stride(), at))
        at += weight.numel()
    return found
