"""Work divided among processes, with results in one order on all of them.

Owns who computes what. Each chunk is computed whole by one process, so that its bits do not depend
on how many processes there are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F


def _alone(tensor: Tensor) -> Tensor:
    return tensor.unsqueeze(0)


@dataclass(frozen=True)
class Processes:
    """The processes of a run, seen from one of them.

    Attributes:
        rank: of this one.
        world_size: how many there are.
        gather: a tensor of equal shape from each, `(...)` to `(world_size, ...)`, on all of them.
    """

    rank: int = 0
    world_size: int = 1
    gather: Callable[[Tensor], Tensor] = _alone


def in_order(
    produce: Callable[[int, int], Tensor], sizes: Sequence[int], processes: Processes
) -> Iterator[Tensor]:
    """Yields the result of each chunk, in order, on every process.

    Args:
        produce: number and size of a chunk to its result, `(size, ...)`.
        sizes: of the chunks; none is larger than the first.
        processes: that share the work.
    """
    for first in range(0, len(sizes), processes.world_size):
        mine = min(first + processes.rank, len(sizes) - 1)  # a spare process repeats the last one
        result = produce(mine, sizes[mine])
        if processes.world_size == 1:
            yield result
            continue
        padding = [0, 0] * (result.ndim - 1) + [0, sizes[0] - sizes[mine]]
        everyones = processes.gather(F.pad(result, padding))
        for size, theirs in zip(sizes[first:], everyones, strict=False):
            yield theirs[:size]


def concatenated(
    produce: Callable[[int, int], Tensor], sizes: Sequence[int], processes: Processes
) -> Tensor:
    """Returns the results of all chunks as one tensor on the CPU."""
    return torch.cat([result.cpu() for result in in_order(produce, sizes, processes)])
