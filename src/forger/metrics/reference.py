"""The real images that generated ones are compared with. Owns what is kept of their features."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torchmetrics.image.fid import FrechetInceptionDistance

from forger.metrics.classes import class_counts
from forger.metrics.extractor import Features
from forger.metrics.neighbours import Balls
from forger.metrics.settings import ScoreSettings


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

    @property
    def mebibytes(self) -> float:
        """Size of what is kept."""
        return sum(part.numel() * part.element_size() for part in self._parts) / 2**20


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
            self.frechet = frechet_distance(features)
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
            self._balls = Balls(
                self.kept.tensor, self.settings.precision_k, self.settings.coverage_k
            )
        return self._balls


class _Given(nn.Module):
    """Passes features on where torchmetrics expects a network that extracts them."""

    def __init__(self, num_features: int) -> None:
        super().__init__()
        self.num_features = num_features

    def forward(self, features: Tensor) -> Tensor:
        return features


def frechet_distance(features: Tensor) -> FrechetInceptionDistance:
    """Returns torchmetrics' FID, empty, that takes features like these, `(B, D)`, in float64."""
    # All processes see all features: torchmetrics must not add their sums up once more.
    empty = FrechetInceptionDistance(_Given(features.shape[1]), sync_on_compute=False)
    return empty.to(features.device)
