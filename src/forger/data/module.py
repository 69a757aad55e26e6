"""The base of the data sets that come with forger: from resident pixels to training batches."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, Literal, TypeAlias

import torch
from lightning import LightningDataModule, Trainer
from torch import Tensor

from forger.batches import IterationBatches
from forger.bounds import NonNegativeInt, PositiveInt, check_bounds
from forger.data.captions import CaptionTable
from forger.data.classes import class_names_of, count_labels
from forger.data.grouped_loader import GroupedLoader
from forger.data.loaders import ResidentLoader, StoredBatch, is_of_sources
from forger.data.members import check_members, resize_members
from forger.errors import ConfigError, DataError

Split: TypeAlias = Literal["train", "test"]
Residence = Literal["auto", "cpu", "accelerator"]

_SHARE = 4  # images that take at most a quarter of the free memory leave enough to train


class ImageDataModule(LightningDataModule, ABC):
    """Images resident as one uint8 tensor, yielded as float batches in [-1, 1].

    To add a data set, derive from this class, give `native_shape` and `classes` as class attributes
    (or properties), and write `read`. Downloads and other preparation go to `prepare_data`, which
    Lightning runs in one process per machine.

    What is trained on comes as `IterationBatches` of named tensors: `image` float32 `(B, C, H, W)`
    in [-1, 1], `label` int64 `(B,)` if there are labels, and what else `read` returns; as many
    batches as the trained module's `batches_per_iteration` says (1 where it doesn't). Only the
    official training split is trained on; `test_images` are held out for scores.

    Args:
        image_size: side of the square images in pixels; None keeps their own size.
        batch_size: images per batch of all processes together.
        flip: mirror each training image with probability 1/2.
        seed: of the order of the images and of the flips.
        device: where the training images stay: `auto` is the accelerator that trains, if they take
            at most a quarter of its free memory; `cpu`; or `accelerator`, even if they take more.
        train_limit: train on only so many images of the training split, at even distances in it,
            which leaves each class its share where they are sorted, and as many unpaired sources;
            None: on all. Scores and their classifier go by the whole split, so that they compare.

    Raises:
        ConfigError: a value is out of range, or an iteration needs more images than there are.
        DataError: the data is missing, damaged or of the wrong shape.
    """

    # The share of test images that a classifier must name rightly before scores are built on it;
    # None: metrics.min_accuracy or a default decide
    min_accuracy: float | None = None
    scores_by_default: ClassVar[bool] = False  # whether a run scores itself without being asked
    num_fake: ClassVar[int | None] = None  # images that a score generates; None: as for most data
    mapped: ClassVar[bool] = False  # whether the images are a file mapped into memory
    crop_margin: int = 0  # see `ResidentLoader`
    # Whether sources are row for row those of the images; else they have an order of their own
    paired: ClassVar[bool] = True

    def __init__(
        self,
        *,
        image_size: PositiveInt | None = None,
        batch_size: PositiveInt = 64,
        flip: bool = False,
        seed: NonNegativeInt = 0,
        device: Residence = "auto",
        train_limit: PositiveInt | None = None,
    ) -> None:
        super().__init__()
        if train_limit is not None:
            check_bounds(train_limit, PositiveInt, "data.train_limit")
        if image_size is not None:
            check_bounds(image_size, PositiveInt, "data.image_size")
        check_bounds(batch_size, PositiveInt, "data.batch_size")
        check_bounds(seed, NonNegativeInt, "seed")
        self.image_size, self.batch_size, self.flip, self.seed = image_size, batch_size, flip, seed
        self.device, self.train_limit = device, train_limit
        self._splits: dict[Split, dict[str, Tensor]] = {}

    @property
    @abstractmethod
    def native_shape(self) -> tuple[int, int, int]:
        """Shape `(C, H, W)` of the images that `read` returns."""

    @property
    def native_source_shape(self) -> tuple[int, int, int] | None:
        """Shape `(C, H, W)` of the sources that `read` returns; None: there are none."""
        return None

    @property
    def classes(self) -> tuple[str, ...] | None:
        """Names of the classes in the order of their labels, or None."""
        return None

    @property
    def channels_from(self) -> ImageDataModule | None:
        """The grey images with classes that each channel is one of; None: channels are colours."""
        return None

    @property
    def captions(self) -> CaptionTable | None:
        """The captions of its images, complete once a split was read; None: there are none."""
        return None

    @abstractmethod
    def read(self, split: Split) -> Mapping[str, Tensor]:
        """Reads one split as tensors of N rows, `{"image": images, "label": labels}`.

        `image` is uint8 `(N, C, H, W)`, `label`, if there are labels, int64 `(N,)`; both splits may
        hold others. Those that are uint8 `(N, C, H, W)` too are images: flipped with `image` and
        scaled to [-1, 1], and resized with it where they have its size. All else stays as it is.

        `caption`, int64 `(N, K)`, are the numbers of an image's captions in `captions`, of which
        each use draws one; -1 stands behind those of an image that has fewer than K.

        `source`, uint8 `(N, C, H, W)`, is what images are to be made from. Where the class says
        `paired = False`, it and what else has a name that begins so, as the classes of sources in
        `source_label`, have M rows: drawn, limited and flipped apart from the images.
        """

    def describe(self) -> list[str]:
        """Says what the plan of a run shall say of the images, beside their number and shape."""
        return []

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Shape `(C, H, W)` of the images that are trained on; known before any is read."""
        channels, height, width = self.native_shape
        size = self.image_size
        return (channels, height, width) if size is None else (channels, size, size)

    @property
    def source_shape(self) -> tuple[int, int, int] | None:
        """Shape `(C, H, W)` of the sources in batches, known before any is read; None: no sources.

        Sources as high and wide as the images are resized with them.
        """
        native = self.native_source_shape
        resized = native is not None and native[1:] == self.native_shape[1:]
        return (native[0], *self.image_shape[1:]) if native is not None and resized else native

    def setup(self, stage: str | None = None) -> None:
        """Reads the training split for "fit" (and None); the test split waits for its use."""
        if stage in ("fit", None):
            self._split("train")

    @property
    def train_images(self) -> Tensor:
        """The training split, uint8 `(N, C, H, W)`; read on first use."""
        return self._split("train")["image"]

    @property
    def train_labels(self) -> Tensor | None:
        """The labels of the training split, int64 `(N,)`, or None."""
        return self._split("train").get("label")

    @property
    def test_images(self) -> Tensor:
        """The held-out split, uint8 `(M, C, H, W)`; read on first use."""
        return self._split("test")["image"]

    @property
    def test_labels(self) -> Tensor | None:
        """The labels of the held-out split, int64 `(M,)`, or None."""
        return self._split("test").get("label")

    @property
    def train_sources(self) -> Tensor:
        """What images of the training split are made from, uint8 `(N or M, C, H, W)`."""
        return self._split("train")["source"]

    @property
    def test_sources(self) -> Tensor:
        """What held-out images are made from, uint8 `(N or M, C, H, W)`."""
        return self._split("test")["source"]

    @property
    def train_source_labels(self) -> Tensor | None:
        """The labels of the training sources, which pairs share, or None."""
        return self._split("train").get("label" if self.paired else "source_label")

    @property
    def test_source_labels(self) -> Tensor | None:
        """The labels of the held-out sources, which pairs share, or None."""
        return self._split("test").get("label" if self.paired else "source_label")

    @property
    def train_captions(self) -> Tensor:
        """The numbers of the captions of the training split, int64 `(N, K)`."""
        return self._split("train")["caption"]

    @property
    def test_captions(self) -> Tensor:
        """The numbers of the captions of held-out images, int64 `(M, K)`."""
        return self._split("test")["caption"]

    def captions_of(self, split: Split, rows: Tensor) -> list[str]:
        """Returns the first caption of some images."""
        assert self.captions is not None
        texts, numbers = self.captions.texts, self._split(split)["caption"][rows, 0]
        return [texts[number] for number in numbers.tolist()]

    @property
    def num_train_images(self) -> int:
        """Number of images that are trained on."""
        return len(self.train_images) if self.train_limit is None else len(self.trained_rows)

    @property
    def trained_rows(self) -> Tensor:
        """Which images of the training split are trained on, int64.

        Raises:
            ConfigError: there are fewer than `train_limit`.
        """
        count = len(self.train_images)
        wanted = count if self.train_limit is None else self.train_limit
        if wanted > count:
            raise ConfigError(
                f"data.train_limit={wanted}: there are {count} training images; write that or less,"
                " or leave it out"
            )
        return spread_rows(wanted, count)

    @property
    def train_bytes(self) -> int:
        """Bytes of the training split, labels and all other members included."""
        return sum(one.nbytes for one in self._split("train").values())

    @property
    def class_counts(self) -> Tensor:
        """How many training images each class has, int64 `(K,)`.

        Raises:
            ConfigError: there are fewer than two classes.
            DataError: there are no labels, or others than whole numbers from 0 to K - 1.
        """
        names, name = class_names_of(self), type(self).__name__
        if self.train_labels is None:
            raise DataError(
                f"condition=label: {name} names its classes, but has no labels; {name}.read must"
                ' return {"image": images, "label": labels}'
            )
        return count_labels(self._trained("label", self.train_labels), len(names), name)

    def train_dataloader(self) -> GroupedLoader:
        """Returns the loader of whole iterations; without a trainer it stays at epoch 0."""
        trainer = self.trainer
        size = getattr(getattr(trainer, "lightning_module", None), "batches_per_iteration", 1)
        self.check_enough(size)
        device = trainer.strategy.root_device if trainer else torch.device("cpu")
        stays = self.residence(device)
        loader = ResidentLoader(
            {k: self._trained(k, one).to(stays) for k, one in self._split("train").items()},
            batch_size=self.batch_size,
            seed=self.seed,
            # Overfitting means the same batches in every epoch.
            epoch=lambda: 0 if trainer is None or overfits(trainer) else trainer.current_epoch,
            flip=self.flip,
            crop_margin=self.crop_margin,
            paired=self.paired,
            rank=trainer.global_rank if trainer else 0,
            world_size=trainer.world_size if trainer else 1,
            pin=device.type == "cuda" and stays.type == "cpu",
        )
        return GroupedLoader(loader, size)

    def residence(self, device: torch.device) -> torch.device:
        """Returns where the training images stay while `device` trains."""
        if device.type == "cpu" or self.device == "cpu":
            return torch.device("cpu")
        fits = self.train_bytes * _SHARE <= _free_bytes(device)
        return device if fits or self.device == "accelerator" else torch.device("cpu")

    def check_enough(self, batches: int) -> None:
        """Raises `ConfigError` unless there are images for one iteration of so many batches."""
        if self.num_train_images < batches * self.batch_size:
            raise ConfigError(
                f"data.batch_size={self.batch_size}: one iteration takes {batches} batches "
                f"(n_critic x accumulation), {batches * self.batch_size} images, but there are "
                f"{self.num_train_images} training images; "
                f"write data.batch_size={max(1, self.num_train_images // batches)} or less"
            )

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Flips and scales on the device; a batch of a loader that isn't ours passes unchanged."""
        if isinstance(batch, IterationBatches):
            return IterationBatches(self.on_after_batch_transfer(b, dataloader_idx) for b in batch)
        return batch.scaled() if isinstance(batch, StoredBatch) else batch

    def _trained(self, name: str, member: Tensor) -> Tensor:
        if self.train_limit is None:
            return member
        if self.paired or not is_of_sources(name):
            return member[self.trained_rows]
        return member[spread_rows(min(self.train_limit, len(member)), len(member))]

    def _split(self, split: Split) -> dict[str, Tensor]:
        if split not in self._splits:
            reader = f"{type(self).__name__}.read({split!r})"
            shapes = self.native_shape, reader, self.native_source_shape
            members = check_members(self.read(split), *shapes, self.paired)
            self._splits[split] = resize_members(members, self.image_size)
        return self._splits[split]


def spread_rows(wanted: int, count: int) -> Tensor:
    """Returns so many of `count` rows at even distances, int64 `(wanted,)`."""
    return torch.arange(wanted) * count // wanted


def overfits(trainer: Trainer) -> bool:
    """Tells whether the trainer repeats a few batches (`overfit_batches`)."""
    return bool(trainer.overfit_batches > 0)  # type: ignore[attr-defined]


def _free_bytes(device: torch.device) -> int:
    """Returns the accelerator's free memory; 0 where it does not tell."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    if device.type == "mps":
        return torch.mps.recommended_max_memory() - torch.mps.driver_allocated_memory()
    return 0
