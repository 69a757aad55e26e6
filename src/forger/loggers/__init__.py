"""Where numbers and pictures of a run go: its CSV file and the trackers beside it."""

from __future__ import annotations

from forger.loggers.metrics_csv import MetricsCSV
from forger.loggers.trackers import close_loggers, log_image
from forger.loggers.weights_and_biases import Wandb, check_wandb_login

__all__ = ["MetricsCSV", "Wandb", "check_wandb_login", "close_loggers", "log_image"]
