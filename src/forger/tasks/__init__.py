"""The games that a generator and a discriminator play; `forger.gan` trains both sides of any."""

from forger.tasks.base import Batch, Task, Terms
from forger.tasks.cut import Cut
from forger.tasks.cycle import Cycle
from forger.tasks.from_noise import FromNoise
from forger.tasks.image_task import ImageTask
from forger.tasks.paired import Paired
from forger.tasks.refine import Refine
from forger.tasks.stages import Stages

__all__ = [
    "Batch",
    "Cut",
    "Cycle",
    "FromNoise",
    "ImageTask",
    "Paired",
    "Refine",
    "Stages",
    "Task",
    "Terms",
]
