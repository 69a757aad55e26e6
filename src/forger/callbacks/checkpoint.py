"""When the state of a run is written to disk, and what all processes must decide alike for that."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import Checkpoint as LightningCheckpoint

from forger.bounds import PositiveFloat, PositiveInt, check_fields, out_of_bounds
from forger.checkpoints import FOLDER, LAST, numbered
from forger.checkpoints.writing import keep_as
from forger.errors import ConfigError

_VOTE_EVERY = 10  # iterations between two votes: each makes the processes wait for one another


@dataclass(eq=False)
class Checkpoint(LightningCheckpoint):
    """Keeps `checkpoints/last.ckpt` in the run folder, and the one before it as `previous.ckpt`.

    It is written every so many iterations, minutes and epochs, whichever are given, and twice at
    the end of training: before the last scores and samples, so that nothing that goes wrong there
    loses the training, and after them. Lightning's `ModelCheckpoint` wants a copy of the weights
    from before each step under manual optimization, and takes no notice of time there.

    Args:
        every_n_steps: iterations between checkpoints; `None`: not by iterations.
        every_n_minutes: minutes between them; `None`: not by time.
        every_n_epochs: epochs between them; `None`: not by epochs.
        keep: what stays beside these as `checkpoints/iteration_<n>.ckpt`: nothing (`last`); every
            checkpoint that was due, and that of the end (`all`); or of the states that the run has
            scored so many, those with the lowest FID.

    Raises:
        ConfigError: a value is out of range, or nothing scores the run that shall keep its best.
    """

    every_n_steps: PositiveInt | None = None
    every_n_minutes: PositiveFloat | None = None
    every_n_epochs: PositiveInt | None = None
    keep: Literal["last", "all"] | PositiveInt = "last"

    def __post_init__(self) -> None:
        check_fields(self, "callbacks.checkpoint")
        allowed = out_of_bounds(self.keep, PositiveInt)
        if self.keep not in ("last", "all") and allowed:
            raise ConfigError(
                f"callbacks.checkpoint.keep={self.keep}: must be last, all or {allowed}"
            )
        self._saved_at: int | None = None
        self._saved_when = time.monotonic()
        self._best: list[tuple[float, int]] = []  # FID and iteration of those that are kept by it
        self.gets_scores = False  # whether the run's scores are told to `keep_scored`

    def on_train_start(self, trainer: Trainer, *_: Any) -> None:
        """Starts the clock."""
        if isinstance(self.keep, int) and not self.gets_scores:
            raise ConfigError(
                f"callbacks.checkpoint.keep={self.keep}: keeps the best by FID, and this run does"
                " not score itself; write metrics=quick, or callbacks.checkpoint.keep=all"
            )
        self._saved_when = time.monotonic()

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        """Saves when iteration or time has come, and when the last iteration is over."""
        due = self.every_n_steps and trainer.global_step % self.every_n_steps == 0
        if self.every_n_minutes is not None:
            late = time.monotonic() - self._saved_when > 60 * self.every_n_minutes
            due = any_agrees(trainer, late) or due
        if due or ends(trainer):
            self.save(trainer, due=True)

    def on_train_epoch_end(self, trainer: Trainer, *_: Any) -> None:
        """Saves when the epoch has come, or another callback has just ended training."""
        by_epoch = self.every_n_epochs and (trainer.current_epoch + 1) % self.every_n_epochs == 0
        if (by_epoch and trainer.is_last_batch) or ends(trainer):
            self.save(trainer, due=True)

    def on_train_end(self, trainer: Trainer, *_: Any) -> None:
        """Saves the end, once all that belongs to it has been written."""
        self._saved_at = None  # what the last scores found is new
        self.save(trainer, due=True)

    def save(self, trainer: Trainer, due: bool = False) -> None:
        """Saves the state after the latest iteration, unless that has just been done.

        Args:
            trainer: of the run.
            due: whether it is one of those that `keep=all` keeps.
        """
        if trainer.fast_dev_run:  # type: ignore[attr-defined]
            return
        path = Path(trainer.default_root_dir) / FOLDER / LAST
        if trainer.global_step != self._saved_at:
            # every process calls this: a sharded state is gathered from all of them
            trainer.save_checkpoint(path, weights_only=False)
            self._saved_at, self._saved_when = trainer.global_step, time.monotonic()
        if due and self.keep == "all" and trainer.is_global_zero:
            keep_as(path, numbered(trainer.global_step))

    def keep_scored(self, trainer: Trainer, fid: float) -> None:
        """Keeps the state that has just been scored, where it is one of the best `keep` so far."""
        if not isinstance(self.keep, int) or trainer.fast_dev_run or math.isnan(fid):  # type: ignore[attr-defined]
            return
        step, folder = trainer.global_step, Path(trainer.default_root_dir) / FOLDER
        before = self._best
        self._best = sorted([*(one for one in before if one[1] != step), (fid, step)])[: self.keep]
        if (fid, step) in self._best:
            trainer.save_checkpoint(folder / numbered(step), weights_only=False)
        for one in set(before) - set(self._best) if trainer.is_global_zero else ():
            if one[1] != step:
                (folder / numbered(one[1])).unlink(missing_ok=True)

    def state_dict(self) -> dict[str, Any]:
        """Returns what a resumed run needs to know: which checkpoints are kept as the best."""
        return {"best": self._best} if self._best else {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restores it."""
        self._best = [(float(fid), int(step)) for fid, step in state_dict["best"]]


def save_now(trainer: Trainer) -> None:
    """Saves by the run's own callback, if it has one."""
    for callback in trainer.checkpoint_callbacks:
        if isinstance(callback, Checkpoint):
            callback.save(trainer)


def ends(trainer: Trainer) -> bool:
    """Tells whether training ends with this iteration."""
    last_epoch = trainer.max_epochs is not None and trainer.current_epoch + 1 == trainer.max_epochs
    return (
        (trainer.should_stop and trainer.fit_loop._can_stop_early)
        or trainer.global_step == trainer.max_steps
        or (trainer.is_last_batch and last_epoch)
    )


def any_agrees(trainer: Trainer, wanted: bool) -> bool:
    """Tells every process alike whether any of them wants something, at this very iteration.

    Every process must call this at every iteration; several of them vote every 10 iterations.
    """
    if trainer.world_size == 1:
        return wanted
    if trainer.global_step % _VOTE_EVERY:
        return False
    return trainer.strategy.reduce_boolean_decision(wanted, all=False)
