"""What stands between images and the discriminator, for real and fake ones alike."""

from forger.augment.base import Augment
from forger.augment.diffaugment import DiffAugment

__all__ = ["Augment", "DiffAugment"]
