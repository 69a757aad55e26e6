"""Learning-rate schedules: factors of the base rate as functions of a run's progress, 0 to 1."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

from forger.bounds import Fraction, FractionBelowOne, check_fields


@dataclass(frozen=True, kw_only=True)
class Constant:
    """The base rate throughout."""

    needs_total: ClassVar[bool] = False
    """Whether the curve depends on how long the run is."""

    def __call__(self, progress: float) -> float:
        """Returns 1."""
        return 1.0


@dataclass(frozen=True, kw_only=True)
class Decay(ABC):
    """The base rate, then a curve down to `final` at the end.

    Args:
        start: the progress at which the decay begins, in [0, 1).
        final: the factor at the end of the run, in [0, 1].

    Raises:
        ConfigError: an argument is out of range.
    """

    start: FractionBelowOne = 0.0
    final: Fraction = 0.0
    needs_total: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_fields(self, "schedule")

    @abstractmethod
    def curve(self, done: float) -> float:
        """Returns what is left between 1 and `final`, from 1 at `done` 0 to 0 at `done` 1."""

    def __call__(self, progress: float) -> float:
        """Returns the factor at `progress` in [0, 1]."""
        done = min(max(0.0, progress - self.start) / (1 - self.start), 1.0)
        return self.final + (1 - self.final) * self.curve(done)


@dataclass(frozen=True, kw_only=True)
class Linear(Decay):
    """A straight line down; arguments as in `Decay`."""

    def curve(self, done: float) -> float:
        return 1 - done


@dataclass(frozen=True, kw_only=True)
class Cosine(Decay):
    """Half a cosine down (arXiv:1608.03983, eq. 5); arguments as in `Decay`."""

    def curve(self, done: float) -> float:
        return (1 + math.cos(math.pi * done)) / 2


Schedule = Constant | Decay
