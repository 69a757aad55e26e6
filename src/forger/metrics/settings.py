"""The settings of the scores, and how many images they need; imports nothing heavy."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Literal

from forger.bounds import AtLeastTwo, PositiveInt, Seed, check_fields
from forger.errors import ConfigError

if TYPE_CHECKING:  # imports torch
    from torch import Tensor

    from forger.metrics.extractor import ImageData

Split = Literal["train", "test"]
SPLITS: tuple[Split, Split] = ("train", "test")
DEFAULT_FAKES = 10_000


@dataclass(frozen=True, kw_only=True)
class ScoreSettings:
    """How scores are computed from features; the defaults are the papers'.

    Each changes numbers, so all of them belong to a score's protocol.

    Raises:
        ConfigError: an argument is out of its range, or a `k` is not below `neighbour_images`.
    """

    kid_subsets: PositiveInt = 100  # KID is the mean over so many pairs of random subsets
    kid_subset_size: AtLeastTwo = 1000  # images in each; all of them where fewer are kept
    splits: PositiveInt = 10  # parts of the images that the Inception score is computed on
    precision_k: PositiveInt = 3  # the neighbour that the balls of precision and recall reach
    coverage_k: PositiveInt = 5  # that of density and coverage: arXiv:1904.06991, arXiv:2002.09797
    neighbour_images: PositiveInt = 10_000  # of each side; KID and neighbours see these alone
    seed: Seed = 0  # of KID's subsets

    def __post_init__(self) -> None:
        check_fields(self, "metrics")
        self.check()

    def check(self, num_real: int | None = None, num_fake: int | None = None) -> None:
        """Raises `ConfigError` where there are too few images; None: enough."""
        for name, reason in too_few(asdict(self), num_real, num_fake):
            raise ConfigError(f"metrics.{name}={getattr(self, name)}: {reason}")


def too_few(
    settings: Mapping[str, int | None], num_real: int | None, num_fake: int | None
) -> Iterator[tuple[str, str]]:
    """Yields the settings that need more images than there are, each with what is wrong.

    None stands for what is not known yet.
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


def check_counts(
    data: ImageData,
    settings: ScoreSettings,
    *,
    reference: Split,
    num_real: int | None,
    num_fake: int | None,
    floor: bool = False,
) -> None:
    """Raises `ConfigError` where the data has fewer images than scores need, before any work.

    Args:
        data: the real images; both splits are read, since the discriminator is judged by both.
        settings: of the scores.
        reference: split that is compared with.
        num_real: images of it; None: all.
        num_fake: images to generate; None: not known yet.
        floor: whether real images of the other split are scored too, as many as are generated.
    """
    available, others = (len(images_of(data, s)) for s in (reference, other_split(reference)))
    if num_real is not None and num_real > available:
        raise ConfigError(
            f"metrics.num_real={num_real}: the {reference} split has {available} images;"
            f" allowed: up to {available}, or null for all"
        )
    if floor and num_fake is not None and num_fake > others:
        if reference == "test":
            raise ConfigError(
                f"metrics.num_fake={num_fake}: the floor needs as many real images, and the train"
                f" split has {others}; allowed: up to {others}, or null"
            )
        num_fake = others
    settings.check(num_real or available, num_fake)


def usual_count(data: ImageData, reference: Split) -> int:
    """Returns 10,000 images to generate, or the data's own number, or as many as the floor has."""
    # No more than the floor: FID depends on the number.
    return min(data.num_fake or DEFAULT_FAKES, len(images_of(data, other_split(reference))))


def images_of(data: ImageData, split: Split) -> Tensor:
    """Returns uint8 `(N, C, H, W)`."""
    return data.train_images if split == "train" else data.test_images


def labels_of(data: ImageData, split: Split) -> Tensor | None:
    """Returns int64 `(N,)`; None: the data has no labels."""
    return data.train_labels if split == "train" else data.test_labels


def other_split(split: Split) -> Split:
    """Returns the split that the floor is taken from."""
    return "train" if split == "test" else "test"
