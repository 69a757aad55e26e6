"""The classes of any data module: their names, and how many training images each has."""

from __future__ import annotations

import torch
from lightning import LightningDataModule
from torch import Tensor

from forger.batches import check_labels
from forger.errors import ConfigError, DataError


def class_names_of(datamodule: LightningDataModule) -> tuple[str, ...]:
    """Returns the names of the classes in the order of their labels; no image is read for it.

    They are the module's attribute `classes`, or else "0", "1", ... of its attribute `num_classes`.

    Raises:
        ConfigError: the module has neither, or fewer than two classes.
    """
    names, number = (getattr(datamodule, name, None) for name in ("classes", "num_classes"))
    if names is None and isinstance(number, int):
        names = range(number)
    found = "none" if names is None else repr(names)
    if isinstance(names, (tuple, list, range)):
        if len(names) >= 2:
            return tuple(map(str, names))
        found = str(len(names))
    raise ConfigError(
        f"condition=label: needs data of two classes or more, and {type(datamodule).__name__} has"
        f" {found}; put a folder's images into a sub-folder for each class, and give a data module"
        ' of your own an attribute, classes = ("cat", "dog") or num_classes = 2, and labels'
    )


def class_counts_of(datamodule: LightningDataModule, num_classes: int) -> Tensor:
    """Returns how many training images each class has, int64 `(num_classes,)`.

    That is the module's attribute `class_counts`, which an `ImageDataModule` counts; without one
    all classes are taken to be equally frequent, and counted as 1.

    Raises:
        DataError: the attribute is no such thing, or the labels that it counts are wrong.
    """
    given = getattr(datamodule, "class_counts", None)
    if given is None:
        return torch.ones(num_classes, dtype=torch.int64)
    counts = torch.as_tensor(given)
    whole = not counts.is_floating_point() and counts.shape == (num_classes,)
    if not whole or counts.min() < 0 or counts.sum() == 0:
        raise DataError(
            f"{type(datamodule).__name__}.class_counts={given}: must be {num_classes} whole numbers"
            " of at least 0, how many training images each class has, and not all of them 0"
        )
    return counts.long()


def count_labels(labels: Tensor, num_classes: int, name: str) -> Tensor:
    """Counts the labels `(N,)` of each class, int64 `(num_classes,)`; 0 where a class has none.

    Args:
        labels: whole numbers from 0 to `num_classes` - 1.
        num_classes: number of classes.
        name: of the data, for messages.

    Raises:
        DataError: a label is of no class.
    """
    check_labels(labels, num_classes, name)
    return torch.bincount(labels, minlength=num_classes)
