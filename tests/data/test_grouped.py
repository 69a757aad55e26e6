from __future__ import annotations

from collections.abc import Iterator
from itertools import count, islice

import pytest
import torch
from lightning.fabric.utilities.apply_func import move_data_to_device
from torch.utils.data import DataLoader, DistributedSampler, IterableDataset

from forger.data import GroupedLoader, IterationBatches
from forger.data.resident import StoredBatch


def test_groups_consecutive_batches_and_drops_the_rest() -> None:
    grouped = GroupedLoader([1, 2, 3, 4, 5], 2)
    assert list(grouped) == [IterationBatches((1, 2)), IterationBatches((3, 4))]
    assert len(grouped) == 2
    assert list(grouped) == list(grouped)
    assert all(type(group) is IterationBatches for group in grouped)


def test_works_without_a_length() -> None:
    class Stream(IterableDataset[int]):
        def __iter__(self) -> Iterator[int]:
            return iter(range(8))

    for loader in ((i for i in count()), DataLoader(Stream())):
        grouped = GroupedLoader(loader, 3)
        assert list(islice(grouped, 2)) == [(0, 1, 2), (3, 4, 5)]
        with pytest.raises(TypeError):
            len(grouped)


def test_exposes_the_sampler_and_only_where_there_is_one() -> None:
    sampler = DistributedSampler(range(8), num_replicas=2, rank=0)
    grouped = GroupedLoader(DataLoader(range(8), sampler=sampler), 2)  # type: ignore[arg-type]
    assert grouped.sampler is sampler
    assert grouped.batch_sampler.sampler is sampler
    assert not hasattr(GroupedLoader([1], 1), "sampler")
    assert not hasattr(GroupedLoader([1], 1), "batch_sampler")


@pytest.mark.parametrize("labels", [torch.tensor([1, 2]), None])
def test_lightning_moves_parts_and_keeps_their_types(labels: torch.Tensor | None) -> None:
    parts = IterationBatches([StoredBatch(torch.zeros(2, 1, 2, 2), labels, None), (torch.ones(2),)])
    moved = move_data_to_device(parts, torch.device("meta"))
    assert type(moved) is IterationBatches
    assert type(moved[0]) is StoredBatch
    assert moved[0].images.device.type == moved[1][0].device.type == "meta"
    assert moved[0].flip is None
    assert (moved[0].labels is None) == (labels is None)
