"""Ends a run of a search that falls behind the others."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import Checkpoint as LightningCheckpoint
from torch import Tensor

from forger.callbacks.checkpoint import Checkpoint, ends
from forger.errors import Pruned

log = logging.getLogger(__name__)


class Trial(Protocol):
    """A run as its search sees it; Optuna's trials are such."""

    def report(self, value: float, step: int) -> None:
        """Takes a score at an iteration."""

    def should_prune(self) -> bool:
        """Tells whether the scores so far fall behind."""


class Pruning(LightningCheckpoint):
    """Tells the search each new score, and ends training, saved, where the search wants that.

    Rank 0 alone asks; all processes end at the same iteration. A search that cannot be reached is
    told in the log once, and training goes on without it. For Lightning this is a checkpoint
    callback: those come after all others, which have then written what belongs to the iteration.

    Args:
        metric: that the search judges by, as callbacks know it: `val/fid`, `train/loss_g` ...
        open_trial: called by rank 0 when training starts; `None`: the search has no use for scores.

    Raises:
        Pruned: out of `fit`, in every process.
    """

    def __init__(self, metric: str, open_trial: Callable[[], Trial | None]) -> None:
        self.metric, self.open_trial = metric, open_trial
        self._trial: Trial | None = None
        self._seen: Tensor | None = None

    def on_train_start(self, trainer: Trainer, *_: Any) -> None:
        """Finds the trial."""
        if trainer.is_global_zero:
            with self._without_failing():
                self._trial = self.open_trial()

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        """Tells a score that is new, and ends training if asked to, unless it is over anyway."""
        value = trainer.callback_metrics.get(self.metric)
        if value is None or value is self._seen:  # every score is a tensor of its own
            return
        self._seen = value
        wanted = trainer.is_global_zero and self._falls_behind(float(value), trainer.global_step)
        if trainer.strategy.broadcast(wanted) and not ends(trainer):
            for callback in trainer.checkpoint_callbacks:
                if isinstance(callback, Checkpoint):
                    callback.save(trainer)
            score = f"{self.metric} = {float(value):.4g}"
            raise Pruned(f"iteration {trainer.global_step}: {score} falls behind")

    def on_train_end(self, trainer: Trainer, *_: Any) -> None:
        """Tells the last score, which others are compared with."""
        value = trainer.callback_metrics.get(self.metric)
        if trainer.is_global_zero and value is not None and value is not self._seen:
            self._falls_behind(float(value), trainer.global_step)

    def _falls_behind(self, value: float, iteration: int) -> bool:
        with self._without_failing():
            if self._trial is not None:
                self._trial.report(value, iteration)
                return self._trial.should_prune()
        return False

    @contextmanager
    def _without_failing(self) -> Iterator[None]:
        """Gives the search up where it cannot be reached."""
        try:
            yield
        except Exception as error:  # of any database's driver
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            log.warning("the search cannot be asked, so this run is not pruned: %s", reason)
            self._trial = None
