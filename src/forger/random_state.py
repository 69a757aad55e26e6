"""The global random state of torch. Owns keeping it as it is around work that may draw from it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def random_state_kept(device: torch.device) -> Iterator[None]:
    """Undoes all draws made inside, on the CPU and on `device`."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        yield
