"""Compiles networks in place, and lets compiled ones run as they were."""

from __future__ import annotations

from contextlib import AbstractContextManager

import torch
from torch import nn


def compile_networks(*networks: nn.Module, backend: str = "inductor") -> None:
    """Lets `torch.compile` translate each network at its next call, in place.

    Names of weights, checkpoints and copies stay what they are, and a copy is not compiled. Each
    way in which training calls a network becomes one graph, in the first iteration: G with and
    without gradients, D with those of its weights and with those of its input alone. What earlier
    runs in this process compiled is forgotten, since torch counts it against a limit of graphs.
    """
    torch.compiler.reset()
    for network in networks:
        network.compile(backend=backend, dynamic=False)


def uncompiled() -> AbstractContextManager[None]:
    """Calls compiled networks as they were before; free where none is compiled.

    For gradients of gradients, which torch refuses through a compiled graph, and for rare calls in
    another mode or of another size, each of which would otherwise be compiled.
    """
    stance: AbstractContextManager[None] = torch.compiler.set_stance("force_eager")
    return stance
