"""The settings of the scores. Owns their ranges and defaults, not the scores.

Every one of them changes numbers, so they belong to a score's protocol.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from forger.bounds import NonNegativeInt, PositiveInt, Range, check_bounds
from forger.errors import ConfigError

_AtLeastTwo = Annotated[int, Range("a whole number of at least 2", 2)]


@dataclass(frozen=True, kw_only=True)
class ScoreSettings:
    """How scores are computed from features; the defaults are the papers'.

    Args:
        kid_subsets: KID is the mean over so many pairs of random subsets.
        kid_subset_size: images in each, at least 2; all of them where fewer are kept.
        splits: parts of the images that the Inception score is computed on, each apart.
        k: the nearest neighbour that the balls of precision, recall, density and coverage reach.
        neighbour_images: images of each side, the first ones, whose features are kept in memory;
            KID and the scores by nearest neighbours see these only.
        seed: of KID's subsets.

    Raises:
        ConfigError: an argument is out of its range, or `k` is not below `neighbour_images`.
    """

    kid_subsets: PositiveInt = 100
    kid_subset_size: PositiveInt = 1000
    splits: PositiveInt = 10
    k: PositiveInt = 5
    neighbour_images: PositiveInt = 10_000
    seed: NonNegativeInt = 0

    def __post_init__(self) -> None:
        check_bounds(self.kid_subsets, PositiveInt, "metrics.kid_subsets")
        check_bounds(self.kid_subset_size, _AtLeastTwo, "metrics.kid_subset_size")
        check_bounds(self.splits, PositiveInt, "metrics.splits")
        check_bounds(self.k, PositiveInt, "metrics.k")
        check_bounds(self.neighbour_images, PositiveInt, "metrics.neighbour_images")
        check_bounds(self.seed, NonNegativeInt, "metrics.seed")
        if self.k >= self.neighbour_images:
            raise ConfigError(
                f"metrics.k={self.k}: must be below metrics.neighbour_images,"
                f" {self.neighbour_images}"
            )
