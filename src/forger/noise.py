"""Random numbers of training as a pure function of (seed, iteration, place in the global batch)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, TypeAlias

import torch
from torch import Tensor

from forger.seeds import Purpose, seed_for

Prior = Literal["normal", "uniform"]

Draw: TypeAlias = Callable[[tuple[int, ...], torch.Generator, torch.dtype], Tensor]
"""Draws a tensor of a shape, row after row, from a random generator, on its device."""


def normal(shape: tuple[int, ...], generator: torch.Generator, dtype: torch.dtype) -> Tensor:
    """Draws N(0, 1)."""
    return torch.randn(shape, generator=generator, dtype=dtype, device=generator.device)


def unit(shape: tuple[int, ...], generator: torch.Generator, dtype: torch.dtype) -> Tensor:
    """Draws U(0, 1)."""
    return torch.rand(shape, generator=generator, dtype=dtype, device=generator.device)


def symmetric(shape: tuple[int, ...], generator: torch.Generator, dtype: torch.dtype) -> Tensor:
    """Draws U(-1, 1)."""
    return unit(shape, generator, dtype) * 2 - 1


PRIORS: dict[str, Draw] = {"normal": normal, "uniform": symmetric}


class Draws:
    """Draws this process's share of what the global batch of an iteration needs.

    So a resumed run and a run divided among processes draw what one undisturbed process would. Each
    purpose has a sequence of numbers of its own.

    Args:
        seed: of the run.
        rank: of this process.
        world_size: number of processes; each draws the whole batch and keeps its share.
        device: where to draw; another device gives other numbers.
        dtype: of what is drawn.
    """

    def __init__(
        self,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self.seed, self.dtype, self.device = seed, dtype, torch.device(device)
        self.rank, self.world_size = rank, world_size
        self._iteration = 0
        self._streams: dict[Purpose, torch.Generator] = {}
        self._begun: set[Purpose] = set()

    @property
    def iteration(self) -> int:
        """The iteration whose numbers are drawn."""
        return self._iteration

    def start(self, iteration: int) -> None:
        """Begins the iteration's own sequences of numbers."""
        self._iteration = iteration
        self._begun.clear()

    def rows(self, purpose: Purpose, draw: Draw, batch: int, *shape: int) -> Tensor:
        """Draws `(batch, *shape)`, the next numbers of a purpose.

        Args:
            purpose: whose numbers are taken.
            draw: their distribution.
            batch: rows of this process.
            shape: of a row.
        """
        drawn = draw((batch * self.world_size, *shape), self._stream(purpose), self.dtype)
        return drawn[self.rank :: self.world_size]

    def uniform(self, batch: int, *shape: int) -> Tensor:
        """Draws U(0, 1) for penalties, `(batch, *shape)`."""
        return self.rows(Purpose.PENALTIES, unit, batch, *shape)

    def _stream(self, purpose: Purpose) -> torch.Generator:
        generator = self._streams.setdefault(purpose, torch.Generator(self.device))
        if purpose not in self._begun:
            generator.manual_seed(seed_for(purpose, self.seed, self._iteration))
            self._begun.add(purpose)
        return generator
