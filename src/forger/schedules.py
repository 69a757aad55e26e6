"""Schedules: factors of a setting, such as a learning rate, as functions of progress, 0 to 1."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

from forger.bounds import Fraction, FractionBelowOne, PositiveInt, check_fields
from forger.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class Constant:
    """The setting itself throughout."""

    needs_total: ClassVar[bool] = False
    """Whether the curve depends on how long the run is."""

    def __call__(self, progress: float) -> float:
        """Returns 1."""
        return 1.0


@dataclass(frozen=True, kw_only=True)
class Decay(ABC):
    """`initial`, then a curve to `final`, which stays.

    The curve takes the whole run, unless `images` or `iterations` says how long it is.

    Args:
        start: the progress at which the curve begins, in [0, 1).
        initial: the factor before, in [0, 1].
        final: the factor at the end, in [0, 1].
        images: length of the whole, `start` included, in real images that the discriminator was
            trained on.
        iterations: the same in iterations.

    Raises:
        ConfigError: an argument is out of range, or both lengths are given.
    """

    start: FractionBelowOne = 0.0
    initial: Fraction = 1.0
    final: Fraction = 0.0
    images: PositiveInt | None = None
    iterations: PositiveInt | None = None

    def __post_init__(self) -> None:
        check_fields(self, "schedule")
        if self.images is not None and self.iterations is not None:
            raise ConfigError(
                f"schedule.images={self.images}, schedule.iterations={self.iterations}: both say"
                " how long the curve is; leave one of them out"
            )

    @property
    def needs_total(self) -> bool:
        """Whether the curve depends on how long the run is."""
        return self.images is None and self.iterations is None

    @abstractmethod
    def curve(self, done: float) -> float:
        """Returns what is left between `initial` and `final`, from 1 at `done` 0 to 0 at 1."""

    def __call__(self, progress: float) -> float:
        """Returns the factor at `progress` in [0, 1]."""
        done = min(max(0.0, progress - self.start) / (1 - self.start), 1.0)
        return self.final + (self.initial - self.final) * self.curve(done)


@dataclass(frozen=True, kw_only=True)
class Linear(Decay):
    """A straight line; arguments as in `Decay`."""

    def curve(self, done: float) -> float:
        return 1 - done


@dataclass(frozen=True, kw_only=True)
class Cosine(Decay):
    """Half a cosine (arXiv:1608.03983, eq. 5); arguments as in `Decay`."""

    def curve(self, done: float) -> float:
        return (1 + math.cos(math.pi * done)) / 2


Schedule = Constant | Decay


def check_length(schedule: Schedule, total: float, key: str = "schedule") -> None:
    """Refuses a schedule that ends with a run that has no end.

    Args:
        schedule: or any function of progress.
        total: iterations of the run.
        key: of the setting that the schedule is.

    Raises:
        ConfigError: the length of the run is not known, and the schedule needs it.
    """
    needs_total = getattr(schedule, "needs_total", True)  # a plain function does not say
    if needs_total and (not math.isfinite(total) or total <= 0):
        raise ConfigError(
            f"{key}={type(schedule).__name__.lower()}: a schedule needs a run of known length; set"
            " trainer.max_steps or trainer.max_epochs, or the schedule's own images or iterations,"
            " or write schedule=constant"
        )


def factor_at(schedule: Schedule, iterations: int, images: float, total: float) -> float:
    """Returns the factor after so many iterations and images of a run of `total` iterations."""
    length = getattr(schedule, "images", None)
    done: float = iterations if length is None else images
    length = length or getattr(schedule, "iterations", None) or total
    return schedule(min(done / length, 1.0))
