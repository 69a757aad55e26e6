"""Copies networks, also those that keep tensors which autograd has computed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from copy import deepcopy
from typing import Any, TypeVar

from torch import Tensor, nn
from torch.func import functional_call

from forger.gradients import HALVES, full_precision

Network = TypeVar("Network", bound=nn.Module)


def copied(network: Network) -> Network:
    """Returns a deep copy.

    torch copies no tensor with a history, as `weight_norm`, the older `spectral_norm` and pruning
    keep them: the copy gets their values.
    """
    memo: dict[int, Any] = {}
    for module in network.modules():
        for tensor in _tensors_in(vars(module)):
            if not tensor.is_leaf:
                memo[id(tensor)] = tensor.detach().clone()
    return deepcopy(network, memo)


def _tensors_in(value: Any) -> Iterator[Tensor]:
    """Yields the tensors in plain containers; modules are gone through by the caller."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, (list, tuple, dict)):
        for inside in value.values() if isinstance(value, dict) else value:
            yield from _tensors_in(inside)


def in_float32(network: nn.Module) -> Callable[..., Any]:
    """Returns a 16-bit network as a function that computes in float32; gradients reach its weights.

    Any other network is returned as it is.
    """
    tensors = dict([*network.named_parameters(), *network.named_buffers()])
    wide = {name: tensor.float() for name, tensor in tensors.items() if tensor.dtype in HALVES}
    if not wide:
        return network

    def run(*inputs: Tensor | None) -> Any:
        widened = tuple(None if one is None else full_precision(one) for one in inputs)
        return functional_call(network, wide, widened)

    return run
