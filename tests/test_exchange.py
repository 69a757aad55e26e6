"""Gradients summed over processes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import distributed, multiprocessing, nn

from forger.updates import sum_gradients

# Gradients of four weights in each of two processes; None: the weight was not used there.
GRADIENTS = (
    ([1.0, 2.0], [3.0], None, None),
    ([5.0, 4.0], None, [8.0], None),
)
SUMS = ([6.0, 6.0], [3.0], [8.0], None)


def exchange(rank: int, folder: str) -> None:
    distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2
    )
    weights = [nn.Parameter(torch.zeros(2)), *(nn.Parameter(torch.zeros(1)) for _ in range(3))]
    weights.append(nn.Parameter(torch.zeros(2, 3, 4, 4).to(memory_format=torch.channels_last)))
    for _ in range(2):
        for weight, gradient in zip(weights, GRADIENTS[rank], strict=False):
            weight.grad = None if gradient is None else torch.tensor(gradient)
        weights[4].grad = torch.full_like(weights[4], rank + 1.0)
        sum_gradients(weights)
    torch.save([weight.grad for weight in weights], f"{folder}/{rank}.pt")
    distributed.destroy_process_group()


def test_unused_weights_count_as_zero_and_stay_without_gradient_if_unused_everywhere(
    tmp_path: Path,
) -> None:
    multiprocessing.spawn(exchange, (str(tmp_path),), nprocs=2)
    for rank in range(2):
        *found, image = torch.load(tmp_path / f"{rank}.pt")
        assert [None if g is None else g.tolist() for g in found] == list(SUMS)
        assert torch.equal(image, torch.full((2, 3, 4, 4), 3.0))
        assert image.is_contiguous(memory_format=torch.channels_last)


def test_a_network_without_weights_exchanges_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[torch.Tensor] = []
    monkeypatch.setattr(distributed, "all_reduce", sent.append)
    sum_gradients([])
    assert sent == []
