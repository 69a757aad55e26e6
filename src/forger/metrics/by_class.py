"""Scores of images that were asked to be of a class: is it seen in them, and are they like it?"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from statistics import fmean

import torch
from torch import Tensor

from forger.conditions import Condition
from forger.errors import DataError
from forger.metrics.extractor import FeatureExtractor, Features, ImageData
from forger.metrics.fidelity import Moments, frechet_distance
from forger.metrics.settings import SPLITS, labels_of

MOST_PRODUCTS = 2**26  # float64 of each side, 512 MiB: of 16 classes by 2,048 features


@dataclass(frozen=True)
class ByClass:
    """Scores of each class, in the order of the classes.

    Attributes:
        classes: names of those that were asked for.
        seen: how many images that were asked to be of a class (row) are seen as each class
            (column); None: the extractor knows no classes.
        fids: FID of the images of each class against the real ones of it; None in it: one of both
            sides has fewer than 2; None: they are too many, see `keeps_moments`.
    """

    classes: tuple[str, ...]
    seen: list[list[int]] | None
    fids: list[float | None] | None

    def scores(self, prefix: str) -> dict[str, float]:
        """Returns the scores of all classes together.

        - `label_accuracy`: share of the images that are seen as what they were asked to be.
        - `intra_fid`: mean of the FIDs of the classes (arXiv:1802.05637, section 4), with the
          prefix of the extractor; NaN where no class has images enough.
        """
        scores = {}
        if self.fids is not None:
            known = [fid for fid in self.fids if fid is not None]
            scores[f"{prefix}intra_fid"] = fmean(known) if known else math.nan
        if self.seen is not None:
            right = sum(row[label] for label, row in enumerate(self.seen))
            scores["label_accuracy"] = right / sum(map(sum, self.seen))
        return scores

    @property
    def left_out(self) -> list[str]:
        """Names of classes without a FID, since one of both sides has too few images."""
        fids = zip(self.classes, self.fids or (), strict=self.fids is not None)
        return [name for name, fid in fids if fid is None]

    @property
    def of_each(self) -> dict[str, list[float | None]]:
        """The scores of each class by name; None: it has too few images."""
        found = {} if self.fids is None else {"intra_fid": self.fids}
        if self.seen is not None:
            rows = enumerate(self.seen)
            shares = [row[label] / sum(row) if any(row) else None for label, row in rows]
            found["label_accuracy"] = shares
        return found


class ClassSums:
    """What these scores need of images: how the classes are seen, and the moments of each.

    Args:
        classes: names of those that are asked for, in the order of their labels.
        extractor: of the features; only its `classes` and `num_features` are read.
        batches: of images, with labels `(B,)`.
    """

    def __init__(
        self,
        classes: tuple[str, ...],
        extractor: FeatureExtractor,
        batches: Iterable[tuple[Features, Tensor]] = (),
    ) -> None:
        self.classes, num_classes = classes, len(classes)
        self.seen: Tensor | None = None
        if extractor.classes is not None:
            width = max(num_classes, len(extractor.classes))
            self.seen = torch.zeros(num_classes, width, dtype=torch.int64)
        kept = num_classes if keeps_moments(num_classes, extractor.num_features) else 0
        self.moments = [Moments(extractor.num_features) for _ in range(kept)]
        for found, labels in batches:
            self.update(found, labels)

    def update(self, found: Features, labels: Tensor) -> None:
        """Takes the next images, with the classes that they were asked to be, int64 `(B,)`."""
        if self.seen is not None:
            self.seen += count_seen(found.logits, labels, len(self.seen))
        for label in set(labels.tolist()) if self.moments else ():
            self.moments[label].update(found.features[labels == label])

    def compare(self, reference: ClassSums) -> ByClass:
        """Returns the scores of these images against the real ones of a reference."""
        fids: list[float | None] = []
        for real, images in zip(reference.moments, self.moments, strict=True):
            enough = min(real.count, images.count) >= 2
            fids.append(frechet_distance(real, images) if enough else None)
        seen = None if self.seen is None else self.seen.tolist()
        return ByClass(self.classes, seen, fids or None)


def count_seen(logits: Tensor, labels: Tensor, num_classes: int) -> Tensor:
    """Counts what is seen in the images of each class.

    Args:
        logits: `(B, L)`, of the classes that the extractor knows.
        labels: int64 `(B,)`.
        num_classes: K.

    Returns:
        int64 `(K, max(K, L))`, a row for each label.
    """
    width = max(num_classes, logits.shape[1])
    places = labels * width + logits.argmax(dim=1)
    return torch.bincount(places, minlength=num_classes * width).view(num_classes, width)


def keeps_moments(num_classes: int, num_features: int) -> bool:
    """Tells whether the second moments of all classes fit into 512 MiB for each side."""
    return num_classes * num_features**2 <= MOST_PRODUCTS


def check_labels(data: ImageData, condition: Condition) -> None:
    """Raises `DataError` where real images have no labels, or others than the condition knows."""
    for split in SPLITS if condition.classes else ():
        labels = labels_of(data, split)
        if labels is None:
            raise DataError(
                f"{type(data).__name__}: has no labels of {split} images, by which the scores of a"
                f" run with a condition tell classes apart; give the {split} images labels, or"
                " train with metrics=none"
            )
        condition.check({"label": labels})
