"""What happens around training: sample grids, progress, checkpoints. None of it changes a bit."""

from __future__ import annotations

from forger.callbacks.checkpoint import Checkpoint
from forger.callbacks.final_pictures import MetricCurves, TrainingGif
from forger.callbacks.progress_bar import ProgressBar
from forger.callbacks.sample_grid import SampleGrid

__all__ = ["Checkpoint", "MetricCurves", "ProgressBar", "SampleGrid", "TrainingGif"]

Progress = ProgressBar  # their names in the configs of earlier runs
TrainingFilm = TrainingGif
