"""Names for weights by their values. Owns the hash, not what is done with it."""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import sha256

import torch
from torch import Tensor

DIGITS = 20  # hexadecimal, 80 bits


def weights_hash(weights: Mapping[str, Tensor], *facts: object) -> str:
    """Hashes the names, shapes and values of weights, and the `repr` of what else decides.

    Returns:
        Hex digits, the same whatever device or memory layout the weights have.
    """
    digest = sha256(repr(facts).encode())
    for name in sorted(weights):
        tensor = weights[name].detach().cpu().contiguous()
        digest.update(repr((name, tuple(tensor.shape), str(tensor.dtype))).encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()[:DIGITS]
