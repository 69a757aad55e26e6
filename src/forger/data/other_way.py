"""Data of sources and images seen from its other side."""

from __future__ import annotations

import torch
from torch import Tensor

from forger.data.module import ImageDataModule, spread_rows


class OtherWay:
    """What scores read of a data set, with sources in the place of images and images in theirs.

    Args:
        data: has sources.
    """

    channels_from: ImageDataModule | None = None
    min_accuracy: float | None = None
    num_fake: int | None = None

    def __init__(self, data: ImageDataModule) -> None:
        self.data, self.paired, self.classes = data, data.paired, data.classes

    @property
    def source_shape(self) -> tuple[int, int, int]:
        """Shape of the images."""
        return self.data.image_shape

    @property
    def train_images(self) -> Tensor:
        """The training sources."""
        return self.data.train_sources

    @property
    def train_labels(self) -> Tensor | None:
        """Their labels."""
        return self.data.train_source_labels

    @property
    def trained_rows(self) -> Tensor:
        """Which of them are trained on."""
        count, limit = len(self.data.train_sources), self.data.train_limit
        return torch.arange(count) if limit is None else spread_rows(min(limit, count), count)

    @property
    def test_images(self) -> Tensor:
        """The held-out sources."""
        return self.data.test_sources

    @property
    def test_labels(self) -> Tensor | None:
        """Their labels."""
        return self.data.test_source_labels

    @property
    def train_sources(self) -> Tensor:
        """The training images."""
        return self.data.train_images

    @property
    def test_sources(self) -> Tensor:
        """The held-out images."""
        return self.data.test_images

    @property
    def train_source_labels(self) -> Tensor | None:
        """Their labels."""
        return self.data.train_labels

    @property
    def test_source_labels(self) -> Tensor | None:
        """Their labels."""
        return self.data.test_labels
