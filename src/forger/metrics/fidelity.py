"""Scores of images against the real ones of a reference, from their features on the CPU.

torchmetrics' own KID and Inception score keep everything they see and draw from the global random
state, and its FID adds up over processes, which all see all images; here nothing but sums and the
first features is kept.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from functools import cached_property
from itertools import pairwise

import torch
from torch import Tensor
from torchmetrics.image.kid import poly_mmd

from forger.metrics.extractor import FeatureExtractor, Features
from forger.metrics.neighbours import Balls, neighbour_scores
from forger.metrics.settings import ScoreSettings
from forger.seeds import Purpose, stream


# torchmetrics' FID holds both sets in one metric: one reference could not serve sets and classes.
class Moments:
    """Sums over features `(N, D)` in float64, for the Gaussian that is fitted to them."""

    def __init__(self, num_features: int) -> None:
        self.count = 0
        self.total = torch.zeros(num_features, dtype=torch.float64)
        self.products = torch.zeros(num_features, num_features, dtype=torch.float64)

    def update(self, features: Tensor) -> None:
        """Takes the next ones, `(B, D)`."""
        features = features.double()
        self.count += len(features)
        self.total += features.sum(dim=0)
        self.products += features.t().mm(features)

    def mean_and_covariance(self) -> tuple[Tensor, Tensor]:
        """Returns `(D,)`, and the unbiased covariance `(D, D)`; of two features or more."""
        mean = self.total / self.count
        return mean, (self.products - self.count * mean.outer(mean)) / (self.count - 1)


def frechet_distance(real: Moments, fake: Moments) -> float:
    """Returns `|m_r - m_f|^2 + tr(C_r + C_f - 2 (C_r C_f)^(1/2))` (arXiv:1706.08500, eq. 6)."""
    (mean, covariance), (other, others) = real.mean_and_covariance(), fake.mean_and_covariance()
    traces = covariance.trace() + others.trace()
    root = torch.linalg.eigvals(covariance @ others).sqrt().real.sum()
    distance = (mean - other).square().sum() + traces - 2 * root
    # Rounding can take the distance of equal sets below 0. In this order NaN stays NaN.
    return max(float(distance), 0.0)


class Reference:
    """What the scores need of the real images: sums, counts, and the features of the first ones.

    The batches, at least one, come in random order.
    """

    def __init__(self, settings: ScoreSettings, batches: Iterable[Features]) -> None:
        self.settings = settings
        self.num_images = 0
        self.kept = torch.empty(0)  # (neighbour_images at most, D)
        for features, logits in batches:
            if self.num_images == 0:
                self.moments = Moments(features.shape[1])
                self.class_counts = class_counts(logits[:0])
            self.moments.update(features)
            self.class_counts += class_counts(logits)
            self.kept = _first(self.kept, features, settings.neighbour_images)
            self.num_images += len(features)

    @cached_property
    def balls(self) -> Balls:
        """Balls around the kept images; computed once for all that is compared with them."""
        return Balls(self.kept, self.settings.precision_k, self.settings.coverage_k)


def fidelity_scores(
    reference: Reference, batches: Iterable[Features], num_images: int, extractor: FeatureExtractor
) -> tuple[dict[str, float], list[float] | None]:
    """Scores images, generated or held out, against the reference.

    - `fid` (arXiv:1706.08500): Fréchet distance of the Gaussians with the sets' moments. Biased
      upwards by up to the order of `D / N`: only equal counts compare, and only beside the floor.
    - `kid`, `kid_std`, `precision`, `recall`, `density`, `coverage`: see `kernel_distance` and
      `neighbour_scores`. These and `fid` have the extractor's prefix in front of their names.
    - `<score_name>`, `<score_name>_std`: the Inception score, where the extractor has one.
    - `class_entropy`, -sum_c p_c ln p_c in nats, and `classes_reached`: where the logits are those
      of the data's classes.
    - `modes_reached` and `kl_to_uniform`: where these are modes, see `mode_scores`.

    The same batches in the same order give the same bits; the global random state is not used.

    Args:
        reference: is left as it is.
        batches: of the images, in random order.
        num_images: how many will come; `ConfigError` where the settings need more.
        extractor: of the features; only its names and what it says of classes is read.

    Returns:
        Scores by name, and the share of each class; None: the logits are of other classes.
    """
    settings = reference.settings
    settings.check(len(reference.kept), num_images)
    moments = Moments(len(reference.moments.total))
    inception = InceptionScore(num_images, settings.splits)
    counts, kept = torch.zeros_like(reference.class_counts), torch.empty(0)
    for features, logits in batches:
        moments.update(features)
        inception.update(logits)
        counts += class_counts(logits)
        kept = _first(kept, features, settings.neighbour_images)
    scores = {"fid": frechet_distance(reference.moments, moments)}
    scores["kid"], scores["kid_std"] = kernel_distance(reference.kept, kept, settings)
    ks = {"precision_k": settings.precision_k, "coverage_k": settings.coverage_k}
    scores |= neighbour_scores(reference.balls, kept, **ks)
    scores = {f"{extractor.prefix}{name}": value for name, value in scores.items()}
    if (name := extractor.score_name) is not None:
        scores[name], scores[f"{name}_std"] = inception.compute()
    if extractor.classes is None:
        return scores, None
    shares = counts.double() / counts.sum()
    scores["class_entropy"] = float(torch.special.entr(shares).sum())
    scores["classes_reached"] = float(classes_reached(counts, reference.class_counts))
    if extractor.counts_modes:
        scores |= mode_scores(counts)
    return scores, shares.tolist()


def kernel_distance(real: Tensor, fake: Tensor, settings: ScoreSettings) -> tuple[float, float]:
    """Returns KID (arXiv:1801.01401) of `(N, D)` and `(M, D)`, and its standard deviation.

    It is the unbiased squared MMD with the kernel `(x.y / D + 1)^3`, a mean over random subsets,
    which depend on the seed of the settings alone. For two sets of one distribution it is 0 on
    average, and may be slightly negative.
    """
    size = min(settings.kid_subset_size, len(real), len(fake))
    generator = stream(Purpose.KID_SUBSETS, settings.seed)

    def subset(features: Tensor) -> Tensor:
        rows = torch.randperm(len(features), generator=generator)[:size]
        return features[rows].double()

    pairs = range(settings.kid_subsets)
    values = torch.stack([poly_mmd(subset(real), subset(fake)) for _ in pairs])
    return values.mean().item(), values.std(correction=0).item()


class InceptionScore:
    """`exp(E_x KL(p(y|x) || E_x p(y|x)))` of each split (arXiv:1606.03498, section 4).

    It lies between 1, where the classifier sees the same in all images, and the number of classes
    K, where it is sure of each image and sees all classes equally often. Images must come in random
    order: split i holds those from `i * num_images // splits` on, as in torch-fidelity.
    """

    def __init__(self, num_images: int, splits: int) -> None:
        self._bounds = [i * num_images // splits for i in range(splits + 1)]
        self._seen = 0
        self._negative_entropy = torch.zeros(splits, dtype=torch.float64)  # sum_x sum_y p ln p
        self._probabilities = torch.zeros(splits, 1, dtype=torch.float64)  # sum_x p, (splits, K)

    def update(self, logits: Tensor) -> None:
        """Takes the next images: logits `(B, K)`."""
        log_p = logits.double().log_softmax(dim=1)
        p = log_p.exp()
        if self._seen == 0:
            self._probabilities = self._probabilities.repeat(1, p.shape[1])
        for split, (begin, end) in enumerate(pairwise(self._bounds)):
            mine = slice(max(begin - self._seen, 0), max(end - self._seen, 0))
            self._negative_entropy[split] += (p[mine] * log_p[mine]).sum()
            self._probabilities[split] += p[mine].sum(dim=0)
        self._seen += len(logits)

    def compute(self) -> tuple[float, float]:
        """Returns mean and population standard deviation (`ddof` 0, as published) over splits."""
        sizes = torch.tensor(self._bounds).diff()
        marginal = self._probabilities / sizes[:, None]
        divergence = self._negative_entropy / sizes + torch.special.entr(marginal).sum(dim=1)
        scores = divergence.exp()
        return scores.mean().item(), scores.std(correction=0).item()


def class_counts(logits: Tensor) -> Tensor:
    """Counts the images of each class: logits `(B, K)` to int64 `(K,)`, by the largest logit."""
    return torch.bincount(logits.argmax(dim=1), minlength=logits.shape[1])


def classes_reached(counts: Tensor, reference_counts: Tensor) -> int:
    """Counts the classes, of `(K,)`, with at least a tenth of their share in the reference."""
    # Crosswise products of whole numbers: exact at the bound, where quotients are not.
    reached = 10 * counts * reference_counts.sum() >= reference_counts * counts.sum()
    return int((reached & (reference_counts > 0)).sum())


def mode_scores(counts: Tensor) -> dict[str, float]:
    """Scores how many of K modes are reached, and how evenly (arXiv:1611.02163, section 3.3.1).

    - `modes_reached`: modes that are seen in one image or more.
    - `kl_to_uniform`: `KL(p || u) = ln K - H(p)` in nats, of the shares p in which modes are seen
      from equal ones u; from 0 to ln K. N images of equal modes have about `(K - 1) / 2N`.

    Args:
        counts: of the images that are seen as each mode, `(K,)`.
    """
    entropy = float(torch.special.entr(counts.double() / counts.sum()).sum())
    reached = float((counts > 0).sum())
    return {"modes_reached": reached, "kl_to_uniform": math.log(len(counts)) - entropy}


def _first(kept: Tensor, features: Tensor, limit: int) -> Tensor:
    return torch.cat([kept, features[: limit - len(kept)]]) if len(kept) < limit else kept
