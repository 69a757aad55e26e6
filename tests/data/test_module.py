from __future__ import annotations

from typing import Any

import pytest
import torch
from recorder import Recorder, fit
from torch import Tensor

from forger.data import ImageDataModule, IterationBatches, module
from forger.data.module import resize
from forger.errors import ConfigError, DataError


class Squares(ImageDataModule):
    """What a user writes to add a data set: image i is filled with i."""

    native_shape = (1, 8, 8)
    classes = ("even", "odd")
    reads: tuple[str, ...] = ()

    def read(self, split: str) -> tuple[Tensor, Tensor | None]:
        self.reads += (split,)
        values = torch.arange(40 if split == "train" else 6)
        images = values.to(torch.uint8).view(-1, 1, 1, 1).repeat(1, 1, 8, 8)
        return images, values % 2


def values(images: Tensor) -> list[int]:
    return ((images[:, 0, 0, 0] + 1) * 127.5).round().int().tolist()


@pytest.mark.parametrize("per_iteration", [None, 3])
def test_trains_on_as_many_scaled_batches_as_the_module_says(per_iteration: int | None) -> None:
    seen = fit(Recorder(per_iteration), Squares(batch_size=4))
    assert len(seen) == 40 // 4 // (per_iteration or 1)
    for _, parts in seen:
        assert type(parts) is IterationBatches
        assert len(parts) == (per_iteration or 1)
        for images, labels in parts:
            assert (images.shape, images.dtype) == ((4, 1, 8, 8), torch.float32)
            assert labels.tolist() == [value % 2 for value in values(images)]


def test_each_epoch_is_one_pass_in_an_order_of_its_own() -> None:
    orders: dict[tuple[int, int], list[int]] = {}
    for seed in (0, 1):
        for epoch, parts in fit(Recorder(), Squares(batch_size=4, seed=seed), max_epochs=2):
            orders.setdefault((seed, epoch), []).extend(values(parts[0][0]))
    assert len({tuple(order) for order in orders.values()}) == 4
    assert all(sorted(order) == list(range(40)) for order in orders.values())


def test_overfitting_repeats_the_same_batches() -> None:
    seen = fit(Recorder(), Squares(batch_size=4, flip=True), max_epochs=3, overfit_batches=1)
    assert len(seen) == 3
    assert len({tuple(values(parts[0][0])) for _, parts in seen}) == 1


def test_without_a_trainer_it_works_as_plain_python() -> None:
    data = Squares(batch_size=4)
    (parts, *_) = data.train_dataloader()
    ((images, _),) = data.on_after_batch_transfer(parts, 0)
    assert images.min() >= -1
    other = (torch.zeros(2, 3), torch.zeros(2))
    assert data.on_after_batch_transfer(other, 0) is other  # a batch of another loader


def test_reads_each_split_once_and_only_on_first_use() -> None:
    data = Squares(image_size=16)
    assert data.image_shape == (1, 16, 16)
    assert data.reads == ()
    data.setup("fit")
    data.setup("fit")
    assert data.reads == ("train",)
    assert data.num_train_images == 40
    assert data.train_images.shape == (40, 1, 16, 16)
    assert data.test_images.shape == (6, 1, 16, 16)
    assert data.test_labels is not None
    assert data.test_labels.tolist() == [0, 1] * 3
    assert data.reads == ("train", "test")


@pytest.mark.parametrize("settings", [{"batch_size": 0}, {"image_size": -2}, {"seed": -1}])
def test_wrong_settings_are_named(settings: dict[str, int]) -> None:
    (name, value), *_ = settings.items()
    with pytest.raises(ConfigError, match=f"{name}={value}: must be a whole number of at least"):
        Squares(**settings)


def test_an_iteration_larger_than_the_data_is_refused_with_what_fits() -> None:
    with pytest.raises(ConfigError, match=r"data\.batch_size=16: .*5 batches .*80 .*40 .*=8 or"):
        fit(Recorder(5), Squares(batch_size=16))
    assert len(fit(Recorder(5), Squares(batch_size=8))) == 1


@pytest.mark.parametrize(
    ("images", "labels", "words"),
    [
        (torch.zeros(4, 1, 8, 8), None, r"torch\.float32 \(4, 1, 8, 8\)"),
        (torch.zeros(4, 8, 8, dtype=torch.uint8), None, r"torch\.uint8 \(4, 8, 8\)"),
        (torch.zeros(0, 1, 8, 8, dtype=torch.uint8), None, r"torch\.uint8 \(0, 1, 8, 8\)"),
        (torch.zeros(4, 1, 8, 8, dtype=torch.uint8), torch.zeros(3).long(), r"torch\.int64 \(3,\)"),
    ],
)
def test_a_wrong_reader_is_told_what_to_return(images: Any, labels: Any, words: str) -> None:
    class Wrong(Squares):
        def read(self, split: str) -> Any:
            return images, labels

    with pytest.raises(DataError, match=rf"uint8 images of shape \(N, 1, 8, 8\).*{words}"):
        Wrong().setup("fit")


@pytest.mark.parametrize(
    ("wanted", "free", "stays"),
    [
        ("auto", 4 * 2560, "cuda:1"),
        ("auto", 4 * 2560 - 1, "cpu"),
        ("accelerator", 0, "cuda:1"),
        ("cpu", 10**9, "cpu"),
    ],
)
def test_images_stay_where_there_is_room(
    wanted: Any, free: int, stays: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (free, 10**10))
    data = Squares(device=wanted)  # 40 images of 64 bytes
    assert data.residence(torch.device("cuda:1")) == torch.device(stays)
    assert data.residence(torch.device("cpu")) == torch.device("cpu")
    if wanted == "auto":
        assert data.residence(torch.device("xpu")) == torch.device("cpu")  # which does not tell


def test_resize_keeps_the_mean_and_does_not_depend_on_chunks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    images = torch.randint(0, 256, (7, 3, 28, 28), dtype=torch.uint8)
    whole = resize(images, 14)
    assert (whole.shape, whole.dtype) == ((7, 3, 14, 14), torch.uint8)
    assert abs(whole.float().mean() - images.float().mean()) < 2
    monkeypatch.setattr(module, "_CHUNK", 2)
    assert torch.equal(resize(images, 14), whole)
    assert resize(images, 28) is images
