"""The ranges of settings, as types that signatures carry, and their check.

A constructor writes `n_critic: PositiveInt` and calls `check_bounds(n_critic, PositiveInt,
"n_critic")`; the command line reads the same annotation from the source, without importing torch,
and refuses a value before any work starts. Standard library only.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Annotated, Any, get_args

from forger.errors import ConfigError


@dataclass(frozen=True)
class Range:
    """An interval of numbers, and how it is described to a user."""

    description: str
    low: float = -math.inf
    high: float = math.inf
    low_open: bool = False
    high_open: bool = False

    def holds(self, value: float) -> bool:
        """Tells whether `value` lies inside; NaN never does."""
        above = value > self.low if self.low_open else value >= self.low
        below = value < self.high if self.high_open else value <= self.high
        return above and below


PositiveInt = Annotated[int, Range("a whole number of at least 1", 1)]
NonNegativeInt = Annotated[int, Range("a whole number of at least 0", 0)]
AtLeastTwo = Annotated[int, Range("a whole number of at least 2", 2)]
Port = Annotated[int, Range("a whole number from 0 to 65535", 0, 2**16 - 1)]
Seed = Annotated[int, Range("a whole number from 0 to 4294967295", 0, 2**32 - 1)]
PositiveFloat = Annotated[float, Range("a number above 0", 0, low_open=True)]
NonNegativeFloat = Annotated[float, Range("a number of at least 0", 0)]
Fraction = Annotated[float, Range("a number from 0 to 1", 0, 1)]
PositiveFraction = Annotated[float, Range("a number above 0 and at most 1", 0, 1, low_open=True)]
FractionBelowOne = Annotated[
    float, Range("a number of at least 0 and below 1", 0, 1, high_open=True)
]
Pixel = Annotated[float, Range("a number from -1 to 1", -1, 1)]


def out_of_bounds(value: Any, annotation: Any) -> str | None:
    """Returns what is allowed when `value` breaks one of this module's types, else `None`."""
    base, bound = get_args(annotation)
    number = isinstance(value, int if base is int else (int, float)) and type(value) is not bool
    allowed: str = bound.description
    return None if number and math.isfinite(value) and bound.holds(value) else allowed


def check_bounds(value: Any, annotation: Any, name: str) -> None:
    """Raises `ConfigError` when `value` breaks `annotation`; `name` is the argument's name."""
    allowed = out_of_bounds(value, annotation)
    if allowed is not None:
        raise ConfigError(f"{name}={value!r}: must be {allowed}")


def check_choice(name: str, value: Any, choices: Any) -> None:
    """Raises `ConfigError` unless `value` is one of the literal type's choices."""
    allowed = get_args(choices)
    if value not in allowed:
        raise ConfigError(f"{name}={value}: must be one of {', '.join(allowed)}")


def check_fields(instance: Any, group: str) -> None:
    """Checks the fields of a dataclass that carry a type of this module, as `<group>.<field>`.

    Raises:
        ConfigError: one is out of its range.
    """
    for field in fields(instance):
        name, _, none = str(field.type).partition(" | ")  # annotations are not evaluated
        value, annotation = getattr(instance, field.name), globals().get(name)
        if get_args(annotation) and not (none and value is None):
            check_bounds(value, annotation, f"{group}.{field.name}")
