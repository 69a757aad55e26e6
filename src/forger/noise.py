"""Random numbers of training as a pure function of (seed, iteration, place in the global batch)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from forger.seeds import Purpose, seed_for

Prior = Literal["normal", "uniform"]


def normal(shape: tuple[int, ...], generator: torch.Generator, dtype: torch.dtype) -> Tensor:
    """Draws N(0, 1)."""
    return torch.randn(shape, generator=generator, dtype=dtype, device=generator.device)


def symmetric(shape: tuple[int, ...], generator: torch.Generator, dtype: torch.dtype) -> Tensor:
    """Draws U(-1, 1)."""
    drawn = torch.rand(shape, generator=generator, dtype=dtype, device=generator.device)
    return drawn * 2 - 1


_Draw = Callable[[tuple[int, ...], torch.Generator, torch.dtype], Tensor]
PRIORS: dict[str, _Draw] = {"normal": normal, "uniform": symmetric}


class NoiseSource:
    """Draws this process's share of each global batch.

    So a resumed run and a run divided among processes draw what one undisturbed process would.

    Args:
        prior: distribution of the generator's input.
        seed: of the run.
        rank: of this process; each of `world_size` draws the whole batch and keeps its share.
        world_size: number of processes.
        device: where to draw; another device gives other numbers.
        dtype: of what is drawn.
    """

    def __init__(
        self,
        prior: Prior,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self.draw, self.seed, self.dtype = PRIORS[prior], seed, dtype
        self.rank, self.world_size = rank, world_size
        self._noise, self._uniform = torch.Generator(device), torch.Generator(device)

    def start(self, iteration: int) -> None:
        """Begins the iteration's own sequences of numbers."""
        self._noise.manual_seed(seed_for(Purpose.TRAINING_NOISE, self.seed, iteration))
        self._uniform.manual_seed(seed_for(Purpose.PENALTIES, self.seed, iteration))

    def prior(self, batch: int, size: int) -> Tensor:
        """Draws the generator's input, `(batch, size)`."""
        drawn = self.draw((batch * self.world_size, size), self._noise, self.dtype)
        return drawn[self.rank :: self.world_size]

    def uniform(self, batch: int, *shape: int) -> Tensor:
        """Draws U(0, 1) for penalties, `(batch, *shape)`."""
        size, generator = (batch * self.world_size, *shape), self._uniform
        drawn = torch.rand(size, generator=generator, dtype=self.dtype, device=generator.device)
        return drawn[self.rank :: self.world_size]
