"""Ends a run of a search that falls behind the others."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import Checkpoint as LightningCheckpoint
from torch import Tensor

from forger.callbacks.checkpoint import ends, save_now
from forger.errors import Pruned

if TYPE_CHECKING:
    from optuna.trial import Trial  # an extra

log = logging.getLogger(__name__)


class Pruning(LightningCheckpoint):
    """Tells the search each new score, and ends training, saved, where the search wants that.

    Rank 0 alone asks; all processes end at the same iteration. Training goes on without a search
    that cannot be reached. It is a checkpoint callback for Lightning, which come after all others.

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
            try:
                self._trial = self.open_trial()
            except Exception as error:  # of any database's driver
                self._give_up(error)

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        """Tells a score that is new, and ends training if asked to, unless it is over anyway."""
        value = trainer.callback_metrics.get(self.metric)
        if value is None or value is self._seen:  # every score is a tensor of its own
            return
        if trainer.strategy.broadcast(self._falls_behind(value, trainer)) and not ends(trainer):
            save_now(trainer)
            score = f"{self.metric} = {float(value):.4g}"
            raise Pruned(f"iteration {trainer.global_step}: {score} falls behind")

    def on_train_end(self, trainer: Trainer, *_: Any) -> None:
        """Tells the last score, which others are compared with."""
        value = trainer.callback_metrics.get(self.metric)
        if value is not None and value is not self._seen:
            self._falls_behind(value, trainer)

    def _falls_behind(self, value: Tensor, trainer: Trainer) -> bool:
        self._seen = value
        try:
            if self._trial is not None:  # in rank 0
                self._trial.report(float(value), trainer.global_step)
                return self._trial.should_prune()
        except Exception as error:  # of any database's driver
            self._give_up(error)
        return False

    def _give_up(self, error: Exception) -> None:
        reason = str(error).partition("\n")[0] or type(error).__name__
        log.warning("the search cannot be asked, so this run is not pruned: %s", reason)
        self._trial = None
