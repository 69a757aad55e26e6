"""Data modules: verified images, resident as uint8, yielded as batches in [-1, 1]."""

from __future__ import annotations

from forger.data.folder import ImageFolder
from forger.data.foreign import GroupedDataModule
from forger.data.module import ImageDataModule
from forger.data.parts import Grouped
from forger.data.sample import MNISTSample
from forger.data.torchvision_sets import CIFAR10, MNIST, FashionMNIST
from forger.parts import Parts

__all__ = [
    "CIFAR10",
    "MNIST",
    "FashionMNIST",
    "Grouped",
    "GroupedDataModule",
    "ImageDataModule",
    "ImageFolder",
    "MNISTSample",
    "Parts",
]
