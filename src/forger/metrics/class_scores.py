"""Scores from class probabilities: the Inception score, and mode collapse as counts per class."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor


class InceptionScore:
    """`exp(E_x KL(p(y|x) || E_x p(y|x)))` of each split (arXiv:1606.03498, section 4).

    It lies between 1, where the classifier sees the same in all images, and the number of classes
    K, where it is sure of each image and sees all classes equally often. Images must come in random
    order: split i holds those from `i * num_images // splits` on, as in torch-fidelity. Only sums
    are kept, while torchmetrics' class keeps all logits and shuffles them by the global random
    state.

    Args:
        num_images: how many will come.
        splits: parts that are scored apart, at most one for each image.
    """

    def __init__(self, num_images: int, splits: int) -> None:
        self._bounds = [i * num_images // splits for i in range(splits + 1)]
        self._seen = 0
        self._negative_entropy = torch.zeros(splits, dtype=torch.float64)  # sum_x sum_y p ln p
        self._probabilities = torch.zeros(splits, 0, dtype=torch.float64)  # sum_x p, (splits, K)

    def update(self, logits: Tensor) -> None:
        """Takes the next images: logits `(B, K)`."""
        if self._seen == 0:
            self._negative_entropy = self._negative_entropy.to(logits.device)
            self._probabilities = logits.new_zeros(
                len(self._negative_entropy), logits.shape[1], dtype=torch.float64
            )
        log_p = logits.double().log_softmax(dim=1)
        p = log_p.exp()
        for split, (begin, end) in enumerate(pairwise(self._bounds)):
            mine = slice(max(begin - self._seen, 0), max(end - self._seen, 0))
            self._negative_entropy[split] += (p[mine] * log_p[mine]).sum()
            self._probabilities[split] += p[mine].sum(dim=0)
        self._seen += len(logits)

    def compute(self) -> tuple[float, float]:
        """Returns mean and population standard deviation (`ddof` 0, as published) over splits."""
        sizes = torch.tensor(self._bounds, device=self._probabilities.device).diff()
        marginal = self._probabilities / sizes[:, None]
        divergence = self._negative_entropy / sizes + torch.special.entr(marginal).sum(dim=1)
        scores = divergence.exp()
        return scores.mean().item(), scores.std(correction=0).item()


def class_counts(logits: Tensor) -> Tensor:
    """Counts the images of each class: logits `(B, K)` to int64 `(K,)`, by the largest logit."""
    return torch.bincount(logits.argmax(dim=1), minlength=logits.shape[1])


def class_shares(counts: Tensor) -> Tensor:
    """Returns the share of each class, float64 `(K,)`, which sum to 1."""
    return counts.double() / counts.sum()


def class_entropy(counts: Tensor) -> float:
    """Returns `-sum_c p_c ln p_c` in nats: 0 for one class, ln K for K equally frequent ones."""
    return float(torch.special.entr(class_shares(counts)).sum())


def classes_reached(counts: Tensor, reference_counts: Tensor) -> int:
    """Counts the classes with at least a tenth of the share that they have in the reference.

    Args:
        counts: int64 `(K,)`.
        reference_counts: int64 `(K,)`; classes that it lacks don't count.
    """
    # Crosswise products of whole numbers: exact at the bound, where quotients are not.
    reached = 10 * counts * reference_counts.sum() >= reference_counts * counts.sum()
    return int((reached & (reference_counts > 0)).sum())
