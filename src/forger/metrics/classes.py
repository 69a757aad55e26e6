"""Mode collapse, as the classes of images show it. Pure functions of counts per class."""

from __future__ import annotations

import torch
from torch import Tensor


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

    Classes that the reference lacks don't count.

    Args:
        counts: int64 `(K,)`.
        reference_counts: int64 `(K,)`.
    """
    # Crosswise products of whole numbers: exact at the bound, where quotients are not.
    reached = 10 * counts * reference_counts.sum() >= reference_counts * counts.sum()
    return int((reached & (reference_counts > 0)).sum())
