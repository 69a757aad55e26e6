"""Data modules: verified images, resident as uint8, yielded as batches in [-1, 1]."""

from __future__ import annotations

from forger.batches import IterationBatches
from forger.data.captioned_digits import CaptionedMNIST, CaptionedSample
from forger.data.captioned_folder import CaptionedFolder
from forger.data.classes import class_counts_of, class_names_of
from forger.data.folder import ImageFolder
from forger.data.grouped_loader import GroupedLoader
from forger.data.made_pairs import (
    EdgesToDigits,
    GreyToColour,
    GreyToColourFolder,
    MaskedToWhole,
    MaskedToWholeFolder,
)
from forger.data.module import ImageDataModule
from forger.data.other_digits import DigitsToMNIST, RenderedDigits
from forger.data.own_module import GroupedDataModule
from forger.data.sample import MNISTSample
from forger.data.stacked_mnist import StackedMNIST
from forger.data.torchvision_sets import CIFAR10, MNIST, FashionMNIST
from forger.data.two_sided_folders import PairedFolder, UnpairedFolder

__all__ = [
    "CIFAR10",
    "MNIST",
    "CaptionedFolder",
    "CaptionedMNIST",
    "CaptionedSample",
    "DigitsToMNIST",
    "EdgesToDigits",
    "FashionMNIST",
    "GreyToColour",
    "GreyToColourFolder",
    "GroupedDataModule",
    "GroupedLoader",
    "ImageDataModule",
    "ImageFolder",
    "IterationBatches",
    "MNISTSample",
    "MaskedToWhole",
    "MaskedToWholeFolder",
    "PairedFolder",
    "RenderedDigits",
    "StackedMNIST",
    "UnpairedFolder",
    "class_counts_of",
    "class_names_of",
]
