"""Handling of gradients. Owns freezing, clipping and precision; knows no loss and no schedule."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_, get_total_norm


def trainable(network: nn.Module) -> list[nn.Parameter]:
    """Returns the weights that training changes."""
    return [parameter for parameter in network.parameters() if parameter.requires_grad]


@contextmanager
def frozen(weights: Sequence[nn.Parameter]) -> Iterator[None]:
    """Lets gradients pass through a network without computing those of its trainable weights."""
    for weight in weights:
        weight.requires_grad_(False)
    try:
        yield
    finally:
        for weight in weights:
            weight.requires_grad_(True)


def full_precision(logits: Tensor) -> Tensor:
    """Widens 16-bit logits to float32: losses and their means need the digits."""
    return logits.float() if logits.dtype in (torch.float16, torch.bfloat16) else logits


def clip_gradient(network: nn.Module, limit: float | None, scale: float = 1.0) -> Tensor:
    """Scales the network's gradient to a norm of at most `limit`; `None` leaves it.

    Args:
        network: with gradients.
        limit: largest 2-norm over all weights.
        scale: what the gradients are multiplied by for 16 bits; they stay so, since the precision
            plugin unscales those of some optimizers itself.

    Returns:
        The norm before that, without the scale: a scalar.
    """
    if limit is not None:
        return clip_grad_norm_(network.parameters(), limit * scale) / scale
    gradients = [p.grad for p in network.parameters() if p.grad is not None]
    return get_total_norm(gradients) / scale


def clamp_weights(network: nn.Module, limit: float) -> None:
    """Clamps every weight to `[-limit, limit]` (arXiv:1701.07875, algorithm 1)."""
    with torch.no_grad():
        weights: list[Tensor] = list(network.parameters())
        torch._foreach_clamp_min_(weights, -limit)
        torch._foreach_clamp_max_(weights, limit)
