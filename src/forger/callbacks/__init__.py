"""What happens around training: sample grids, progress, checkpoints. None of it changes a bit."""

from __future__ import annotations

from forger.callbacks.checkpoint import Checkpoint
from forger.callbacks.metric_curves import MetricCurves
from forger.callbacks.progress_bar import ProgressBar
from forger.callbacks.sample_grid import SampleGrid
from forger.callbacks.training_gif import TrainingGif

__all__ = ["Checkpoint", "MetricCurves", "ProgressBar", "SampleGrid", "TrainingGif"]

Progress = ProgressBar  # their names in the configs of earlier runs
TrainingFilm = TrainingGif
