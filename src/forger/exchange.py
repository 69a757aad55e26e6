"""Gradients among the processes of a run. Owns their exchange for one network at a time.

`DistributedDataParallel` would exchange those of both networks after every backward pass.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from lightning.pytorch.strategies import DDPStrategy, Strategy
from torch import nn
from torch.nn.parallel import DistributedDataParallel


def exchanges_itself(strategy: Strategy) -> bool:
    """Tells whether gradients of this strategy are to be exchanged by `average_gradients`.

    So it is under DDP, unless the user gave it a communication hook of its own or had it average
    models. Other strategies shard weights and gradients, and exchange them as they go.
    """
    return (
        isinstance(strategy, DDPStrategy)
        and isinstance(strategy.model, DistributedDataParallel)
        and strategy._ddp_comm_hook is None
        and strategy._model_averaging_period is None
    )


@torch.no_grad()
def average_gradients(weights: Sequence[nn.Parameter]) -> None:
    """Replaces each gradient by its mean over all processes, in one message.

    A weight without a gradient here counts as zero, and stays without one if it has none anywhere,
    so that optimizers pass it over as they would in one process.

    Args:
        weights: of one network, in the same order in all processes.
    """
    if not weights:
        return
    missing = [weight.grad is None for weight in weights]
    gradients = [torch.zeros_like(w) if w.grad is None else w.grad for w in weights]
    present = gradients[0].new_tensor([float(not m) for m in missing])
    message = torch.cat([present, *(gradient.flatten() for gradient in gradients)])
    torch.distributed.all_reduce(message)
    counts, sums = message[: len(weights)], message[len(weights) :]
    sizes = [gradient.numel() for gradient in gradients]
    means = torch.split(sums / torch.distributed.get_world_size(), sizes)
    torch._foreach_copy_(gradients, [m.view_as(g) for m, g in zip(means, gradients, strict=True)])
    if any(missing):  # only then are the counts looked at, which waits for a GPU
        for weight, gradient, count in zip(weights, gradients, counts.tolist(), strict=True):
            weight.grad = gradient if count else None
