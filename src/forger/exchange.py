"""Sums the gradients of one network over the processes of a run."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from lightning.pytorch.strategies import DDPStrategy, Strategy
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel


def exchanges_itself(strategy: Strategy) -> bool:
    """Tells whether gradients of this strategy are to be summed by `sum_gradients`.

    So it is under DDP, which would exchange those of both networks after every backward pass,
    unless the user gave it a communication hook. Other strategies exchange shards as they go.
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
    so that optimizers pass it over as they would in one process.

    Args:
        weights: of one network, in the same order in all processes, which all come here.
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
