"""The labelled images that the classifier learns from. Owns the check that there are any."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from forger.errors import DataError
from forger.metrics.extractor import ImageData

WAYS_OUT = (
    "write metrics.features=pixels (crude, but needs nothing else) or"
    " metrics.features=inception metrics.inception_weights=<file>"
)


class Labelled(NamedTuple):
    """Both splits with their labels.

    Attributes:
        train_images: uint8 `(N, C, H, W)`.
        train_labels: int64 `(N,)`, each below the number of classes.
        test_images: uint8 `(M, C, H, W)`.
        test_labels: int64 `(M,)`, the same.
        classes: their names.
    """

    train_images: Tensor
    train_labels: Tensor
    test_images: Tensor
    test_labels: Tensor
    classes: tuple[str, ...]


def labelled(data: ImageData) -> Labelled:
    """Reads both splits.

    Raises:
        DataError: a split or its labels are missing, or there is only one class.
    """
    name = type(data).__name__
    train_labels = data.train_labels
    if train_labels is None:
        raise DataError(
            f"metrics.features=classifier: {name} has no labels to train a classifier on;"
            f" {WAYS_OUT}; the sub-folders of a folder of images would be its classes"
        )
    test_labels = data.test_labels
    if test_labels is None:
        raise DataError(
            f"metrics.features=classifier: the test images of {name} have no labels to test a "
            f"classifier on; {WAYS_OUT}"
        )
    count = int(max(train_labels.max(), test_labels.max())) + 1
    classes = data.classes or tuple(str(label) for label in range(count))
    if len(classes) < 2:
        raise DataError(
            f"metrics.features=classifier: {name} has a single class, {classes[0]!r}, and a "
            f"classifier needs two or more; {WAYS_OUT}"
        )
    lowest = int(min(train_labels.min(), test_labels.min()))
    if lowest < 0 or count > len(classes):
        raise DataError(
            f"{name}: has labels from {lowest} to {count - 1}, but names {len(classes)} classes"
        )
    return Labelled(data.train_images, train_labels, data.test_images, test_labels, classes)
