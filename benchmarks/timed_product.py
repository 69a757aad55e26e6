"""What the throughput benchmark adds to the product's own run: a clock, and more digits.

The product is started as a user starts it, with these two named on its command line.
"""

from __future__ import annotations

from typing import Any

import torch
from lightning.pytorch import Callback, Trainer
from stopwatch import Stopwatch
from torch import Tensor

from forger.data import MNISTSample

DIGITS = 60_000  # as many as MNIST has: an epoch ends as rarely


class Clock(Callback):
    """Reads the clock at the end of each iteration; arguments as in `Stopwatch`.

    Nothing that the product reports is used: its own speed leaves out what is not training.
    """

    def __init__(self, output: str, warm_up: int, iterations: int, images: int) -> None:
        self._stopwatch = Stopwatch(output, warm_up, iterations, images)

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        """Counts one iteration."""
        if trainer.is_global_zero:
            self._stopwatch.tick(trainer.global_step)


class TiledDigits(MNISTSample):
    """The digits of `data=mnist_sample`, again and again up to MNIST's number."""

    def read(self, split: Any) -> dict[str, Tensor]:
        """Reads one split, and repeats that for training."""
        members = super().read(split)
        if split == "test":
            return members
        rows = torch.arange(DIGITS) % len(members["image"])
        return {name: one[rows] for name, one in members.items()}
