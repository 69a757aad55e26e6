"""Ends a training whose score has stopped getting better."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any, Literal

from lightning.pytorch import Callback, Trainer
from torch import Tensor

from forger.bounds import NonNegativeFloat, PositiveInt, check_fields
from forger.callbacks.scores import ScoreCallback
from forger.errors import ConfigError
from forger.score_names import better

log = logging.getLogger(__name__)

_STATE = ("best", "best_at", "waited", "looked_at", "reason")


@dataclass(eq=False)
class EarlyStopping(Callback):
    """Ends training once a metric has not got better `patience` times in a row.

    It counts scores: Lightning's own looks at each epoch's end, where a score is missing or old. A
    score at the end of training that is not due by its interval does not count, so that a resumed
    run is the same as one never stopped.

    Args:
        metric: `val/classifier_fid`, `train/loss_d` and so on; None: the run's own FID.
        patience: how many times in a row, not in epochs.
        mode: `min` or `max`, whichever is better; None: known for scores such as FID and coverage.
        min_delta: by how much it must be better than the best so far.

    Raises:
        ConfigError: a value is out of range, `mode` must be given for this metric, or there is no
            FID to look at.
    """

    metric: str | None = None
    patience: PositiveInt = 5
    mode: Literal["min", "max"] | None = None
    min_delta: NonNegativeFloat = 0.0

    def __post_init__(self) -> None:
        check_fields(self, "callbacks.early_stopping")
        mode = self.mode or better(self.metric or "val/fid")
        if mode not in ("min", "max"):
            given = f"callbacks.early_stopping.mode={mode or 'null'}"
            raise ConfigError(f"{given}: must be min or max for {self.metric}")
        self._sign = 1 if mode == "min" else -1
        self.best: float | None = None
        self.best_at = self.waited = self.looked_at = 0
        self.reason: str | None = None  # why training ended
        self._seen: Tensor | None = None
        self._scores: ScoreCallback | None = None

    def on_train_start(self, trainer: Trainer, *_: Any) -> None:
        """Finds out what to look at; a run that had ended by this when it was killed ends now."""
        for callback in trainer.callbacks:  # type: ignore[attr-defined]
            if isinstance(callback, ScoreCallback) and callback.wanted:
                self._scores = callback
        if self.metric is None and self._scores is None:
            raise ConfigError(
                "callbacks.early_stopping.metric=null: is the FID, and this run does not score"
                " itself; write metrics=quick, or another metric"
            )
        trainer.should_stop = trainer.should_stop or self.reason is not None

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        """Looks at a value that is new, and ends training where it is one too many."""
        epochs, steps = trainer.min_epochs or 0, trainer.min_steps or 0
        may_end = trainer.current_epoch >= epochs and trainer.global_step >= steps
        if self._look(trainer) and self.waited >= self.patience and may_end:
            at = f", of iteration {self.best_at:,}"
            best = "any number" if self.best is None else f"{self.best:.4g}{at}"
            times = f"{self.waited} times in a row"
            self.reason = f"ended early: {self._name} was {times} no better than {best}"
            trainer.should_stop = True
            if trainer.is_global_zero:
                log.info("%s", self.reason)

    def on_train_end(self, trainer: Trainer, *_: Any) -> None:
        """Counts a score of the last iteration that was due there, for a run that is resumed."""
        if self._scores is not None and trainer.global_step % self._scores.every_n_steps == 0:
            self._look(trainer)

    @property
    def _name(self) -> str:
        return self.metric or (self._scores.fid if self._scores else "")

    def _look(self, trainer: Trainer) -> bool:
        """Counts a value that has not been looked at yet, if there is one."""
        value = trainer.callback_metrics.get(self._name)
        if value is None or value is self._seen:  # every score is a tensor of its own
            return False
        self._seen = value
        if trainer.global_step == self.looked_at:  # scored again, of a run that was cut off there
            return False
        self.looked_at = trainer.global_step
        found = float(trainer.strategy.broadcast(value))
        limit = float("inf") if self.best is None else self._sign * self.best - self.min_delta
        self.waited += 1
        if self._sign * found < limit:  # NaN never is
            self.best, self.best_at, self.waited = found, trainer.global_step, 0
        return True

    def has_ended(self, state: dict[str, Any]) -> bool:
        """Tells whether a training whose checkpoint holds this state had ended by it."""
        return state["reason"] is not None and state["waited"] >= self.patience

    def state_dict(self) -> dict[str, Any]:
        """Returns what a resumed run needs to know."""
        return {name: getattr(self, name) for name in _STATE}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restores it; with more patience the run has not ended."""
        for name in _STATE:  # no other attribute: the file may be anybody's
            setattr(self, name, state_dict[name])
        if not self.has_ended(state_dict):
            self.reason = None
