"""Gradients among processes."""

from __future__ import annotations

import os
import random
import time
from pathlib import Path

import pytest
import torch
from torch import distributed, multiprocessing, nn

from forger import shared_memory
from forger.app.distributed.rank_errors import is_consequence, reason_of
from forger.exchange import GradientSum

# Gradients of four weights in each of two processes; None: the weight was not used there.
GRADIENTS = (
    ([1.0, 2.0], [3.0], None, None),
    ([5.0, 4.0], None, [8.0], None),
)
SUMS = ([6.0, 6.0], [3.0], [8.0], None)


def meet(rank: int, folder: str) -> None:
    distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2
    )


def exchange(rank: int, folder: str, shared: bool) -> None:
    meet(rank, folder)
    weights = [nn.Parameter(torch.zeros(2)), *(nn.Parameter(torch.zeros(1)) for _ in range(3))]
    weights.append(nn.Parameter(torch.zeros(2, 3, 4, 4).to(memory_format=torch.channels_last)))
    if not shared and rank:
        shared_memory._find = lambda *_: None
    sums = GradientSum(weights)
    assert (sums._shared is not None) == shared
    for _ in range(2):
        for weight, gradient in zip(weights, GRADIENTS[rank], strict=False):
            weight.grad = None if gradient is None else torch.tensor(gradient)
        weights[4].grad = torch.full_like(weights[4], rank + 1.0)
        sums()
    torch.save([weight.grad for weight in weights], f"{folder}/{rank}.pt")
    distributed.destroy_process_group()


def exchange_at_odd_times(rank: int, folder: str) -> None:
    meet(rank, folder)
    weight = nn.Parameter(torch.zeros(1000))
    sums, pauses = GradientSum([weight]), random.Random(rank)
    for number in range(200):
        weight.grad = torch.full_like(weight, number + 1000.0 * rank)
        time.sleep(pauses.choice((0, 0, 0.001, 0.003)))
        sums()
        assert torch.equal(weight.grad, torch.full_like(weight, 2 * number + 1000.0)), number
    distributed.destroy_process_group()


def exchange_with_one_that_ends(rank: int, folder: str) -> None:
    meet(rank, folder)
    weight = nn.Parameter(torch.zeros(1))
    sums = GradientSum([weight])
    if rank == 1:
        os._exit(0)
    try:
        sums()
    except RuntimeError as error:
        Path(folder, "error").write_text(reason_of(error))
    os._exit(0)


needs_shared_memory = pytest.mark.skipif(
    not Path("/dev/shm").is_dir(), reason="this system has no /dev/shm"
)


@pytest.mark.parametrize(
    "shared",
    [
        pytest.param(True, id="shared memory", marks=needs_shared_memory),
        pytest.param(False, id="messages", marks=pytest.mark.slow),
    ],
)
def test_unused_weights_count_as_zero_and_stay_without_gradient_if_unused_everywhere(
    shared: bool, tmp_path: Path
) -> None:
    before = set(Path("/dev/shm").glob("forger_*"))
    multiprocessing.spawn(exchange, (str(tmp_path), shared), nprocs=2)
    for rank in range(2):
        *found, image = torch.load(tmp_path / f"{rank}.pt")
        assert [None if g is None else g.tolist() for g in found] == list(SUMS)
        assert torch.equal(image, torch.full((2, 3, 4, 4), 3.0))
    left = set(Path("/dev/shm").glob("forger_*")) - before
    until = time.monotonic() + 10
    while any(path.exists() for path in left):  # another test's are gone at once
        assert time.monotonic() < until, left


@needs_shared_memory
def test_who_is_ahead_does_not_overwrite_what_others_have_yet_to_read(tmp_path: Path) -> None:
    multiprocessing.spawn(exchange_at_odd_times, (str(tmp_path),), nprocs=2)


@needs_shared_memory
def test_a_process_that_ends_is_felt_by_the_others(tmp_path: Path) -> None:
    multiprocessing.spawn(exchange_with_one_that_ends, (str(tmp_path),), nprocs=2)
    assert is_consequence((tmp_path / "error").read_text())


def test_a_network_without_weights_exchanges_nothing() -> None:
    GradientSum([])()
