"""Progress of the whole run in iterations. Owns what is shown and when, not how it is drawn."""

from __future__ import annotations

import logging
import math
import time
from typing import Any

from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import ProgressBar, Timer
from rich.console import Console

from forger.callbacks.bar import Bar

log = logging.getLogger(__name__)

_REDRAW = 0.25  # seconds between two drawings of the bar, and between two readings of metrics
_LINE = 30.0  # seconds between two log lines, at least; they grow rarer as the run grows longer


class Progress(ProgressBar):
    """Shows iteration, epoch, both losses, images per second, time elapsed and time left.

    On a terminal this is one bar over the whole run. Elsewhere it is a line in the log: one every
    30 seconds, later one every tenth of the time elapsed, and one at the end. It never makes the
    device wait: numbers are looked at only when a row of metrics has just been logged.

    Args:
        console: where to draw; `None`: standard error.
    """

    def __init__(self, console: Console | None = None) -> None:
        super().__init__()
        self._console = console
        self._enabled = True
        self._bar: Bar | None = None

    def enable(self) -> None:
        """Shows progress in later calls of `fit`."""
        self._enabled = True

    def disable(self) -> None:
        """Shows nothing; Lightning calls this in processes of a rank above 0."""
        self._enabled = False

    def on_train_start(self, trainer: Trainer, *_: Any) -> None:
        """Starts the clock, and the bar at the iteration that a resumed run has reached."""
        self._start = self._step = trainer.global_step
        self._epoch = trainer.current_epoch
        self._total = _iterations(trainer)
        self._numbers: dict[str, float] = {}
        self._started_at = self._read_at = time.monotonic()
        console = self._console or Console(stderr=True)
        live = console.is_terminal and not console.is_dumb_terminal
        self._next = self._started_at + (_REDRAW if live else _LINE)
        if self._enabled and live:
            self._bar = Bar(console, self._step, self._total)
            self._bar.start()

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        """Counts, and shows when it is time to."""
        if not self._enabled:
            return
        self._step, self._epoch = trainer.global_step, trainer.current_epoch
        now = time.monotonic()
        every: int = trainer.log_every_n_steps  # type: ignore[attr-defined]
        if every and self._step % every == 0 and now - self._read_at >= _REDRAW:
            self._read(trainer, now)
        if now >= self._next:
            self._show(now)

    def on_train_end(self, trainer: Trainer, *_: Any) -> None:
        """Shows where the run ended."""
        if self._enabled:
            now = time.monotonic()
            self._read(trainer, now)
            self._show(now)
        self._stop()

    def on_exception(self, *_: Any) -> None:
        """Gives the terminal back before the error is told."""
        self._stop()

    def _stop(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def _read(self, trainer: Trainer, now: float) -> None:
        self._read_at = now
        metrics = trainer.callback_metrics
        names = ("loss_g", "loss_d", "images_per_second")
        self._numbers = {k: float(metrics[f"train/{k}"]) for k in names if f"train/{k}" in metrics}

    def _show(self, now: float) -> None:
        elapsed = now - self._started_at
        words = [f"{self._step}/{self._total or '?'}", f"epoch {self._epoch + 1}"]
        words += [f"{k} {self._numbers[k]:.4g}" for k in ("loss_g", "loss_d") if k in self._numbers]
        if "images_per_second" in self._numbers:
            words.append(f"{self._numbers['images_per_second']:.0f} images/s")
        left = _clock(self._time_left(elapsed))
        if self._bar is not None:
            self._next = now + _REDRAW
            self._bar.update(self._step, " ".join([*words, f"{_clock(elapsed)}<{left}"]))
        else:
            self._next = now + max(_LINE, elapsed / 10)
            log.info("iteration %s, %s elapsed, %s left", ", ".join(words), _clock(elapsed), left)

    def _time_left(self, elapsed: float) -> float | None:
        """Seconds until the first of the run's limits, at the pace so far; `None`: cannot tell."""
        guesses = [
            remaining
            for callback in self.trainer.callbacks  # type: ignore[attr-defined]
            if isinstance(callback, Timer) and (remaining := callback.time_remaining()) is not None
        ]
        if self._total is not None and self._step > self._start:
            pace = elapsed / (self._step - self._start)
            guesses.append(pace * (self._total - self._step))
        return max(0.0, min(guesses)) if guesses else None


def _iterations(trainer: Trainer) -> int | None:
    """Iterations of the whole run, by `max_steps` and `max_epochs`; `None`: no limit."""
    total = trainer.estimated_stepping_batches
    return int(total) if 0 < total < math.inf else None


def _clock(seconds: float | None) -> str:
    """Writes a duration as minutes:seconds or hours:minutes:seconds."""
    if seconds is None:
        return "?"
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02d}:{second:02d}" if hours else f"{minute}:{second:02d}"
