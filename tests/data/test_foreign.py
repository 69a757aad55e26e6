from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lightning
import pytest
import torch
from recorder import Recorder, fit
from torch.utils.data import (
    DataLoader,
    Dataset,
    DistributedSampler,
    TensorDataset,
    WeightedRandomSampler,
)

from forger.data import GroupedDataModule, Parts
from forger.errors import ConfigError


class Foreign(lightning.LightningDataModule):
    """Somebody's own data module, with every hook in use."""

    def __init__(self, count: int = 20, **loader: Any) -> None:
        super().__init__()
        self.loader = {"batch_size": 4, **loader}
        self.count = count
        self.calls: list[str] = []

    def prepare_data(self) -> None:
        self.calls.append("prepare_data")

    def setup(self, stage: str) -> None:
        self.calls.append("setup")
        images = torch.arange(self.count).float().view(-1, 1, 1, 1)
        self.data = TensorDataset(images, torch.arange(self.count))

    def teardown(self, stage: str) -> None:
        self.calls.append("teardown")

    def train_dataloader(self) -> Any:
        return DataLoader(self.data, **self.loader)

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        assert self.trainer is not None
        images, labels = batch
        return images / 10, labels

    def state_dict(self) -> dict[str, Any]:
        return {"count": self.count}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.count = state_dict["count"]


def test_real_trainer_gets_parts_and_the_hooks_see_each_part() -> None:
    foreign = Foreign()
    seen = fit(Recorder(), GroupedDataModule(foreign, 2))
    assert [type(batch) for _, batch in seen] == [Parts, Parts]
    for _, parts in seen:
        for images, labels in parts:
            assert torch.equal(images.flatten() * 10, labels.float())
    assert foreign.calls == ["prepare_data", "setup", "teardown"]


def test_validation_is_as_the_wrapped_module_has_it() -> None:
    class Validated(Recorder):
        validated = 0

        def validation_step(self, batch: Any, batch_idx: int) -> None:
            images, labels = batch  # not grouped
            assert torch.equal(images.flatten() * 10, labels.float())
            self.validated += 1

    class WithValidation(Foreign):
        def val_dataloader(self) -> Any:
            return DataLoader(self.data, batch_size=10)

    recorder = Validated()
    fit(recorder, GroupedDataModule(WithValidation(), 2), num_sanity_val_steps=0)
    assert recorder.validated == 2


def test_checkpoint_state_is_the_wrapped_modules() -> None:
    foreign = Foreign(12)
    grouped = GroupedDataModule(foreign, 1)
    assert grouped.state_dict() == {"count": 12}
    grouped.load_state_dict({"count": 5})
    assert foreign.count == 5


def train_loader(foreign: Foreign, size: int = 1, rank: int = 0, **trainer: Any) -> Any:
    """The loader under a trainer of which only these facts matter."""
    facts = {"world_size": 1, "global_rank": rank, "overfit_batches": 0, **trainer}
    foreign.setup("fit")
    grouped = GroupedDataModule(foreign, size)
    grouped.trainer = SimpleNamespace(**facts)  # type: ignore[assignment]
    return grouped.train_dataloader()


@pytest.mark.parametrize("shuffle", [True, False])
def test_processes_share_the_data_without_overlap(shuffle: bool) -> None:
    loaders = [train_loader(Foreign(shuffle=shuffle), rank=rank, world_size=2) for rank in (0, 1)]
    orders = []
    for loader in loaders:
        assert isinstance(loader.sampler, DistributedSampler)
        loader.sampler.set_epoch(1)  # as Lightning does
        orders.append([int(label) for parts in loader for label in parts[0][1]])
    assert sorted(orders[0] + orders[1]) == list(range(20))
    assert (orders[0] == list(range(0, 20, 2))) is not shuffle


def test_a_distributed_sampler_of_the_users_is_kept() -> None:
    sampler = DistributedSampler(range(20), num_replicas=2, rank=1)  # type: ignore[arg-type]
    assert train_loader(Foreign(sampler=sampler), world_size=2).sampler is sampler


def test_an_order_that_cannot_be_divided_is_refused() -> None:
    foreign = Foreign(sampler=WeightedRandomSampler([1.0] * 20, 20))
    with pytest.raises(ConfigError, match=r"its own order.*DistributedSampler"):
        train_loader(foreign, world_size=2)


def test_overfitting_keeps_the_order() -> None:
    loader = train_loader(Foreign(shuffle=True), overfit_batches=1)
    assert next(iter(loader))[0][1].tolist() == [0, 1, 2, 3]


def test_too_few_batches_for_an_iteration() -> None:
    with pytest.raises(ConfigError, match=r"Foreign\.train_dataloader: has 5 batches.*takes 6"):
        train_loader(Foreign(), size=6)


def test_several_loaders_are_refused() -> None:
    class Two(Foreign):
        def train_dataloader(self) -> Any:
            return [DataLoader(self.data), DataLoader(self.data)]

    with pytest.raises(ConfigError, match="must return one loader"):
        train_loader(Two())


@pytest.mark.parametrize("workers", [0, 1])
def test_a_file_that_vanishes_in_mid_run_is_an_error_that_names_it(
    tmp_path: Path, workers: int
) -> None:
    """torch wraps what a worker process raises, and keeps its type and its words."""
    for index in range(20):
        torch.save(torch.full((1, 1, 1), float(index)), tmp_path / f"{index}.pt")

    class Files(Dataset[Any]):
        def __len__(self) -> int:
            return 20

        def __getitem__(self, index: int) -> Any:
            return torch.load(tmp_path / f"{index}.pt"), index

    class OnDisk(Foreign):
        def setup(self, stage: str) -> None:
            self.data = Files()  # type: ignore[assignment]

    class Vanishing(Recorder):
        def training_step(self, batch: Any, batch_idx: int) -> None:
            super().training_step(batch, batch_idx)
            (tmp_path / "17.pt").unlink(missing_ok=True)

    recorder = Vanishing()
    data = GroupedDataModule(OnDisk(num_workers=workers), 1)
    with pytest.raises(FileNotFoundError, match=r"No such file or directory: '.*/17\.pt'"):
        fit(recorder, data)
    assert 1 <= len(recorder.seen) < 5
