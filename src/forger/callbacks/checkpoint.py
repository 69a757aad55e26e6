"""The newest state of a run, on disk. Owns when it is written, not what is in it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import Checkpoint as LightningCheckpoint

from forger.bounds import PositiveInt, check_bounds


class Checkpoint(LightningCheckpoint):
    """Keeps `checkpoints/last.ckpt` in the run folder, replaced in one move each time.

    It is written at the end of each epoch, at the end of training, and every `every_n_steps`
    iterations. Lightning's `ModelCheckpoint(every_n_train_steps=...)` is not used for this: under
    manual optimization it asks the module to keep a copy of its weights from before each optimizer
    step (`saved_models`), warns when there is none, and numbers its files when a folder is reused.

    Args:
        every_n_steps: iterations between checkpoints inside an epoch; `None`: none there.

    Raises:
        ConfigError: `every_n_steps` is out of range.
    """

    def __init__(self, every_n_steps: PositiveInt | None = None) -> None:
        if every_n_steps is not None:
            check_bounds(every_n_steps, PositiveInt, "every_n_steps")
        self.every_n_steps = every_n_steps
        self._saved_at: int | None = None

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        """Saves when the iteration has come; after an epoch's last batch, the epoch's end saves."""
        due = self.every_n_steps is not None and trainer.global_step % self.every_n_steps == 0
        if due and not trainer.is_last_batch:
            self._save(trainer)

    def on_train_epoch_end(self, trainer: Trainer, *_: Any) -> None:
        """Saves, always: the place in the epoch is part of the state, not the weights alone."""
        self._save(trainer)

    def on_train_end(self, trainer: Trainer, *_: Any) -> None:
        """Saves what the last epoch's end has not."""
        if trainer.global_step != self._saved_at:
            self._save(trainer)

    def _save(self, trainer: Trainer) -> None:
        if trainer.fast_dev_run:  # type: ignore[attr-defined]
            return
        # every process calls this: a sharded state is gathered from all of them
        path = Path(trainer.default_root_dir) / "checkpoints" / "last.ckpt"
        trainer.save_checkpoint(path, weights_only=False)
        self._saved_at = trainer.global_step
