"""Divides the work on chunks of images among the processes of a run."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor, distributed
from torch.nn import functional as F


def in_order(produce: Callable[[int, int], Tensor], sizes: Sequence[int]) -> Iterator[Tensor]:
    """Yields the result of each chunk, in order, on every process of a run; they share the work.

    Args:
        produce: number and size of a chunk to its result, `(size, ...)`, which one process computes
            whole, so that its bits do not depend on how many processes there are.
        sizes: of the chunks; none is larger than the first.
    """
    several = distributed.is_available() and distributed.is_initialized()
    world = distributed.get_world_size() if several else 1
    if world == 1:
        yield from (produce(number, size) for number, size in enumerate(sizes))
        return
    for begin in range(0, len(sizes), world):
        # a spare process repeats the last chunk
        mine = min(begin + distributed.get_rank(), len(sizes) - 1)
        result = produce(mine, sizes[mine])
        padding = [0, 0] * (result.ndim - 1) + [0, sizes[0] - sizes[mine]]
        padded = F.pad(result, padding).contiguous()
        gathered = [torch.empty_like(padded) for _ in range(world)]
        distributed.all_gather(gathered, padded)
        for size, theirs in zip(sizes[begin:], gathered, strict=False):
            yield theirs[:size]
