from __future__ import annotations

from typing import Any

import pytest
import torch
from recorder import Recorder, fit
from torch import Tensor

from forger.data import ImageDataModule, IterationBatches, members
from forger.data.members import resize
from forger.errors import ConfigError, DataError


class Squares(ImageDataModule):
    """What a user writes to add a data set: image i is filled with i."""

    native_shape = (1, 8, 8)
    classes = ("even", "odd")
    reads: tuple[str, ...] = ()

    def read(self, split: str) -> dict[str, Tensor]:
        self.reads += (split,)
        values = torch.arange(40 if split == "train" else 6)
        images = values.to(torch.uint8).view(-1, 1, 1, 1).repeat(1, 1, 8, 8)
        return {"image": images, "label": values % 2}


def values(images: Tensor) -> list[int]:
    return ((images[:, 0, 0, 0] + 1) * 127.5).round().int().tolist()


@pytest.mark.parametrize("per_iteration", [None, 3])
def test_trains_on_as_many_scaled_batches_as_the_module_says(per_iteration: int | None) -> None:
    seen = fit(Recorder(per_iteration), Squares(batch_size=4))
    assert len(seen) == 40 // 4 // (per_iteration or 1)
    for _, parts in seen:
        assert type(parts) is IterationBatches
        assert len(parts) == (per_iteration or 1)
        for batch in parts:
            images, labels = batch["image"], batch["label"]
            assert (images.shape, images.dtype) == ((4, 1, 8, 8), torch.float32)
            assert labels.dtype == torch.int64
            assert labels.tolist() == [value % 2 for value in values(images)]


def test_each_epoch_is_one_pass_in_an_order_of_its_own() -> None:
    orders: dict[tuple[int, int], list[int]] = {}
    for seed in (0, 1):
        for epoch, parts in fit(Recorder(), Squares(batch_size=4, seed=seed), max_epochs=2):
            orders.setdefault((seed, epoch), []).extend(values(parts[0]["image"]))
    assert len({tuple(order) for order in orders.values()}) == 4
    assert all(sorted(order) == list(range(40)) for order in orders.values())


def test_a_limit_trains_on_some_images_alone_at_even_distances() -> None:
    data = Squares(batch_size=4, train_limit=8)
    seen = fit(Recorder(), data, max_epochs=2)
    assert len(seen) == 4
    assert {value for _, parts in seen for value in values(parts[0]["image"])} == {*range(0, 40, 5)}
    assert (data.num_train_images, len(data.train_images)) == (8, 40)  # scores see all of them
    assert data.class_counts.tolist() == [4, 4]
    assert Squares(train_limit=7).class_counts.tolist() == [4, 3]  # 0, 5, 11, 17, 22, 28, 34


def test_a_limit_above_the_images_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"data\.train_limit=41: there are 40 training images"):
        fit(Recorder(), Squares(train_limit=41))
    with pytest.raises(ConfigError, match=r"train_limit=0: must be a whole number of at least 1"):
        Squares(train_limit=0)


def test_overfitting_repeats_the_same_batches() -> None:
    seen = fit(Recorder(), Squares(batch_size=4, flip=True), max_epochs=3, overfit_batches=1)
    assert len(seen) == 3
    assert len({tuple(values(parts[0]["image"])) for _, parts in seen}) == 1


def test_without_a_trainer_it_works_as_plain_python() -> None:
    data = Squares(batch_size=4)
    (parts, *_) = data.train_dataloader()
    (batch,) = data.on_after_batch_transfer(parts, 0)
    assert batch["image"].min() >= -1
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


def test_further_members_travel_with_their_images() -> None:
    class Pairs(Squares):
        def read(self, split: str) -> dict[str, Tensor]:
            image = super().read(split)["image"]
            image[:, :, 0, 0] = 255  # a corner that flips
            small, text = image[:, :, ::2, ::2], image[:, 0, -1, -1:] / 2
            return {"image": image, "source": 255 - image, "small": small, "text": text}

    data = Pairs(image_size=16, batch_size=40, flip=True)
    ((_, (batch,)),) = fit(Recorder(), data)
    assert data.train_labels is None
    assert {name: tuple(one.shape) for name, one in batch.items()} == {
        "image": (40, 1, 16, 16),
        "source": (40, 1, 16, 16),  # resized like the images that it lies over
        "small": (40, 1, 4, 4),  # of another size, kept
        "text": (40, 1),
    }
    pixels = ((batch["image"] + 1) * 127.5).round()
    assert torch.allclose(batch["source"], -batch["image"], atol=0.02)  # resizing rounds
    assert torch.equal(pixels[:, 0, -1, 7] / 2, batch["text"][:, 0])
    corners = batch["small"][:, 0, 0]
    assert torch.equal(corners[:, 0] == 1, pixels[:, 0, 0, 0] == 255)
    assert 8 < int((corners[:, 3] == 1).sum()) < 32  # about half of them are flipped


class Sides(Squares):
    """Sources that are no pairs: 30 for training, of another size."""

    paired = False
    native_source_shape = (3, 4, 4)

    def read(self, split: str) -> dict[str, Tensor]:
        values = torch.arange(30 if split == "train" else 3)
        source = values.to(torch.uint8).view(-1, 1, 1, 1).repeat(1, 3, 4, 4)
        return super().read(split) | {"source": source, "source_label": values % 3}


def test_unpaired_sources_have_rows_labels_and_a_limit_of_their_own() -> None:
    data = Sides(image_size=16, batch_size=8)
    assert (data.image_shape, data.source_shape) == ((1, 16, 16), (3, 4, 4))
    batches = [batch for _, (batch,) in fit(Recorder(), data)]
    assert {name: len(one) for name, one in batches[0].items()} == dict.fromkeys(
        ("image", "label", "source", "source_label"), 8
    )
    for batch in batches:
        assert batch["source_label"].tolist() == [value % 3 for value in values(batch["source"])]
    assert (len(data.train_sources), len(data.test_sources)) == (30, 3)
    assert data.test_source_labels is not None
    assert data.test_source_labels.tolist() == [0, 1, 2]
    limited = Sides(batch_size=4, train_limit=8)
    drawn = [value for _, (one,) in fit(Recorder(), limited) for value in values(one["source"])]
    assert sorted(drawn) == [value * 30 // 8 for value in range(8)]


def test_paired_sources_share_size_and_labels() -> None:
    class Pairs(Squares):
        native_source_shape = (3, 8, 8)

        def read(self, split: str) -> dict[str, Tensor]:
            members = super().read(split)
            return members | {"source": members["image"].repeat(1, 3, 1, 1)}

    data = Pairs(image_size=16)
    assert Squares().source_shape is None
    assert data.source_shape == (3, 16, 16)
    assert data.train_sources.shape[1:] == data.source_shape
    assert data.train_source_labels is data.train_labels


@pytest.mark.parametrize(
    "members",
    [
        {},
        {"source": torch.zeros(3, 3, 4, 4)},
        {"source": torch.zeros(3, 1, 4, 4, dtype=torch.uint8)},
        {"source": torch.zeros(0, 3, 4, 4, dtype=torch.uint8)},
        {
            "source": torch.zeros(3, 3, 4, 4, dtype=torch.uint8),
            "source_label": torch.arange(4),
        },
    ],
)
def test_wrong_sources_are_told(members: dict[str, Tensor]) -> None:
    class Wrong(Sides):
        def read(self, split: str) -> Any:
            return Squares.read(self, split) | members

    with pytest.raises(DataError, match=r'uint8 sources as "source": \(N, 3, 4, 4\), .* returned'):
        Wrong().setup("fit")


BYTES = torch.zeros(4, 1, 8, 8, dtype=torch.uint8)


@pytest.mark.parametrize(
    ("returned", "words"),
    [
        ((BYTES, torch.zeros(4)), r"a tuple of uint8 \(4, 1, 8, 8\), float32 \(4,\)"),
        ((BYTES, None), r"a tuple of uint8 \(4, 1, 8, 8\), None"),
        (BYTES, r"uint8 \(4, 1, 8, 8\)"),
        (None, "None"),
        ({}, r"\{\}"),
        ({"image": BYTES.numpy()}, r"\{'image': ndarray\}"),
        ({"image": BYTES.float()}, r"\{'image': float32 \(4, 1, 8, 8\)\}"),
        ({"image": BYTES[:, 0]}, r"\{'image': uint8 \(4, 8, 8\)\}"),
        ({"image": BYTES[:0]}, r"\{'image': uint8 \(0, 1, 8, 8\)\}"),
        ({"image": BYTES[0, 0, 0, 0]}, r"\{'image': uint8 \(\)\}"),
        ({"images": BYTES}, r"\{'images': uint8 .*\}"),
        ({"image": BYTES, "labels": torch.arange(4)}, r"'labels': int64 \(4,\)\}"),
        ({"image": BYTES, "label": torch.arange(3)}, r"'label': int64 \(3,\)\}"),
        ({"image": BYTES, "label": torch.zeros(4)}, r"'label': float32 \(4,\)\}"),
        ({"image": BYTES, "label": torch.zeros(4, 2).long()}, r"'label': int64 \(4, 2\)\}"),
        ({"image": BYTES, "label": None}, r"'label': None\}"),
        ({"image": BYTES, "text": torch.zeros(5, 2)}, r"'text': float32 \(5, 2\)\}"),
    ],
)
def test_a_wrong_reader_is_told_what_to_return(returned: Any, words: str) -> None:
    class Wrong(Squares):
        def read(self, split: str) -> Any:
            return returned

    told = r'Wrong\.read\(\'train\'\): .* return \{"image": images, "label": labels\}: uint8 images'
    with pytest.raises(DataError, match=rf"{told} of shape \(N, 1, 8, 8\).*; returned .*{words}$"):
        Wrong().setup("fit")


@pytest.mark.parametrize(
    ("wanted", "free", "stays"),
    [
        ("auto", 4 * 2880, "cuda:1"),
        ("auto", 4 * 2880 - 1, "cpu"),
        ("accelerator", 0, "cuda:1"),
        ("cpu", 10**9, "cpu"),
    ],
)
def test_images_stay_where_there_is_room(
    wanted: Any, free: int, stays: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (free, 10**10))
    data = Squares(device=wanted)  # 40 images of 64 bytes with labels of 8
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
    monkeypatch.setattr(members, "_CHUNK", 2)
    assert torch.equal(resize(images, 14), whole)
    assert resize(images, 28) is images
