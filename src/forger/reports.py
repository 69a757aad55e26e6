"""Writes the metrics rows of a training; nowhere else does it wait for numbers of the device."""

from __future__ import annotations

import time
from collections.abc import Mapping

import torch
from lightning import LightningModule, Trainer
from torch import Tensor


def show(trainer: Trainer, values: Mapping[str, float]) -> None:
    """Makes the values known to callbacks, as the slow `self.log(..., logger=False)` would."""
    tensors = {key: torch.tensor(value, dtype=torch.float32) for key, value in values.items()}
    trainer.callback_metrics.update(tensors)


class Reporter:
    """Writes a row to every logger at an interval and at the last iteration.

    Rows go to the loggers under the iteration's number, within the iteration: no checkpoint is
    ever ahead of its metrics.
    """

    def __init__(self, module: LightningModule, images_seen: int) -> None:
        self.module = module
        self.every = module.trainer.log_every_n_steps  # type: ignore[attr-defined]
        self.total = module.trainer.estimated_stepping_batches
        self._last = (time.perf_counter(), images_seen)

    def due(self, iteration: int) -> bool:
        """Tells whether this iteration writes a row."""
        return iteration == self.total or (self.every > 0 and iteration % self.every == 0)

    def write(
        self,
        metrics: dict[str, Tensor],
        iteration: int,
        images_seen: int,
        scheduled: Mapping[str, float],
    ) -> None:
        """Writes a row: `metrics` averaged over processes, learning rates, speed and images.

        `scheduled` are other settings that follow a schedule.
        """
        module = self.module
        # The norm of no gradient at all lies on the CPU.
        wide = (value.detach().to(module.device, torch.float32) for value in metrics.values())
        values = torch.stack([*wide])
        values = module.trainer.strategy.reduce(values, reduce_op="mean")
        row = {f"train/{k}": v for k, v in zip(metrics, values.tolist(), strict=True)}
        for name, optimizer in zip(("lr_g", "lr_d"), module.trainer.optimizers, strict=True):
            row[f"train/{name}"] = optimizer.param_groups[0]["lr"]
        row |= {f"train/{name}": value for name, value in scheduled.items()}
        now, (then, seen) = time.perf_counter(), self._last
        self._last = (now, images_seen)
        row["train/images_per_second"] = (images_seen - seen) / (now - then)
        row["train/images_seen"] = images_seen
        row["epoch"] = module.current_epoch
        show(module.trainer, row)
        for logger in module.loggers:
            logger.log_metrics(row, step=iteration)

    def leave_out(self, seconds: float) -> None:
        """Leaves time that was spent on something else than training out of the speed."""
        then, seen = self._last
        self._last = (then + seconds, seen)
