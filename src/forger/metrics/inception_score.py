"""The Inception score, or with another classifier its counterpart, in constant memory.

Owns the sums and their outcome. torchmetrics' class keeps the logits of all images and shuffles
them by the global random state.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor

from forger.errors import ConfigError


class InceptionScore:
    """`exp(E_x KL(p(y|x) || E_x p(y|x)))` of each split (arXiv:1606.03498, section 4).

    It lies between 1, where the classifier sees the same in all images, and the number of classes
    K, where it is sure of each image and sees all classes equally often. Images must come in random
    order: split i holds those from `i * num_images // splits` on, as in torch-fidelity.

    Args:
        num_images: how many will come.
        splits: parts that are scored apart.

    Raises:
        ConfigError: there are more splits than images.
    """

    def __init__(self, num_images: int, splits: int) -> None:
        if splits > num_images:
            raise ConfigError(
                f"metrics.splits={splits}: must be at most the number of images to score,"
                f" {num_images}"
            )
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
