"""The patchwise contrastive loss of CUT (arXiv:2007.15651, section 3)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize


def patch_nce(queries: Tensor, keys: Tensor, temperature: float = 0.07) -> Tensor:
    """Returns how badly patches of an image tell where they come from, a scalar.

    With unit vectors `v` of the patches of an output and `u` of those of its source,
    `-E log(exp(v_i u_i / t) / sum_j exp(v_i u_j / t))` over all patches i (eq. 2 and 3); the
    wrong ones, j, are the other patches of the same image.

    Args:
        queries: embedded patches of outputs, `(B, P, D)`, of any length.
        keys: those of their sources, at the same places.
        temperature: t, above 0.
    """
    logits = normalize(queries, dim=2) @ normalize(keys, dim=2).transpose(1, 2) / temperature
    rows, patches, _ = logits.shape
    right = torch.arange(patches, device=logits.device).repeat(rows)
    return cross_entropy(logits.flatten(0, 1), right)
