"""Gradients among processes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import distributed, multiprocessing, nn

from forger import shared_memory
from forger.exchange import GradientSum

# Gradients of four weights in each of two processes; None: the weight was not used there.
GRADIENTS = (
    ([1.0, 2.0], [3.0], None, None),
    ([5.0, 4.0], None, [8.0], None),
)
SUMS = ([6.0, 6.0], [3.0], [8.0], None)


def exchange(rank: int, folder: str, shared: bool) -> None:
    distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2
    )
    weights = [nn.Parameter(torch.zeros(2)), *(nn.Parameter(torch.zeros(1)) for _ in range(3))]
    weights.append(nn.Parameter(torch.zeros(2, 3, 4, 4).to(memory_format=torch.channels_last)))
    if not shared and rank:
        shared_memory._open = lambda *_: None
    sums = GradientSum(weights)
    assert sums._shared == shared
    for _ in range(2):
        for weight, gradient in zip(weights, GRADIENTS[rank], strict=False):
            weight.grad = None if gradient is None else torch.tensor(gradient)
        weights[4].grad = torch.full_like(weights[4], rank + 1.0)
        sums()
    torch.save([weight.grad for weight in weights], f"{folder}/{rank}.pt")
    distributed.destroy_process_group()


@pytest.mark.parametrize(
    "shared",
    [
        pytest.param(True, id="shared memory"),
        pytest.param(False, id="messages", marks=pytest.mark.slow),
    ],
)
def test_unused_weights_count_as_zero_and_stay_without_gradient_if_unused_everywhere(
    shared: bool, tmp_path: Path
) -> None:
    if shared and not Path("/dev/shm").is_dir():
        pytest.skip("this system has no /dev/shm")
    before = list(Path("/dev/shm").glob("forger_*")) if shared else []
    multiprocessing.spawn(exchange, (str(tmp_path), shared), nprocs=2)
    for rank in range(2):
        *found, image = torch.load(tmp_path / f"{rank}.pt")
        assert [None if g is None else g.tolist() for g in found] == list(SUMS)
        assert torch.equal(image, torch.full((2, 3, 4, 4), 3.0))
    assert not shared or list(Path("/dev/shm").glob("forger_*")) == before


def test_a_network_without_weights_exchanges_nothing() -> None:
    GradientSum([])()
