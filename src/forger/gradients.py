"""Freezes and clips gradients, and says in which precision what is computed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_, get_total_norm

if TYPE_CHECKING:  # what only samples does not wait for it
    from lightning.pytorch.plugins import Precision

HALVES = (torch.float16, torch.bfloat16)


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


def full_precision(numbers: Tensor) -> Tensor:
    """Widens 16 bits to float32: losses, means and averages need the digits."""
    return numbers.float() if numbers.dtype in HALVES else numbers


def clip_gradient(network: nn.Module, limit: float | None, scale: float = 1.0) -> Tensor:
    """Scales the network's gradient to a 2-norm of at most `limit`; `None` leaves it.

    Returns the norm before that, a scalar. Gradients multiplied by `scale`, for 16 bits, stay so:
    the precision plugin unscales them.
    """
    if limit is not None:
        return clip_grad_norm_(network.parameters(), limit * scale) / scale
    gradients = [p.grad for p in network.parameters() if p.grad is not None]
    return get_total_norm(gradients) / scale


def clamp_weights(network: nn.Module, limit: float) -> None:
    """Clamps every weight to `[-limit, limit]` (arXiv:1701.07875, algorithm 1)."""
    with torch.no_grad():
        for weight in network.parameters():
            weight.clamp_(-limit, limit)


def precision_contexts(
    plugin: Precision, device: str
) -> tuple[AbstractContextManager[Any], AbstractContextManager[Any]]:
    """Returns the context of a network's forward pass, and that of all else in an iteration.

    Lightning puts the whole iteration into one autocast context. Its cache may hold casts of
    weights that an optimizer has stepped since, and a backward pass inside it would round the
    gradients of penalties, which are float32.
    """
    with plugin.forward_context():
        if not torch.is_autocast_enabled(device):
            return nullcontext(), nullcontext()
        dtype = torch.get_autocast_dtype(device)
    mixed = torch.autocast(device, dtype, cache_enabled=False)
    return mixed, torch.autocast(device, enabled=False)
