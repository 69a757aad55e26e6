"""Scores of generated images against a data set's real ones: what is compared with what."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.nn import functional as F

from forger.metrics.cache import RealFeatures, cached_features, data_hash
from forger.metrics.class_scores import class_shares
from forger.metrics.discriminator import discriminator_scores, logits_of
from forger.metrics.extractor import FeatureExtractor, Features, ImageData, float32_only
from forger.metrics.fidelity import FidelityScores, Reference
from forger.metrics.settings import (
    SPLITS,
    ScoreSettings,
    Split,
    check_counts,
    images_of,
    other_split,
)
from forger.sampling.sampler import Sampler, chunk_sizes
from forger.seeds import STREAMS, Purpose, stream


@dataclass(frozen=True)
class Evaluation:
    """What came out."""

    scores: dict[str, float]  # by name, for example `fid`
    class_shares: list[float] | None  # as the extractor sees them; None where it knows no classes
    prefix: str = ""  # of the names of scores of features: `classifier_` of `classifier_fid`

    @property
    def fid(self) -> float:
        """The FID, whatever its name."""
        return self.scores[f"{self.prefix}fid"]


class Evaluator:
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
        self.num_real = num_real or len(images_of(data, reference))
        self.reference = Reference(settings)
        for batch in self.real(reference).batches(self._chosen(reference, self.num_real)):
            self.reference.update(batch)

    def evaluate(
        self,
        sampler: Sampler,
        discriminator: nn.Module,
        *,
        num_fake: int,
        seed: int = 0,
        boundary: float | None = 0.0,
    ) -> Evaluation:
        """Scores the seed's first `num_fake` images of a generator, and the discriminator.

        Every process of a run calls this and does its share; all return the same.

        Args:
            sampler: the generator.
            discriminator: images `(B, C, H, W)` in [-1, 1] to logits.
            num_fake: how many images to generate.
            seed: of their noise.
            boundary: the logit at which the discriminator decides; None: its loss has none.
        """
        sampler, judge = sampler.to(self.device), discriminator.to(self.device)
        scores = FidelityScores(self.reference, num_fake, self.extractor)
        fake_logits: list[Tensor] = []

        def produce(number: int, size: int) -> Tensor:
            images = sampler.chunk(number, size, seed)
            seen = self.extractor(images)
            return torch.cat([*seen, logits_of(judge, [images]).unsqueeze(1)], dim=1)

        with float32_only(self.device):
            for result in in_order(produce, chunk_sizes(num_fake)):
                width = self.extractor.num_features
                scores.update(Features(result[:, :width].cpu(), result[:, width:-1].cpu()))
                fake_logits.append(result[:, -1].cpu())
            train, test = (self._real_logits(judge, split, num_fake) for split in SPLITS)
            judged = discriminator_scores(train, test, torch.cat(fake_logits), boundary)
            return Evaluation(scores.compute() | judged, scores.class_shares, scores.prefix)

    def evaluate_floor(self, num_fake: int) -> Evaluation:
        """Scores `num_fake` real images of the other split, or all if it has fewer."""
        count = self.floor_count(num_fake)
        scores = FidelityScores(self.reference, count, self.extractor)
        for batch in self.real(self.floor_split).batches(self._chosen(self.floor_split, count)):
            scores.update(batch)
        return Evaluation(scores.compute(), scores.class_shares, scores.prefix)

    def floor_count(self, num_fake: int) -> int:
        """Returns how many real images the floor takes."""
        return min(num_fake, len(images_of(self.data, self.floor_split)))

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
                "image_shape": list(self.data.train_images.shape[1:]),
            },
            "reference": {"split": self.reference_split, "count": self.num_real},
            "pixels": "uint8, round(127.5 (x + 1))",
            "precision": "float32",
            "random_streams": STREAMS,
        }

    def _real_logits(self, discriminator: nn.Module, split: Split, at_most: int) -> Tensor:
        """Returns the discriminator's logits of some real images, on the CPU."""
        images = images_of(self.data, split)
        chosen = self._chosen(split, min(at_most, len(images)))
        sizes = chunk_sizes(len(chosen))

        def produce(number: int, size: int) -> Tensor:
            begin = number * sizes[0]
            batch = images[chosen[begin : begin + size]].to(self.device)
            return logits_of(discriminator, [batch])

        return torch.cat([logits.cpu() for logits in in_order(produce, sizes)])

    def _chosen(self, split: Split, count: int) -> Tensor:
        """Returns indices of `count` images of a split in random order, the same each time.

        Folders are sorted by class: what only sees the first images must see all classes.
        """
        generator = stream(Purpose.SCORED_REAL, self.settings.seed, SPLITS.index(split))
        return torch.randperm(len(images_of(self.data, split)), generator=generator)[:count]


def in_order(produce: Callable[[int, int], Tensor], sizes: Sequence[int]) -> Iterator[Tensor]:
    """Yields the result of each chunk, in order, on every process of a run; they share the work.

    Each chunk is computed whole by one process, so that its bits do not depend on how many
    processes there are.

    Args:
        produce: number and size of a chunk to its result, `(size, ...)`.
        sizes: of the chunks; none is larger than the first.
    """
    several = distributed.is_available() and distributed.is_initialized()
    world = distributed.get_world_size() if several else 1
    if world == 1:
        yield from (produce(number, size) for number, size in enumerate(sizes))
        return
    for first in range(0, len(sizes), world):
        # a spare process repeats the last chunk
        mine = min(first + distributed.get_rank(), len(sizes) - 1)
        result = produce(mine, sizes[mine])
        padding = [0, 0] * (result.ndim - 1) + [0, sizes[0] - sizes[mine]]
        padded = F.pad(result, padding).contiguous()
        gathered = [torch.empty_like(padded) for _ in range(world)]
        distributed.all_gather(gathered, padded)
        for size, theirs in zip(sizes[first:], gathered, strict=False):
            yield theirs[:size]
