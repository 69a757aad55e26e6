"""Where numbers and pictures of a run go: its CSV file and the trackers beside it."""

from __future__ import annotations

from forger.loggers.history import Earlier
from forger.loggers.metrics_csv import MetricsCSV
from forger.loggers.ml_flow import MLflow
from forger.loggers.tensor_board import TensorBoard
from forger.loggers.tracker import Tracker
from forger.loggers.trackers import close_loggers, log_best, log_image, send_best, send_models
from forger.loggers.wandb_parts import check_wandb_login
from forger.loggers.weights_and_biases import Wandb

__all__ = [
    "Earlier",
    "MLflow",
    "MetricsCSV",
    "TensorBoard",
    "Tracker",
    "Wandb",
    "check_wandb_login",
    "close_loggers",
    "log_best",
    "log_image",
    "send_best",
    "send_models",
]
