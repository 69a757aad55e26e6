"""What stands between images and the discriminator, for real and fake ones alike."""

from forger.augment.ada import ADA
from forger.augment.base import Augment
from forger.augment.diffaugment import DiffAugment

__all__ = ["ADA", "Augment", "DiffAugment"]
