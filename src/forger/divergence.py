"""Finds the first number of a training that is not finite."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from forger.errors import DivergedError

_NEVER = torch.iinfo(torch.int64).max


class FiniteWatch:
    """Watches losses at every iteration, and weights where the training waits anyway.

    On the CPU a loss that is not finite ends training before it reaches a gradient. Elsewhere the
    iteration is noted on the device, without waiting for it, and `check` tells later.
    """

    def __init__(self, networks: Mapping[str, nn.Module], device: torch.device) -> None:
        self.networks = networks
        self._at_once = device.type == "cpu"
        self._first = {name: torch.full((), _NEVER, device=device) for name in networks}

    def see(self, name: str, loss: Tensor, iteration: int) -> None:
        """Looks at the loss of a network's update.

        Raises:
            DivergedError: it is not finite, and this is the CPU.
        """
        loss = loss.detach()
        if not self._at_once:
            first = self._first[name]
            torch.minimum(first, torch.where(loss.isfinite(), first, iteration), out=first)
        elif not math.isfinite(value := loss.item()):
            raise self._error(name, iteration, f"loss is {value}")

    def check(self, iteration: int) -> None:
        """Looks at what was noted, and at all weights; waits for the device.

        Raises:
            DivergedError: a loss was not finite, or a weight is not.
        """
        first, name = min((int(first), name) for name, first in self._first.items())
        if first != _NEVER:
            raise self._error(name, first, "loss was not finite")
        for name, network in self.networks.items():
            if not finite(network):
                raise self._error(name, iteration, "weights are not finite")

    def _error(self, name: str, iteration: int, what: str) -> DivergedError:
        """Names the network whose weights broke first too: a loss sees both networks."""
        broken = [other for other, network in self.networks.items() if not finite(network)]
        if broken and name not in broken:
            what += f", since weights of the {broken[0]} are not finite"
        return DivergedError(f"training diverged at iteration {iteration}: the {name}'s {what}")


def finite(network: nn.Module) -> bool:
    """Tells whether all weights are finite; waits for the device."""
    weights = [p.detach() for p in network.parameters()]
    if not weights:
        return True
    # A number that is not finite spoils the sum, in a fiftieth of the time; large ones may too.
    sums = torch.stack([weight.sum().float() for weight in weights])
    return bool(sums.isfinite().all()) or all(bool(p.isfinite().all()) for p in weights)
