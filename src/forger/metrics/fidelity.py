"""Scores of images against the real ones of a reference, from their features.

The maths of each is torchmetrics' or in the modules beside this one. torchmetrics' own KID and
Inception score keep everything they see and draw from the global random state.
"""

from __future__ import annotations

from copy import deepcopy

import torch
from torch import Tensor, nn
from torchmetrics.image.fid import FrechetInceptionDistance
from torchmetrics.image.kid import poly_mmd

from forger.metrics.class_scores import (
    InceptionScore,
    class_counts,
    class_entropy,
    class_shares,
    classes_reached,
)
from forger.metrics.extractor import FeatureExtractor, Features
from forger.metrics.neighbours import Balls, neighbour_scores
from forger.metrics.settings import ScoreSettings
from forger.seeds import Purpose, stream


class Reference:
    """What the scores need of the real images; complete before it is compared with anything.

    It keeps the sums of FID in float64, counts per class, and the features of the first
    `settings.neighbour_images` images, which should therefore come in random order.

    Args:
        settings: of all scores against it.
    """

    def __init__(self, settings: ScoreSettings) -> None:
        self.settings = settings
        self.num_images = 0
        self.kept = FirstFeatures(settings.neighbour_images)
        self.class_counts: Tensor | None = None
        self.frechet: FrechetInceptionDistance | None = None
        self._balls: Balls | None = None

    def update(self, batch: Features) -> None:
        """Takes the next real images."""
        features, logits = batch
        if self.frechet is None:
            self.frechet = _empty_frechet_distance(features)
        self.frechet.update(features.double(), real=True)
        counts = class_counts(logits)
        self.class_counts = counts if self.class_counts is None else self.class_counts + counts
        self.kept.update(features)
        self.num_images += len(features)
        self._balls = None

    @property
    def balls(self) -> Balls:
        """Balls around the kept images; computed once for all that is compared with them."""
        if self._balls is None:
            ks = self.settings.precision_k, self.settings.coverage_k
            self._balls = Balls(self.kept.tensor, *ks)
        return self._balls


class FidelityScores:
    """Scores of images, generated or held out, against the reference.

    - `fid` (arXiv:1706.08500): Fréchet distance of the Gaussians with the sets' moments. Biased
      upwards by up to the order of `D / N`: only equal counts compare, and only beside the floor.
    - `kid`, `kid_std` (arXiv:1801.01401): unbiased squared MMD with the kernel
      `(x.y / D + 1)^3`, mean and standard deviation over subsets.
    - `<score_name>`, `<score_name>_std`: the Inception score, mean and standard deviation over
      splits, where the extractor has one. It doesn't look at the reference.
    - `precision`, `recall`, `density`, `coverage`: see `neighbour_scores`.

    All of these have the extractor's prefix in front of their names. Then
    - `class_entropy` in nats, `classes_reached`: where the logits are those of the data's classes.

    All else being equal, the same batches in the same order give the same bits. The reference stays
    as it is, and the global random state is not used.

    Args:
        reference: complete.
        num_images: how many images will come, in random order.
        extractor: of the features; only its `prefix`, `score_name` and `classes` are read.

    Raises:
        ConfigError: there are fewer images, on either side, than the settings need.
    """

    def __init__(self, reference: Reference, num_images: int, extractor: FeatureExtractor) -> None:
        settings = reference.settings
        settings.check(len(reference.kept), num_images)
        self.reference, self.num_images = reference, num_images
        self.prefix, self.score_name = extractor.prefix, extractor.score_name
        self.kept = FirstFeatures(settings.neighbour_images)
        self._inception = InceptionScore(num_images, settings.splits)
        self._frechet = deepcopy(reference.frechet)  # with the sums of the real images in it
        counts = reference.class_counts
        self._counts = (
            None if counts is None or extractor.classes is None else torch.zeros_like(counts)
        )
        self._seen = 0

    def update(self, batch: Features) -> None:
        """Takes the next images."""
        assert self._frechet is not None  # k >= 1: the reference has images
        features, logits = batch
        self._frechet.update(features.double(), real=False)
        self._inception.update(logits)
        if self._counts is not None:
            self._counts += class_counts(logits)
        self.kept.update(features)
        self._seen += len(features)

    def compute(self) -> dict[str, float]:
        """Returns all scores by name, once all images have come."""
        assert self._seen == self.num_images
        assert self._frechet is not None
        settings = self.reference.settings
        # Rounding can take the distance of equal sets below 0. In this order NaN stays NaN.
        scores = {"fid": max(self._frechet.compute().item(), 0.0)}
        scores["kid"], scores["kid_std"] = kernel_distance(
            self.reference.kept.tensor,
            self.kept.tensor,
            subsets=settings.kid_subsets,
            subset_size=settings.kid_subset_size,
            seed=settings.seed,
        )
        scores |= neighbour_scores(
            self.reference.balls,
            self.kept.tensor,
            precision_k=settings.precision_k,
            coverage_k=settings.coverage_k,
        )
        scores = {f"{self.prefix}{name}": value for name, value in scores.items()}
        if (name := self.score_name) is not None:
            scores[name], scores[f"{name}_std"] = self._inception.compute()
        if self._counts is not None and self.reference.class_counts is not None:
            scores["class_entropy"] = class_entropy(self._counts)
            reached = classes_reached(self._counts, self.reference.class_counts)
            scores["classes_reached"] = float(reached)
        return scores

    @property
    def class_shares(self) -> list[float] | None:
        """Share of each class among the images so far; None where logits are of other classes."""
        return None if self._counts is None else class_shares(self._counts).tolist()


class FirstFeatures:
    """The features of the first images of a stream.

    Args:
        limit: how many are kept at most.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._parts: list[Tensor] = []
        self._count = 0

    def update(self, features: Tensor) -> None:
        """Takes the next ones, `(B, D)`."""
        part = features[: self.limit - self._count]
        if len(part):
            self._parts.append(part.detach().clone())  # a view would hold the whole batch
            self._count += len(part)

    def __len__(self) -> int:
        return self._count

    @property
    def tensor(self) -> Tensor:
        """What is kept, `(min(N, limit), D)`."""
        if len(self._parts) > 1:
            self._parts = [torch.cat(self._parts)]
        return self._parts[0]


def kernel_distance(
    real: Tensor, fake: Tensor, *, subsets: int, subset_size: int, seed: int
) -> tuple[float, float]:
    """Returns KID, the mean and the population standard deviation over random subsets.

    Unbiased, it is 0 on average for two sets of one distribution, and may be slightly negative.

    Args:
        real: `(N, D)`.
        fake: `(M, D)`.
        subsets: pairs of subsets.
        subset_size: images in each; all of the smaller side where it has fewer.
        seed: of the subsets, which depend on nothing else.
    """
    size = min(subset_size, len(real), len(fake))
    generator = stream(Purpose.KID_SUBSETS, seed)

    def subset(features: Tensor) -> Tensor:
        rows = torch.randperm(len(features), generator=generator)[:size]
        return features[rows.to(features.device)].double()

    values = torch.stack([poly_mmd(subset(real), subset(fake)) for _ in range(subsets)])
    return values.mean().item(), values.std(correction=0).item()


class _Identity(nn.Module):
    """Stands where torchmetrics expects a network that extracts features: it is given them."""

    def __init__(self, num_features: int) -> None:
        super().__init__()
        self.num_features = num_features

    def forward(self, features: Tensor) -> Tensor:
        return features


def _empty_frechet_distance(features: Tensor) -> FrechetInceptionDistance:
    """Returns torchmetrics' FID that takes features like these, `(B, D)`, in float64."""
    # All processes see all features: torchmetrics must not add their sums up once more.
    empty = FrechetInceptionDistance(_Identity(features.shape[1]), sync_on_compute=False)
    return empty.to(features.device)
