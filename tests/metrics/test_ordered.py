from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

import pytest
import torch
from torch import Tensor

from forger.metrics.ordered import Processes, concatenated, in_order


def produce(number: int, size: int) -> Tensor:
    return torch.full((size, 2), float(number))


def together(sizes: list[int], world: int) -> list[list[Tensor]]:
    """Runs all processes in lockstep: each gather waits until all have given their tensor."""
    given: list[list[Tensor]] = [[] for _ in range(world)]

    def mine(rank: int) -> None:
        def gather(tensor: Tensor) -> Tensor:
            given[rank].append(tensor)
            return tensor.expand(world, *tensor.shape)

        list(in_order(produce, sizes, Processes(rank, world, gather)))

    for rank in range(world):
        mine(rank)

    def everyones() -> Iterator[Tensor]:
        for parts in zip(*given, strict=True):
            yield torch.stack(parts)

    results = []
    for rank in range(world):
        answers = everyones()
        processes = Processes(rank, world, lambda _, answers=answers: next(answers))
        results.append(list(in_order(produce, sizes, processes)))
    return results


@pytest.mark.parametrize("world", [1, 2, 3, 4])
@pytest.mark.parametrize("sizes", [[5], [5, 5], [5, 5, 2], [5, 5, 5, 5, 1]])
def test_every_process_sees_all_chunks_in_order(sizes: list[int], world: int) -> None:
    expected = [produce(number, size) for number, size in enumerate(sizes)]
    for found in together(sizes, world):
        assert len(found) == len(expected)
        assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


def test_each_chunk_is_computed_once_where_the_processes_divide_them() -> None:
    computed = []

    def counted(number: int, size: int) -> Tensor:
        computed.append(number)
        return produce(number, size)

    for rank in range(2):
        processes = Processes(rank, 2, lambda tensor: torch.stack([tensor, tensor]))
        list(in_order(counted, [3, 3, 3, 3], processes))
    assert sorted(computed) == [0, 1, 2, 3]


def test_results_are_yielded_as_they_come() -> None:
    computed = []

    def counted(number: int, size: int) -> Tensor:
        computed.append(number)
        return produce(number, size)

    list(islice(in_order(counted, [2] * 100, Processes()), 3))
    assert computed == [0, 1, 2]


def test_concatenated() -> None:
    assert concatenated(produce, [2, 1], Processes()).tolist() == [[0, 0], [0, 0], [1, 1]]
