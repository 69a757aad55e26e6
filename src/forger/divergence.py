"""Finds the first number of a training that is not finite."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from forger.errors import DivergedError

_NEVER = torch.iinfo(torch.int64).max


class FiniteWatch:
    """Notes on the device, without waiting, which loss was the first that is not finite."""

    def __init__(self, networks: Mapping[str, nn.Module], device: torch.device) -> None:
        self.networks = networks
        self._first = {name: torch.full((), _NEVER, device=device) for name in networks}

    def see(self, name: str, loss: Tensor, iteration: int) -> None:
        """Looks at the loss of a network's update."""
        first = self._first[name]
        torch.minimum(first, torch.where(loss.detach().isfinite(), first, iteration), out=first)

    def check(self, iteration: int) -> None:
        """Looks at what was noted, and at all weights; waits for the device.

        Raises:
            DivergedError: a loss was not finite, or a weight is not.
        """
        first, name = min((int(first), name) for name, first in self._first.items())
        broken = next((n for n, network in self.networks.items() if not finite(network)), None)
        if first == _NEVER and broken is None:
            return
        what = f"{broken}'s weights are" if first == _NEVER else f"{name}'s loss was"
        when = min(first, iteration)
        raise DivergedError(f"training diverged at iteration {when}: the {what} not finite")


def finite(network: nn.Module) -> bool:
    """Tells whether all weights are finite; waits for the device."""
    weights = [weight.detach() for weight in network.parameters()]
    # A number that is not finite spoils the sum, in a fiftieth of the time; large ones may too.
    return all(bool(w.sum().isfinite()) or bool(w.isfinite().all()) for w in weights)
