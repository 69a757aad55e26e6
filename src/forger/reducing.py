"""Sums numbers over the processes of a run."""

from __future__ import annotations

from torch import Tensor, distributed


def sum_over_processes(tensor: Tensor) -> int:
    """Adds up a tensor of each process in place, the same in all; returns how many there are."""
    if not (distributed.is_available() and distributed.is_initialized()):
        return 1
    distributed.all_reduce(tensor)
    return distributed.get_world_size()
