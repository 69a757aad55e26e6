"""Where the numbers and pictures of a run go: `metrics.csv`, and trackers beside it."""

from __future__ import annotations

from forger.loggers.metrics_csv import MetricsCSV
from forger.loggers.mlflow import MLflow
from forger.loggers.tensorboard import TensorBoard
from forger.loggers.tracker import Tracker, close_trackers, send_checkpoints, trackers_of
from forger.loggers.wandb import Wandb

__all__ = ["MLflow", "MetricsCSV", "TensorBoard", "Tracker", "Wandb"]
__all__ += ["close_trackers", "send_checkpoints", "trackers_of"]
