"""The progress of a run: a bar on a terminal, lines in the log elsewhere."""

from __future__ import annotations

import logging
import math
import time
from contextlib import ExitStack
from datetime import timedelta
from typing import Any

from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import ProgressBar as LightningProgressBar
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

log = logging.getLogger(__name__)

_REDRAW = 0.25  # seconds between two drawings of the bar
_LINE = 30.0  # seconds between two log lines, at least; they grow rarer as the run grows longer


class ProgressBar(LightningProgressBar):
    """Shows iteration, epoch, both losses, images per second, time elapsed and time left.

    On a terminal this is one bar over the whole run. Elsewhere it is a line in the log: one every
    30 seconds, later one every tenth of the time elapsed, and one at the end. It never makes the
    device wait: the numbers are those of the last row of metrics.
    """

    def __init__(self) -> None:
        super().__init__()
        self._enabled = True
        self._open = ExitStack()  # the bar, and the log's way past it

    def enable(self) -> None:
        """Shows progress in later calls of `fit`."""
        self._enabled = True

    def disable(self) -> None:
        """Shows nothing; Lightning calls this in processes of a rank above 0."""
        self._enabled = False

    def on_train_start(self, trainer: Trainer, *_: Any) -> None:
        """Starts the clock, and the bar at the iteration that a resumed run has reached."""
        self._first, self._epoch = trainer.global_step, trainer.current_epoch
        total = trainer.estimated_stepping_batches
        self._total = int(total) if 0 < total < math.inf else None
        hidden = None if self._enabled else True  # None: where there is no terminal
        self._bar = self._open.enter_context(
            tqdm(total=self._total, initial=self._first, disable=hidden, dynamic_ncols=True)
        )
        if not self._bar.disable:
            self._open.enter_context(logging_redirect_tqdm())
        self._began = time.monotonic()
        self._next = self._began + (_LINE if self._bar.disable else _REDRAW)

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        """Shows how far it is, when it is time to."""
        self._epoch = trainer.current_epoch
        if self._enabled and time.monotonic() >= self._next:
            self._show(trainer)

    def on_train_end(self, trainer: Trainer, *_: Any) -> None:
        """Shows where the run ended."""
        if self._enabled:
            self._show(trainer)
        self._open.close()

    def on_exception(self, *_: Any) -> None:
        """Gives the terminal back before the error is told."""
        self._open.close()

    def _show(self, trainer: Trainer) -> None:
        now, step, metrics = time.monotonic(), trainer.global_step, trainer.callback_metrics
        elapsed, done = now - self._began, step - self._first
        parts = [f"epoch {self._epoch + 1}"]
        for name in ("loss_g", "loss_d"):
            if f"train/{name}" in metrics:
                parts.append(f"{name} {float(metrics[f'train/{name}']):.4g}")
        if "train/images_per_second" in metrics:
            parts.append(f"{float(metrics['train/images_per_second']):.0f} images/s")
        if not self._bar.disable:
            self._next = now + _REDRAW
            self._bar.n = step
            self._bar.set_postfix_str(", ".join(parts))  # draws
            return
        self._next = now + max(_LINE, elapsed / 10)
        spent, left = timedelta(seconds=round(elapsed)), "?"
        if self._total is not None and done > 0:
            left = str(timedelta(seconds=round(elapsed / done * (self._total - step))))
        numbers = ", ".join([f"{step}/{self._total or '?'}", *parts])
        log.info("iteration %s, %s elapsed, %s left", numbers, spent, left)
