"""Images for augmentations, and random numbers for them, as in training or chosen by a test."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor

from forger.augment.base import normal
from forger.noise import Draws
from forger.seeds import Purpose


def images_of(channels: int, *, rows: int = 6, height: int = 8, width: int = 6) -> Tensor:
    random = torch.Generator().manual_seed(channels)
    shape = rows, channels, height, width
    return torch.rand(shape, generator=random, dtype=torch.float64) * 2 - 1


def draws(seed: int = 0, **processes: int) -> Any:
    """What an augmentation draws by in the first iteration of a run."""
    found = Draws(seed, **processes)
    found.start(1)
    return partial(found.rows, Purpose.AUGMENTATION)


class Known:
    """Draws numbers that a test can look at afterwards: `u` uniform ones, `bell` normal ones."""

    def __init__(self, seed: int = 0) -> None:
        self.random = torch.Generator().manual_seed(seed)
        self.u, self.bell = torch.empty(0), torch.empty(0)

    def __call__(self, draw: Any, *shape: int) -> Tensor:
        found: Tensor = draw(shape, self.random, torch.float32)
        if draw is normal:
            self.bell = found
        else:
            self.u = found
        return found
