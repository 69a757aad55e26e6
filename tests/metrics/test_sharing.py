"""Work divided among processes."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from thread_group import Group
from torch import Tensor

from forger.metrics import sharing as module
from forger.metrics.sharing import in_order


@pytest.mark.parametrize("world", [1, 2, 3])
@pytest.mark.parametrize("sizes", [[5], [5, 5, 2], [5, 5, 5, 1]])
def test_every_process_sees_all_chunks_in_order(
    sizes: list[int], world: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    group = Group(world)
    monkeypatch.setattr(module, "distributed", group)
    computed: list[int] = []

    def produce(number: int, size: int) -> Tensor:
        computed.append(number)
        return torch.full((size, 2), float(number))

    def process(rank: int) -> list[Tensor]:
        group.own.rank = rank
        return list(in_order(produce, sizes))

    expected = [torch.full((size, 2), float(number)) for number, size in enumerate(sizes)]
    with ThreadPoolExecutor(world) as pool:
        for found in pool.map(process, range(world)):
            assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))
    assert set(computed) == set(range(len(sizes)))
    assert len(computed) < len(sizes) + world  # each once, but for the last
