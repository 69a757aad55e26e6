"""Two processes compute what one does, where no batch statistics are involved."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import combinations
import pytest
import torch
from combinations import PROCESSES, Combination
from helpers import make_trainer
from torch import Tensor

from forger.app.run.devices import threads
from forger.app.run.plan import notes

FEW = {str(one): one for one in combinations.few()}
MANY = {str(one): one for one in combinations.many()}
WITH = {str(one): one for one in combinations.with_batch_statistics()}

States = dict[str, dict[str, Tensor]]


def train_alone_and_in_a_pair(
    folder: Path, ones: dict[str, Combination], *words: str
) -> tuple[States, list[States]]:
    """The states after each training: of one process, and of each of two."""
    pair = combinations.start_pair(folder, *words)
    try:
        with threads(1):
            alone = {name: one.train(folder) for name, one in ones.items()}
        for process in pair:
            output, _ = process.communicate(timeout=300)
            assert process.returncode == 0, output
    finally:
        for process in pair:
            process.kill()
            process.communicate()
    return alone, [torch.load(folder / f"rank_{rank}.pt") for rank in range(PROCESSES)]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[States, list[States]]:
    return train_alone_and_in_a_pair(tmp_path_factory.mktemp("few"), FEW)


@pytest.fixture(scope="module")
def trained_many(tmp_path_factory: pytest.TempPathFactory) -> tuple[States, list[States]]:
    return train_alone_and_in_a_pair(tmp_path_factory.mktemp("many"), MANY, "many")


def largest_difference(one: dict[str, Tensor], other: dict[str, Tensor]) -> float:
    assert one.keys() == other.keys()
    return max((one[name] - other[name]).abs().max().item() for name in one)


@pytest.mark.parametrize("name", FEW)
def test_two_processes_compute_what_one_does(name: str, trained: Any) -> None:
    """Weights, averages and optimizer states, in float64; both processes hold the same bits."""
    alone, first, second = (states[name] for states in (trained[0], *trained[1]))
    begun = (FEW | MANY)[name].make_gan().double().state_dict()
    for value in begun.values():
        assert value.dtype in (torch.float64, torch.int64)  # or whole numbers
    for network in ("generator", "discriminator", "ema_generator"):
        moved = [(alone[k] - v).abs().max() for k, v in begun.items() if k.startswith(network)]
        assert max(moved) > 1e-4
    assert largest_difference(alone, first) <= 1e-6
    assert largest_difference(first, second) == 0


@pytest.mark.slow
@pytest.mark.parametrize("name", MANY)
def test_so_they_do_in_every_combination(name: str, trained_many: Any) -> None:
    test_two_processes_compute_what_one_does(name, trained_many)


@pytest.mark.parametrize("name", WITH)
def test_batch_statistics_of_a_process_train_and_the_plan_tells(
    name: str, trained: Any, tmp_path: Path
) -> None:
    _, (first, _) = trained
    begun = WITH[name].make_gan().state_dict()
    assert all(value.isfinite().all() for value in first[name].values())
    assert any((first[name][key] - value).abs().max() > 1e-4 for key, value in begun.items())
    told = [
        "; ".join(notes(WITH[name].make_gan(), make_trainer(tmp_path, **settings)))
        for settings in ({}, {"strategy": "ddp", "devices": PROCESSES})
    ]
    assert ["stay per process" in line for line in told] == [False, True]
