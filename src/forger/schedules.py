"""Learning-rate schedules: factors of the base rate as functions of a run's progress.

Owns the curves; torch's `LambdaLR` applies them, one step per iteration. Progress runs from 0 at
the first iteration to 1 at the end of the run.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from forger.bounds import Fraction, FractionBelowOne, check_bounds


@dataclass(frozen=True, kw_only=True)
class Constant:
    """The base rate throughout."""

    needs_total: ClassVar[bool] = False
    """Whether the curve depends on how long the run is."""

    def __call__(self, progress: float) -> float:
        """Returns 1."""
        return 1.0


@dataclass(frozen=True, kw_only=True)
class Linear:
    """The base rate, then a straight line down to `final` at the end.

    Args:
        start: the progress at which the decay begins, in [0, 1).
        final: the factor at the end of the run, in [0, 1].
    """

    start: FractionBelowOne = 0.0
    final: Fraction = 0.0
    needs_total: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_bounds(self.start, FractionBelowOne, "schedule.start")
        check_bounds(self.final, Fraction, "schedule.final")

    def __call__(self, progress: float) -> float:
        """Returns the factor at `progress` in [0, 1]."""
        done = max(0.0, progress - self.start) / (1 - self.start)
        return 1 + min(done, 1.0) * (self.final - 1)


@dataclass(frozen=True, kw_only=True)
class Cosine:
    """The base rate, then half a cosine down to `final` at the end (arXiv:1608.03983, eq. 5).

    Args:
        start: the progress at which the decay begins, in [0, 1).
        final: the factor at the end of the run, in [0, 1].
    """

    start: FractionBelowOne = 0.0
    final: Fraction = 0.0
    needs_total: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_bounds(self.start, FractionBelowOne, "schedule.start")
        check_bounds(self.final, Fraction, "schedule.final")

    def __call__(self, progress: float) -> float:
        """Returns the factor at `progress` in [0, 1]."""
        done = min(max(0.0, progress - self.start) / (1 - self.start), 1.0)
        return self.final + (1 - self.final) * (1 + math.cos(math.pi * done)) / 2


Schedule = Constant | Linear | Cosine
