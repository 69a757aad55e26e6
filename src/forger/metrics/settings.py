"""The settings of the scores, and how many images they need. Imports nothing heavy.

Every one of them changes numbers, so they belong to a score's protocol.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
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
        precision_k: the nearest neighbour that the balls of precision and recall reach (3 in
            arXiv:1904.06991).
        coverage_k: the one that the balls of density and coverage reach (5 in arXiv:2002.09797).
        neighbour_images: images of each side, the first ones, whose features are kept in memory;
            KID and the scores by nearest neighbours see these only.
        seed: of KID's subsets.

    Raises:
        ConfigError: an argument is out of its range, or a `k` is not below `neighbour_images`.
    """

    kid_subsets: PositiveInt = 100
    kid_subset_size: PositiveInt = 1000
    splits: PositiveInt = 10
    precision_k: PositiveInt = 3
    coverage_k: PositiveInt = 5
    neighbour_images: PositiveInt = 10_000
    seed: NonNegativeInt = 0

    def __post_init__(self) -> None:
        check_bounds(self.kid_subsets, PositiveInt, "metrics.kid_subsets")
        check_bounds(self.kid_subset_size, _AtLeastTwo, "metrics.kid_subset_size")
        check_bounds(self.splits, PositiveInt, "metrics.splits")
        check_bounds(self.precision_k, PositiveInt, "metrics.precision_k")
        check_bounds(self.coverage_k, PositiveInt, "metrics.coverage_k")
        check_bounds(self.neighbour_images, PositiveInt, "metrics.neighbour_images")
        check_bounds(self.seed, NonNegativeInt, "metrics.seed")
        self.check()

    def check(self, num_real: int | None = None, num_fake: int | None = None) -> None:
        """Checks that there are enough images.

        Args:
            num_real: images that others are compared with; None: enough.
            num_fake: images to score; None: enough.

        Raises:
            ConfigError: there are too few.
        """
        for name, reason in too_few(asdict(self), num_real, num_fake):
            raise ConfigError(f"metrics.{name}={getattr(self, name)}: {reason}")


def too_few(
    settings: Mapping[str, int | None], num_real: int | None, num_fake: int | None
) -> Iterator[tuple[str, str]]:
    """Yields the settings that need more images than there are, each with what is wrong.

    Args:
        settings: by name; None: not known.
        num_real: images that others are compared with; None: not known.
        num_fake: images to score; None: not known.
    """
    real = ("real images to compare with (metrics.num_real)", num_real)
    fake = ("images to score (metrics.num_fake)", num_fake)
    kept = ("features kept (metrics.neighbour_images)", settings["neighbour_images"])
    for name, sets in (("precision_k", (fake, real, kept)), ("coverage_k", (real, kept))):
        k = settings[name]
        for what, count in sets:
            if k is not None and count is not None and k >= count:
                less = f"; write metrics.{name}={count - 1} or less" if count > 1 else ""
                yield name, f"must be below the number of {what}, {count:,}{less}"
                break
    splits = settings["splits"]
    if splits is not None and num_fake is not None and splits > num_fake:
        yield "splits", f"must be at most the number of {fake[0]}, {num_fake:,}"
