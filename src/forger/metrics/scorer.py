"""Scores of generated images against a data set's real ones. Owns what is compared with what.

The maths of each score is in the modules beside this one; where images come from is the caller's.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from forger.errors import ConfigError
from forger.metrics.cache import RealFeatures, cached_features, data_hash
from forger.metrics.classes import class_shares
from forger.metrics.discriminator import discriminator_scores, logits_of
from forger.metrics.extractor import FeatureExtractor, Features, ImageData
from forger.metrics.fidelity import FakeScores
from forger.metrics.float32 import float32_only
from forger.metrics.ordered import Processes, concatenated, in_order
from forger.metrics.reference import Reference
from forger.metrics.settings import ScoreSettings
from forger.sampling.sampler import Sampler, chunk_sizes
from forger.seeds import STREAMS, Purpose, stream

Split = Literal["train", "test"]
DEFAULT_FAKES = 10_000


@dataclass(frozen=True)
class Scored:
    """What came out.

    Attributes:
        scores: by name, for example `fid`.
        class_shares: share of each class, as the extractor sees it; None where it knows none.
        memory: what was kept in memory of the images.
        prefix: of the names of scores of features: `classifier_` of `classifier_fid`.
    """

    scores: dict[str, float]
    class_shares: list[float] | None
    memory: str = ""
    prefix: str = ""

    @property
    def fid(self) -> float:
        """The FID, whatever its name."""
        return self.scores[f"{self.prefix}fid"]


def check_counts(
    data: ImageData,
    settings: ScoreSettings,
    *,
    reference: Split,
    num_real: int | None,
    num_fake: int | None,
    floor: bool = False,
) -> None:
    """Finds out whether the data has the images that scores need, before any work.

    Args:
        data: the real images; both splits are read.
        settings: of the scores.
        reference: split that is compared with.
        num_real: images of it; None: all.
        num_fake: images to generate; None: not known yet.
        floor: whether real images of the other split are scored too, as many as are generated.

    Raises:
        ConfigError: there are too few.
        DataError: a split is missing or cannot be read.
    """
    counts: dict[Split, int] = {"train": len(data.train_images), "test": len(data.test_images)}
    available, others = counts[reference], counts[other_split(reference)]
    if num_real is not None and num_real > available:
        raise ConfigError(
            f"metrics.num_real={num_real}: the {reference} split has {available} images;"
            f" allowed: up to {available}, or null for all"
        )
    if floor and num_fake is not None and num_fake > others and reference == "test":
        raise ConfigError(
            f"metrics.num_fake={num_fake}: the floor, real images scored like generated ones,"
            f" needs as many, and the train split has {others}; allowed: up to {others}, or null"
        )
    scored = min(num_fake, others) if floor and num_fake is not None else num_fake
    settings.check(num_real or available, scored)


def usual_count(data: ImageData, reference: Split) -> int:
    """Returns how many images to generate where no number is given.

    10,000, or all that the floor has if fewer, since FID depends on the number.
    """
    split = other_split(reference)
    return min(DEFAULT_FAKES, len(data.train_images if split == "train" else data.test_images))


def other_split(split: Split) -> Split:
    """Returns the split that the floor is taken from."""
    return "train" if split == "test" else "test"


class Scorer:
    """Scores samples, and the real images of the other split as their floor.

    Args:
        extractor: prepared for `data`.
        data: the real images.
        settings: of the scores.
        reference: split that is compared with, `test` or `train`.
        num_real: images of the reference; None: all of them.
        cache_dir: features of real images are kept here.
        device: of extractor and networks.

    Raises:
        ConfigError: the data has fewer images than the scores need, see `check_counts`.
    """

    def __init__(
        self,
        extractor: FeatureExtractor,
        data: ImageData,
        settings: ScoreSettings,
        *,
        reference: Split = "test",
        num_real: int | None = None,
        cache_dir: Path,
        device: torch.device,
    ) -> None:
        self.extractor = extractor.to(device)
        self.data, self.settings, self.device = data, settings, device
        self.reference_split: Split = reference
        self.floor_split: Split = other_split(reference)
        self.cache_dir = cache_dir
        self._real: dict[Split, RealFeatures] = {}
        check_counts(data, settings, reference=reference, num_real=num_real, num_fake=None)
        self.num_real = num_real or len(self._images(reference))
        self.reference = Reference(settings)
        for batch in self.real(reference).batches(self._chosen(reference, self.num_real)):
            self.reference.update(batch)

    def score(
        self,
        sampler: Sampler,
        discriminator: nn.Module,
        *,
        num_fake: int,
        seed: int = 0,
        boundary: float | None = 0.0,
        processes: Processes | None = None,
    ) -> Scored:
        """Scores the seed's first `num_fake` images of a generator, and the discriminator.

        Every process of a run calls this; all return the same.

        Args:
            sampler: the generator.
            discriminator: images `(B, C, H, W)` in [-1, 1] to logits.
            num_fake: how many images to generate.
            seed: of their noise.
            boundary: the logit at which the discriminator decides; None: its loss has none.
            processes: that share the work; None: this one alone.
        """
        processes = processes or Processes()
        sampler = sampler.to(self.device)
        judge = discriminator.to(self.device)
        scores = self._fake_scores(num_fake)
        verdicts: list[Tensor] = []

        def produce(number: int, size: int) -> Tensor:
            images = sampler.chunk(number, size, seed)
            seen = self.extractor(images)
            return torch.cat([*seen, logits_of(judge, [images]).unsqueeze(1)], dim=1)

        with float32_only(self.device):
            for result in in_order(produce, chunk_sizes(num_fake), processes):
                width = self.extractor.num_features
                scores.update(Features(result[:, :width].cpu(), result[:, width:-1].cpu()))
                verdicts.append(result[:, -1].cpu())
            train, test = (self._verdicts(judge, split, num_fake, processes) for split in _SPLITS)
            judged = discriminator_scores(train, test, torch.cat(verdicts), boundary)
            return self._scored(scores, judged)

    def floor(self, num_fake: int) -> Scored:
        """Scores `num_fake` real images of the other split, or all if it has fewer."""
        count = self.floor_count(num_fake)
        scores = self._fake_scores(count)
        for batch in self.real(self.floor_split).batches(self._chosen(self.floor_split, count)):
            scores.update(batch)
        return self._scored(scores, {})

    def floor_count(self, num_fake: int) -> int:
        """Returns how many real images the floor takes."""
        return min(num_fake, len(self._images(self.floor_split)))

    def real(self, split: Split) -> RealFeatures:
        """Returns the features of a whole split; computed on first use."""
        if split not in self._real:
            self._real[split] = cached_features(
                self.extractor, self.data, split, self.cache_dir, self.device
            )
        return self._real[split]

    @property
    def reference_shares(self) -> list[float] | None:
        """Share of each class in the reference, as the extractor sees it; None: it knows none."""
        counts = self.reference.class_counts
        if counts is None or self.extractor.classes is None:
            return None
        return class_shares(counts).tolist()

    @property
    def protocol(self) -> dict[str, Any]:
        """What the scores depend on beside the generator, as plain containers."""
        return {
            "extractor": self.extractor.description,
            "data": {
                "name": type(self.data).__name__,
                "hash": data_hash(self.data),
                "image_shape": list(self._images("train").shape[1:]),
            },
            "reference": {"split": self.reference_split, "count": self.num_real},
            "pixels": "uint8, round(127.5 (x + 1))",
            "precision": "float32",
            "random_streams": STREAMS,
        }

    def _fake_scores(self, count: int) -> FakeScores:
        return FakeScores(
            self.reference,
            count,
            prefix=self.extractor.prefix,
            score_name=self.extractor.score_name,
            has_classes=self.extractor.classes is not None,
        )

    def _scored(self, scores: FakeScores, judged: dict[str, float]) -> Scored:
        found = scores.compute() | judged
        return Scored(found, scores.class_shares, scores.memory_note, scores.prefix)

    def _verdicts(
        self, judge: nn.Module, split: Split, at_most: int, processes: Processes
    ) -> Tensor:
        """Returns the discriminator's logits of some real images."""
        images = self._images(split)
        chosen = self._chosen(split, min(at_most, len(images)))
        sizes = chunk_sizes(len(chosen))

        def produce(number: int, size: int) -> Tensor:
            begin = number * sizes[0]
            batch = images[chosen[begin : begin + size]].to(self.device)
            return logits_of(judge, [batch])

        return concatenated(produce, sizes, processes)

    def _images(self, split: Split) -> Tensor:
        return self.data.train_images if split == "train" else self.data.test_images

    def _chosen(self, split: Split, count: int) -> Tensor:
        """Returns indices of `count` images of a split in random order, the same each time.

        Folders are sorted by class: what only sees the first images must see all classes.
        """
        generator = stream(Purpose.SCORED_REAL, self.settings.seed, _SPLITS.index(split))
        return torch.randperm(len(self._images(split)), generator=generator)[:count]


_SPLITS: tuple[Split, Split] = ("train", "test")
