"""What happens around training: sample grids, progress, checkpoints. None of it changes a bit."""

from __future__ import annotations

from forger.callbacks.checkpoint import Checkpoint
from forger.callbacks.curves import MetricCurves
from forger.callbacks.film import TrainingFilm
from forger.callbacks.progress import Progress
from forger.callbacks.samples import SampleGrid

__all__ = ["Checkpoint", "MetricCurves", "Progress", "SampleGrid", "TrainingFilm"]
