"""Gradients summed over processes."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest
import torch
from torch import Tensor, distributed, nn

from forger.updates import sum_gradients

# Gradients of four weights in each of two processes; None: the weight was not used there.
GRADIENTS = (
    ([1.0, 2.0], [3.0], None, None),
    ([5.0, 4.0], None, [8.0], None),
)
SUMS = ([6.0, 6.0], [3.0], [8.0], None)


class Summed:
    """Stands in for `all_reduce` of two processes, which are threads here."""

    def __init__(self) -> None:
        self.messages: list[Tensor] = []
        self.both = Barrier(2, timeout=60)

    def __call__(self, message: Tensor) -> None:
        self.messages.append(message.clone())
        self.both.wait()
        message.copy_(self.messages[-1] + self.messages[-2])
        self.both.wait()


def exchanged(rank: int) -> list[Tensor | None]:
    weights = [nn.Parameter(torch.zeros(2)), *(nn.Parameter(torch.zeros(1)) for _ in range(3))]
    weights.append(nn.Parameter(torch.zeros(2, 3, 4, 4).to(memory_format=torch.channels_last)))
    for _ in range(2):
        for weight, gradient in zip(weights, GRADIENTS[rank], strict=False):
            weight.grad = None if gradient is None else torch.tensor(gradient)
        weights[4].grad = torch.full_like(weights[4], rank + 1.0)
        sum_gradients(weights)
    return [weight.grad for weight in weights]


def test_unused_weights_count_as_zero_and_stay_without_gradient_if_unused_everywhere(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(distributed, "all_reduce", Summed())
    with ThreadPoolExecutor(2) as processes:
        for *found, image in processes.map(exchanged, range(2)):
            assert [None if g is None else g.tolist() for g in found] == list(SUMS)
            assert image is not None
            assert torch.equal(image, torch.full((2, 3, 4, 4), 3.0))
            assert image.is_contiguous(memory_format=torch.channels_last)


def test_a_network_without_weights_exchanges_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[torch.Tensor] = []
    monkeypatch.setattr(distributed, "all_reduce", sent.append)
    sum_gradients([])
    assert sent == []
