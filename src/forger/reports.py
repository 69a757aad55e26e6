"""The rows of metrics that a training writes. Owns when they are due and what stands in them.

This is the only place where training waits for numbers from the device.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from forger.gan import GAN


class Reporter:
    """Writes a row to every logger at an interval and at the last iteration.

    Rows go to the loggers directly, under the iteration's number: `self.log` would count
    Lightning's steps and cost time at every one. They are written within the iteration, so
    that no checkpoint is ever ahead of its metrics.

    Args:
        gan: being trained.
    """

    def __init__(self, gan: GAN) -> None:
        self.gan = gan
        self.every = gan.trainer.log_every_n_steps  # type: ignore[attr-defined]
        self.total = gan.trainer.estimated_stepping_batches
        self._last = (time.perf_counter(), gan.images_seen)

    def due(self, iteration: int) -> bool:
        """Tells whether this iteration writes a row."""
        return iteration == self.total or (self.every > 0 and iteration % self.every == 0)

    def write(self, game: dict[str, Tensor], iteration: int) -> None:
        """Writes the row of an iteration: `game` averaged over processes, rates, speed, images."""
        gan = self.gan
        values = torch.stack([value.detach().float() for value in game.values()])
        values = gan.trainer.strategy.reduce(values, reduce_op="mean")
        row = {f"train/{k}": v for k, v in zip(game, values.tolist(), strict=True)}
        for name, optimizer in zip(("lr_g", "lr_d"), gan.trainer.optimizers, strict=True):
            row[f"train/{name}"] = optimizer.param_groups[0]["lr"]
        row["train/images_per_second"] = self._speed()
        row["train/images_seen"] = gan.images_seen
        row["epoch"] = gan.current_epoch
        gan.log_dict({k: float(v) for k, v in row.items()}, logger=False)
        for logger in gan.loggers:
            logger.log_metrics(row, step=iteration)

    def _speed(self) -> float:
        """Returns real images per second since the last row."""
        now, (then, seen) = time.perf_counter(), self._last
        self._last = (now, self.gan.images_seen)
        return (self.gan.images_seen - seen) / (now - then)
