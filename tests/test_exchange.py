"""Gradients among processes."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import distributed, multiprocessing, nn

from forger.exchange import average_gradients

# Gradients of four weights in each of two processes; None: the weight was not used there.
GRADIENTS = (
    ([1.0, 2.0], [3.0], None, None),
    ([5.0, 4.0], None, [8.0], None),
)
MEANS = ([3.0, 3.0], [1.5], [4.0], None)


def average(rank: int, folder: str) -> None:
    distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2
    )
    weights = [nn.Parameter(torch.zeros(2)), *(nn.Parameter(torch.zeros(1)) for _ in range(3))]
    for weight, gradient in zip(weights, GRADIENTS[rank], strict=True):
        weight.grad = None if gradient is None else torch.tensor(gradient)
    average_gradients(weights)
    torch.save([weight.grad for weight in weights], f"{folder}/{rank}.pt")
    distributed.destroy_process_group()


def test_unused_weights_count_as_zero_and_stay_without_gradient_if_unused_everywhere(
    tmp_path: Path,
) -> None:
    multiprocessing.spawn(average, (str(tmp_path),), nprocs=2)
    for rank in range(2):
        found = torch.load(tmp_path / f"{rank}.pt")
        assert [None if g is None else g.tolist() for g in found] == list(MEANS)


def test_a_network_without_weights_exchanges_nothing() -> None:
    average_gradients([])
