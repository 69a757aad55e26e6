"""Data modules: verified images, resident as uint8, yielded as batches in [-1, 1]."""

from __future__ import annotations

from forger.batches import IterationBatches
from forger.data.classes import class_counts_of, class_names_of
from forger.data.folder import ImageFolder
from forger.data.loaders import GroupedLoader
from forger.data.module import ImageDataModule
from forger.data.own_module import GroupedDataModule
from forger.data.sample import MNISTSample
from forger.data.stacked_mnist import StackedMNIST
from forger.data.torchvision_sets import CIFAR10, MNIST, FashionMNIST

__all__ = [
    "CIFAR10",
    "MNIST",
    "FashionMNIST",
    "GroupedDataModule",
    "GroupedLoader",
    "ImageDataModule",
    "ImageFolder",
    "IterationBatches",
    "MNISTSample",
    "StackedMNIST",
    "class_counts_of",
    "class_names_of",
]
