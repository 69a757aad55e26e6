from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lightning
import pytest
import torch
from PIL import Image
from recorder import Recorder, fit
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset, WeightedRandomSampler

from forger.data import GroupedDataModule, IterationBatches
from forger.data.own_module import first_images
from forger.errors import ConfigError, DataError


class OwnData(lightning.LightningDataModule):
    """Somebody's own data module, with every hook in use."""

    def __init__(self, count: int = 20, **loader: Any) -> None:
        super().__init__()
        self.count, self.loader = count, {"batch_size": 4, **loader}
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

    def val_dataloader(self) -> Any:
        return DataLoader(self.data, batch_size=10)

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        assert self.trainer is not None
        images, labels = batch
        return images / 10, labels

    def state_dict(self) -> dict[str, Any]:
        return {"count": self.count}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.count = state_dict["count"]


class Pictures(lightning.LightningDataModule):
    """Images that are made as a test asks for."""

    def __init__(self, make: Any, **loader: Any) -> None:
        super().__init__()
        self.make, self.loader = make, {"batch_size": 4, **loader}

    def train_dataloader(self) -> Any:
        return DataLoader(self, **self.loader)  # type: ignore[arg-type]

    def __len__(self) -> int:
        return 12

    def __getitem__(self, index: int) -> Any:
        return self.make(index)


class Validated(Recorder):
    """Counts batches of validation, which are not grouped."""

    validated = 0

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        images, labels = batch
        assert torch.equal(images.flatten() * 10, labels.float())
        self.validated += 1


def test_real_trainer_gets_groups_and_all_else_is_as_the_wrapped_module_has_it() -> None:
    recorder, own = Validated(), OwnData()
    grouped = GroupedDataModule(own, 2)
    seen = fit(recorder, grouped, num_sanity_val_steps=0)
    assert [type(batch) for _, batch in seen] == [IterationBatches, IterationBatches]
    for _, parts in seen:
        for images, labels in parts:
            assert torch.equal(images.flatten() * 10, labels.float())
    assert recorder.validated == 2
    assert own.calls == ["prepare_data", "setup", "teardown"]
    assert grouped.state_dict() == {"count": 20}
    grouped.load_state_dict({"count": 5})
    assert own.count == 5


def train_loader(own: Any, size: int = 1, rank: int = 0, **trainer: Any) -> Any:
    """The loader under a trainer of which only these facts matter."""
    facts = {"world_size": 1, "global_rank": rank, "overfit_batches": 0, **trainer}
    own.setup("fit")
    grouped = GroupedDataModule(own, size)
    grouped.trainer = SimpleNamespace(**facts)  # type: ignore[assignment]
    return grouped.train_dataloader()


@pytest.mark.parametrize("shuffle", [True, False])
def test_processes_share_the_data_without_overlap(shuffle: bool) -> None:
    orders = []
    for rank in (0, 1):
        loader = train_loader(OwnData(16, shuffle=shuffle), rank=rank, world_size=2)
        assert isinstance(loader.sampler, DistributedSampler)
        loader.sampler.set_epoch(1)  # as Lightning does
        orders.append([int(label) for parts in loader for label in parts[0][1]])
    assert sorted(orders[0] + orders[1]) == list(range(16))
    assert (orders[0] == list(range(0, 16, 2))) is not shuffle


def test_a_sampler_of_the_users_is_kept_or_refused() -> None:
    sampler = DistributedSampler(range(20), num_replicas=2, rank=1)  # type: ignore[arg-type]
    assert train_loader(OwnData(sampler=sampler), world_size=2).sampler is sampler
    own = OwnData(sampler=WeightedRandomSampler([1.0] * 20, 20))
    with pytest.raises(ConfigError, match=r"its own order.*DistributedSampler"):
        train_loader(own, world_size=2)


def test_overfitting_keeps_the_order_and_too_few_batches_are_refused() -> None:
    loader = train_loader(OwnData(shuffle=True), overfit_batches=1)
    assert next(iter(loader))[0][1].tolist() == [0, 1, 2, 3]
    with pytest.raises(ConfigError, match=r"OwnData\.train_dataloader: has 5 batches.*takes 6"):
        train_loader(OwnData(), size=6)


def test_a_file_that_vanishes_in_mid_run_is_an_error_that_names_it(tmp_path: Path) -> None:
    """torch wraps what a worker process raises, and keeps its type and its words."""
    own = Pictures(lambda index: torch.load(tmp_path / f"{index}.pt"), num_workers=1)
    for index in range(11):
        torch.save(torch.full((1, 1, 1), float(index)), tmp_path / f"{index}.pt")
    with pytest.raises(FileNotFoundError, match=r"No such file or directory: '.*/11\.pt'"):
        fit(Recorder(), GroupedDataModule(own, 1))


def numbers(loader: Any) -> list[int]:
    return [len(batch[0]) for parts in loader for batch in parts]


@pytest.mark.parametrize("how", [{}, {"shuffle": True}, {"num_workers": 1}])
@pytest.mark.parametrize("processes", [1, 2])
def test_an_incomplete_last_batch_is_dropped_unless_it_is_the_only_one(
    how: dict[str, Any], processes: int
) -> None:
    """One image would be none under BatchNorm."""
    loader = train_loader(OwnData(9 * processes, **how), world_size=processes)
    assert numbers(loader) == [4, 4]
    assert len(loader) == 2
    assert numbers(train_loader(OwnData(3 * processes, **how), world_size=processes)) == [3]


def test_a_single_last_image_of_any_loader_is_left_out(caplog: pytest.LogCaptureFixture) -> None:
    class Stream(OwnData):
        def train_dataloader(self) -> Any:
            return (self.data[start : start + 4] for start in range(0, 9, 4))

    class Sizes(OwnData):
        def train_dataloader(self) -> Any:
            return DataLoader(self.data, batch_sampler=[[0], [1, 2], [3], [4, 5, 6], [7]])

    assert numbers(train_loader(Stream(9))) == [4, 4]
    recorder = Validated()
    with caplog.at_level("INFO"):
        fit(recorder, GroupedDataModule(Sizes(9), 1), max_epochs=3)
    assert caplog.text.count("a last batch of one image is left out") == 1
    assert (recorder.current_epoch, len(recorder.seen)) == (3, 3 + 2 + 2)


def test_the_first_batch_is_looked_at_before_training() -> None:
    found = first_images(Pictures(lambda index: {"image": torch.rand(3, 8, 8) * 2 - 1}))
    assert found.shape == (4, 3, 8, 8)
    with pytest.raises(DataError, match=r"from [\d.]+ to 255; write images / 127\.5 - 1"):
        first_images(Pictures(lambda index: torch.full((3, 8, 8), 255.0)))
    with pytest.raises(DataError, match=r"not uint8 .*; write"):
        first_images(Pictures(lambda index: torch.zeros(3, 8, 8, dtype=torch.uint8)))


def test_labels_that_are_wanted_are_looked_at_too() -> None:
    image = torch.rand(3, 8, 8) * 2 - 1
    for good in (lambda index: (image, index), lambda index: {"img": image, "targets": index}):
        assert first_images(Pictures(good), num_classes=50).shape == (4, 3, 8, 8)
    with pytest.raises(DataError, match=r"^labels: a batch has none; give \(images, labels\)"):
        first_images(Pictures(lambda index: image), num_classes=50)
    with pytest.raises(DataError, match=r"^labels: must be .* not float64 \(4,\)"):
        first_images(Pictures(lambda index: (image, index / 2)), num_classes=50)
    with pytest.raises(DataError, match=r"those of Pictures are from 1 to 4; subtract 1 if they"):
        first_images(Pictures(lambda index: (image, index + 1)), num_classes=4)


def test_what_cannot_be_put_together_is_told() -> None:
    sizes = Pictures(lambda index: torch.zeros(1, 8, 8 + index // 11))
    with pytest.raises(DataError, match=r"equal size, but got \[1, 8, 8\] at .* of one size"):
        numbers(train_loader(sizes))
    with pytest.raises(DataError, match=r"put together to a batch: .*Image.*; give your data set"):
        first_images(Pictures(lambda index: (Image.new("RGB", (8, 8)), index)))


def test_a_hook_may_bring_the_images_into_range() -> None:
    class Scaled(Pictures):
        def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
            return batch.permute(0, 3, 1, 2).float() / 127.5 - 1

    class NeedsTrainer(Pictures):
        def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
            assert self.trainer is not None
            return batch / 255

    pixels = torch.full((8, 9, 3), 200, dtype=torch.uint8)
    assert first_images(Scaled(lambda index: pixels)).shape == (4, 3, 8, 9)
    large = first_images(NeedsTrainer(lambda index: torch.full((3, 8, 8), 255.0)))
    assert large.shape == (4, 3, 8, 8)


def test_looking_changes_no_random_state() -> None:
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    own = torch.Generator().manual_seed(1)
    first_images(Pictures(lambda index: torch.rand(3, 8, 8), shuffle=True, generator=own))
    assert torch.equal(torch.rand(1), expected)
    assert torch.equal(own.get_state(), torch.Generator().manual_seed(1).get_state())


@pytest.mark.parametrize("loader", [None, "missing", [], "empty"])
def test_what_is_no_loader_is_told(loader: Any) -> None:
    class Wrong(OwnData):
        def train_dataloader(self) -> Any:
            return iter(()) if loader == "empty" else loader

    own = lightning.LightningDataModule() if loader == "missing" else Wrong()
    with pytest.raises(ConfigError, match=r"must return|needs a method|gives no batch"):
        first_images(own)
