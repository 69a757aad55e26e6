"""The games that a generator and a discriminator play; `forger.gan` trains both sides of any."""

from forger.tasks.base import Batch, Task, Terms
from forger.tasks.from_noise import FromNoise
from forger.tasks.image_task import ImageTask

__all__ = ["Batch", "FromNoise", "ImageTask", "Task", "Terms"]
