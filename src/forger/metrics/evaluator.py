"""Scores a generator and its discriminator on a data set: what is compared with what."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.nn import functional as F

from forger.copying import copied
from forger.metrics.cache import cached_features, data_hash
from forger.metrics.extractor import FeatureExtractor, Features, ImageData, float32_only
from forger.metrics.fidelity import Reference, fidelity_scores
from forger.metrics.settings import (
    SPLITS,
    ScoreSettings,
    Split,
    check_counts,
    images_of,
    other_split,
)
from forger.random_state import random_state_kept
from forger.sampling.sampler import CHUNK, Sampler, chunk_sizes
from forger.scoreboard import discriminator_scores
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
        extractor: prepared for `data`, the real images.
        settings: of the scores; `ConfigError` where there are fewer images than they need.
        reference: split that is compared with, `test` or `train`.
        num_real: images of the reference; None: all of them.
        cache_dir: features of real images are kept here.
        device: of extractor and networks.
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
        check_counts(data, settings, reference=reference, num_real=num_real, num_fake=None)
        self.extractor = extractor.to(device)
        self.data, self.settings, self.device = data, settings, device
        self.reference_split, self.floor_split = reference, other_split(reference)
        self.cache_dir = cache_dir
        self._real: dict[Split, Features] = {}
        self.num_real = num_real or len(images_of(data, reference))
        self.reference = Reference(settings, self._batches(reference, self.num_real))

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
        fake_logits: list[Tensor] = []

        def look(number: int, size: int) -> Tensor:
            images = sampler.chunk(number, size, seed)
            logits = logits_of(judge, images).unsqueeze(1)
            return torch.cat([*self.extractor(images), logits], dim=1)

        def batches() -> Iterator[Features]:
            width = self.extractor.num_features
            for found in in_order(look, chunk_sizes(num_fake)):
                fake_logits.append(found[:, -1].cpu())
                yield Features(found[:, :width].cpu(), found[:, width:-1].cpu())

        with float32_only(self.device):
            scores, shares = fidelity_scores(self.reference, batches(), num_fake, self.extractor)
            train, test = (self._real_logits(judge, split, num_fake) for split in SPLITS)
            scores |= discriminator_scores(train, test, torch.cat(fake_logits), boundary)
        return Evaluation(scores, shares, self.extractor.prefix)

    def evaluate_floor(self, num_fake: int) -> Evaluation:
        """Scores `num_fake` real images of the other split, or all if it has fewer."""
        count = self.floor_count(num_fake)
        batches = self._batches(self.floor_split, count)
        found = fidelity_scores(self.reference, batches, count, self.extractor)
        return Evaluation(*found, self.extractor.prefix)

    def floor_count(self, num_fake: int) -> int:
        """Returns how many real images the floor takes."""
        return min(num_fake, len(images_of(self.data, self.floor_split)))

    def real(self, split: Split) -> Features:
        """Returns the features of a whole split, memory-mapped; computed on first use."""
        if split not in self._real:
            given = self.extractor, self.data, split, self.cache_dir, self.device
            self._real[split] = cached_features(*given)
        return self._real[split]

    @property
    def reference_shares(self) -> list[float] | None:
        """Share of each class in the reference, as the extractor sees it; None: it knows none."""
        counts = self.reference.class_counts
        return None if self.extractor.classes is None else (counts.double() / counts.sum()).tolist()

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

    def _batches(self, split: Split, count: int) -> Iterator[Features]:
        """Yields the features of some real images."""
        for rows in self._chosen(split, count):
            yield Features(*(part.index_select(0, rows) for part in self.real(split)))

    def _real_logits(self, discriminator: nn.Module, split: Split, at_most: int) -> Tensor:
        """Returns the discriminator's logits of some real images, on the CPU."""
        images = images_of(self.data, split)
        chosen = self._chosen(split, min(at_most, len(images)))

        def look(number: int, _: int) -> Tensor:
            return logits_of(discriminator, images[chosen[number]].to(self.device))

        return torch.cat([found.cpu() for found in in_order(look, [len(c) for c in chosen])])

    def _chosen(self, split: Split, count: int) -> tuple[Tensor, ...]:
        """Returns indices of `count` images of a split in random order, in chunks.

        Folders are sorted by class: what only sees the first images must see all classes.
        """
        generator = stream(Purpose.SCORED_REAL, self.settings.seed, SPLITS.index(split))
        order = torch.randperm(len(images_of(self.data, split)), generator=generator)
        return torch.split(order[:count], CHUNK)


@torch.no_grad()
def logits_of(discriminator: nn.Module, images: Tensor) -> Tensor:
    """Returns a discriminator's logits `(N,)` of pixels, uint8 `(N, C, H, W)`.

    A copy of it runs, in eval mode and float32: weights, buffers, modes and the random state stay
    as they are, in bits.
    """
    judge = copied(discriminator).float().eval()
    with random_state_kept(images.device), torch.autocast(images.device.type, enabled=False):
        logits: Tensor = judge(images.float() / 127.5 - 1)
    return logits.reshape(len(images)).float()


def in_order(produce: Callable[[int, int], Tensor], sizes: Sequence[int]) -> Iterator[Tensor]:
    """Yields the result of each chunk, in order, on every process of a run; they share the work.

    Args:
        produce: number and size of a chunk to its result, `(size, ...)`, which one process computes
            whole, so that its bits do not depend on how many processes there are.
        sizes: of the chunks; none is larger than the first.
    """
    several = distributed.is_available() and distributed.is_initialized()
    world = distributed.get_world_size() if several else 1
    if world == 1:
        yield from (produce(number, size) for number, size in enumerate(sizes))
        return
    for begin in range(0, len(sizes), world):
        # a spare process repeats the last chunk
        mine = min(begin + distributed.get_rank(), len(sizes) - 1)
        result = produce(mine, sizes[mine])
        padding = [0, 0] * (result.ndim - 1) + [0, sizes[0] - sizes[mine]]
        padded = F.pad(result, padding).contiguous()
        gathered = [torch.empty_like(padded) for _ in range(world)]
        distributed.all_gather(gathered, padded)
        for size, theirs in zip(sizes[begin:], gathered, strict=False):
            yield theirs[:size]
