"""The progress of a run: a bar on a terminal, lines in the log elsewhere."""

from __future__ import annotations

import logging
import math
import sys
import time
from typing import Any, TextIO

from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import ProgressBar as LightningProgressBar
from lightning.pytorch.callbacks import Timer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Column

log = logging.getLogger(__name__)

_REDRAW = 0.25  # seconds between two drawings of the bar, and between two readings of metrics
_LINE = 30.0  # seconds between two log lines, at least; they grow rarer as the run grows longer


class ProgressBar(LightningProgressBar):
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
        self._bar: Progress | None = None
        self._moved: list[tuple[logging.StreamHandler[TextIO], TextIO]] = []

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
        total = trainer.estimated_stepping_batches
        self._total = int(total) if 0 < total < math.inf else None
        self._numbers: dict[str, float] = {}
        self._started_at = self._read_at = time.monotonic()
        console = self._console or Console(stderr=True)
        live = console.is_terminal and not console.is_dumb_terminal
        self._next = self._started_at + (_REDRAW if live else _LINE)
        if self._enabled and live:
            self._bar = self._open_bar(console)

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        """Shows how far it is, when it is time to."""
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

    def _open_bar(self, console: Console) -> Progress:
        text = TextColumn("{task.fields[text]}", markup=False, table_column=Column(no_wrap=True))
        bar = Progress(
            BarColumn(bar_width=None),
            text,
            console=console,
            expand=True,
            auto_refresh=False,  # no thread beside training
            redirect_stdout=sys.stdout.isatty(),  # what goes to a file shall reach it
            redirect_stderr=sys.stderr.isatty(),
        )
        bar.add_task("", total=self._total, completed=self._step, text="")
        before = (sys.stdout, sys.stderr)
        bar.start()
        redirected = dict(zip(before, (sys.stdout, sys.stderr), strict=True))
        for handler in logging.root.handlers:  # each would write into the bar, by its old stream
            if isinstance(handler, logging.StreamHandler) and handler.stream in redirected:
                self._moved.append((handler, handler.stream))
                handler.setStream(redirected[handler.stream])
        return bar

    def _stop(self) -> None:
        if self._bar is not None:
            while self._moved:
                handler, stream = self._moved.pop()
                handler.setStream(stream)
            self._bar.stop()
            self._bar = None

    def _read(self, trainer: Trainer, now: float) -> None:
        self._read_at = now
        metrics = trainer.callback_metrics
        names = ("loss_g", "loss_d", "images_per_second")
        self._numbers = {k: float(metrics[f"train/{k}"]) for k in names if f"train/{k}" in metrics}

    def _show(self, now: float) -> None:
        elapsed = now - self._started_at
        parts = [f"{self._step}/{self._total or '?'}", f"epoch {self._epoch + 1}"]
        parts += [f"{k} {self._numbers[k]:.4g}" for k in ("loss_g", "loss_d") if k in self._numbers]
        if "images_per_second" in self._numbers:
            parts.append(f"{self._numbers['images_per_second']:.0f} images/s")
        left = _clock(self._time_left(elapsed))
        if self._bar is not None:
            self._next = now + _REDRAW
            text = " ".join([*parts, f"{_clock(elapsed)}<{left}"])
            self._bar.update(self._bar.task_ids[0], completed=self._step, text=text, refresh=True)
        else:
            self._next = now + max(_LINE, elapsed / 10)
            log.info("iteration %s, %s elapsed, %s left", ", ".join(parts), _clock(elapsed), left)

    def _time_left(self, elapsed: float) -> float | None:
        """Returns seconds until the first of the run's limits, at the pace so far."""
        callbacks: list[Any] = self.trainer.callbacks  # type: ignore[attr-defined]
        timers = [c.time_remaining() for c in callbacks if isinstance(c, Timer)]
        guesses = [seconds for seconds in timers if seconds is not None]
        if self._total is not None and self._step > self._start:
            pace = elapsed / (self._step - self._start)
            guesses.append(pace * (self._total - self._step))
        return max(0.0, min(guesses)) if guesses else None


def _clock(seconds: float | None) -> str:
    """Writes a duration as minutes:seconds or hours:minutes:seconds; `?` where it is unknown."""
    if seconds is None:
        return "?"
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02d}:{second:02d}" if hours else f"{minute}:{second:02d}"
