"""Scores of images against a reference, from their features. Owns which scores there are.

Extracting the features is the caller's, and each score's maths is torchmetrics' or lies beside.
"""

from __future__ import annotations

from copy import deepcopy

import torch
from torch import Tensor
from torchmetrics.image.kid import poly_mmd

from forger.metrics.classes import class_counts, class_entropy, class_shares, classes_reached
from forger.metrics.extractor import Features
from forger.metrics.inception_score import InceptionScore
from forger.metrics.neighbours import neighbour_scores
from forger.metrics.reference import FirstFeatures, Reference
from forger.seeds import Purpose, stream


class FakeScores:
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
        num_fake: how many images will come, in random order.
        prefix: of the names of scores of features, see `forger.metrics.names`.
        score_name: what the Inception score is called with this extractor; None: there is none.
        has_classes: whether logits stand for the classes of the data set.

    Raises:
        ConfigError: there are fewer images, on either side, than the settings need.
    """

    def __init__(
        self,
        reference: Reference,
        num_fake: int,
        *,
        prefix: str,
        score_name: str | None,
        has_classes: bool,
    ) -> None:
        settings = reference.settings
        settings.check(len(reference.kept), num_fake)
        self.reference, self.num_fake = reference, num_fake
        self.prefix, self.score_name = prefix, score_name
        self.kept = FirstFeatures(settings.neighbour_images)
        self._inception = InceptionScore(num_fake, settings.splits)
        self._frechet = deepcopy(reference.frechet)  # with the sums of the real images in it
        counts = reference.class_counts
        self._counts = None if counts is None or not has_classes else torch.zeros_like(counts)
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
        """Returns all scores by name.

        Raises:
            ValueError: another number of images came than was announced.
        """
        if self._seen != self.num_fake or self._frechet is None:
            raise ValueError(f"num_fake={self.num_fake}: {self._seen} images came")
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

    @property
    def memory_note(self) -> str:
        """What is kept in memory of the images so far, beyond sums."""
        kept = [self.reference.kept, self.kept]
        return (
            f"features of {len(kept[0]):,} real and {len(kept[1]):,} generated images,"
            f" {sum(side.mebibytes for side in kept):.1f} MiB, for KID, precision, recall, density"
            " and coverage"
        )


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
    # torchmetrics' class draws the same way, but from the global random state.
    generator = stream(Purpose.KID_SUBSETS, seed)

    def subset(features: Tensor) -> Tensor:
        rows = torch.randperm(len(features), generator=generator)[:size]
        return features[rows.to(features.device)].double()

    values = torch.stack([poly_mmd(subset(real), subset(fake)) for _ in range(subsets)])
    return values.mean().item(), values.std(correction=0).item()
