"""A data module of the user's own: grouped into iterations, and looked at before training."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import Any

from lightning import LightningDataModule, Trainer
from lightning.pytorch.utilities import CombinedLoader
from torch import Tensor
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    DistributedSampler,
    IterableDataset,
    RandomSampler,
    SequentialSampler,
    default_collate,
)

from forger.batches import (
    IterationBatches,
    check_form,
    check_labels,
    check_values,
    images_of,
    members_of,
)
from forger.bounds import PositiveInt
from forger.data.grouped_loader import GroupedLoader
from forger.data.module import overfits
from forger.errors import ConfigError, DataError
from forger.random_state import random_states, set_random_states
from forger.seeds import Purpose, seed_for

# Set on the instance, so that Lightning sees which of these the wrapped module defines.
_DELEGATED = (
    *("prepare_data", "setup", "teardown", "state_dict", "load_state_dict", "on_exception"),
    *("val_dataloader", "test_dataloader", "predict_dataloader"),
)
_OF_BATCHES = ("on_before_batch_transfer", "transfer_batch_to_device", "on_after_batch_transfer")
# What a DataLoader with another sampler takes over
_KEPT = (
    *("batch_size", "num_workers", "collate_fn", "pin_memory", "drop_last", "timeout"),
    *("worker_init_fn", "multiprocessing_context", "generator", "prefetch_factor"),
    "persistent_workers",
)


class GroupedDataModule(LightningDataModule):
    """A data module whose training batches come as `IterationBatches`; else the wrapped one's own.

    The transfer hooks of the wrapped module see each batch by itself. Under several processes its
    `DataLoader` gets a `DistributedSampler`, as Lightning would give it: then its batch size counts
    per process. Under `overfit_batches` its order stays fixed. An incomplete last batch is dropped.

    Args:
        datamodule: the module to wrap; its `train_dataloader` returns one loader.
        size: batches of one iteration.
        seed: of the order under several processes.
    """

    def __init__(self, datamodule: LightningDataModule, size: PositiveInt, seed: int = 0) -> None:
        self.datamodule = datamodule  # first: the setter of `trainer` needs it
        super().__init__()
        self.size, self.seed = size, seed
        self.prepare_data_per_node = datamodule.prepare_data_per_node
        for name in _DELEGATED:
            setattr(self, name, getattr(datamodule, name))
        for name in _OF_BATCHES:
            setattr(self, name, partial(self._each, name))

    @property
    def trainer(self) -> Trainer | None:
        """The trainer, which the wrapped module shares."""
        return self.datamodule.trainer

    @trainer.setter
    def trainer(self, trainer: Trainer | None) -> None:
        self.datamodule.trainer = trainer

    @property
    def class_counts(self) -> Any:
        """How many training images each class has, where the wrapped module tells."""
        return getattr(self.datamodule, "class_counts", None)

    def train_dataloader(self) -> GroupedLoader:
        """Groups the wrapped module's training batches."""
        name = type(self.datamodule).__name__
        if type(self.datamodule).train_dataloader is LightningDataModule.train_dataloader:
            raise ConfigError(f"data={name}: needs a method train_dataloader")
        loader = self.datamodule.train_dataloader()
        several = isinstance(loader, (list, tuple, dict, CombinedLoader))
        if several or not isinstance(loader, Iterable):
            found = type(loader).__name__
            raise ConfigError(f"{name}.train_dataloader: must return one loader, not {found}")
        if isinstance(loader, DataLoader):
            loader = self._sampled(loader)
            batches = loader.batch_sampler
            if type(batches) is BatchSampler and (_length(loader) or 0) > 1:
                batches.drop_last = True
            if loader.collate_fn is default_collate:
                loader.collate_fn = _collate
        length = _length(loader)
        if length is not None and length < self.size:
            raise ConfigError(
                f"{name}.train_dataloader: has {length} batches per process, and one iteration"
                f" takes {self.size} (n_critic x accumulation); lower its batch size"
            )
        return GroupedLoader(loader, self.size)

    def _each(self, hook: str, batch: Any, *args: Any) -> Any:
        """Calls a hook of the wrapped module for each batch of an iteration."""
        call = getattr(self.datamodule, hook)
        if isinstance(batch, IterationBatches):
            return IterationBatches(call(one, *args) for one in batch)
        return call(batch, *args)

    def _sampled(self, loader: DataLoader[Any]) -> DataLoader[Any]:
        """Replaces the sampler of a map-style DataLoader where the trainer needs another."""
        trainer = self.trainer
        inner = getattr(loader.batch_sampler, "sampler", loader.sampler)
        if trainer is None or isinstance(loader.dataset, IterableDataset):
            return loader
        if trainer.world_size > 1 and isinstance(inner, DistributedSampler):
            return loader
        if trainer.world_size == 1 and not (overfits(trainer) and _is_plain(loader)):
            return loader
        if not _is_plain(loader):
            raise ConfigError(
                f"{type(self.datamodule).__name__}.train_dataloader: has its own order, which "
                f"can't be divided among {trainer.world_size} processes; "
                "give it a torch.utils.data.DistributedSampler"
            )
        sampler: DistributedSampler[Any] = DistributedSampler(
            loader.dataset,
            num_replicas=trainer.world_size,
            rank=trainer.global_rank,
            shuffle=isinstance(inner, RandomSampler) and not overfits(trainer),
            seed=seed_for(Purpose.ORDER, self.seed),
            drop_last=True,
        )
        settings: dict[str, Any] = {name: getattr(loader, name) for name in _KEPT}
        return DataLoader(loader.dataset, sampler=sampler, **settings)


def first_images(datamodule: LightningDataModule, num_classes: int = 0) -> Tensor:
    """Reads a batch as training will, and returns its images; no random state changes.

    Args:
        datamodule: the module.
        num_classes: of labels that the batch must hold; 0: it need not.

    Raises:
        ConfigError: the module gives no loader, or the loader no batch.
        DataError: the batch holds no images `(B, C, H, W)` in [-1, 1], or no labels of the classes.
    """
    datamodule.prepare_data()
    datamodule.setup("fit")
    before = random_states()
    loader = GroupedDataModule(datamodule, 1).train_dataloader()
    state = loader.generator_state
    first = next(iter(loader), None)
    loader.set_generator(state)
    if first is None:
        raise ConfigError(f"data={type(datamodule).__name__}: train_dataloader gives no batch")
    try:
        batch = datamodule.on_before_batch_transfer(first[0], 0)
        batch, moved = datamodule.on_after_batch_transfer(batch, 0), True
    except Exception:  # a hook may need the trainer, which there is not yet
        batch, moved = first[0], False
    images: Tensor = images_of(batch)
    check_form(images)
    if moved:
        check_values(images)
    if moved and num_classes:
        labels = members_of(batch, ("label",))["label"]
        check_labels(labels, num_classes, type(datamodule).__name__)
    set_random_states(before)
    return images


def _collate(samples: list[Any]) -> Any:
    """Puts samples together as torch does; raises `DataError` where it cannot."""
    try:
        return default_collate(samples)
    except (RuntimeError, TypeError) as error:
        raise DataError(
            f"real images: cannot be put together to a batch: {error}; give your data set a"
            " transform that makes tensors of one size, such as Resize and ToTensor"
        ) from error


def _length(loader: Iterable[Any]) -> int | None:
    try:
        return len(loader)  # type: ignore[arg-type]
    except (TypeError, NotImplementedError):  # as Lightning asks
        return None


def _is_plain(loader: DataLoader[Any]) -> bool:
    """Tells whether torch's own classes alone decide the order, so that it can be rebuilt."""
    return (
        type(loader) is DataLoader
        and type(loader.sampler) in (RandomSampler, SequentialSampler)
        and type(loader.batch_sampler) in (BatchSampler, type(None))
    )
