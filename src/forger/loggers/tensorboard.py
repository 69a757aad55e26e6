"""TensorBoard."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_only
from PIL import Image

from forger.loggers.tracker import Tracker


class TensorBoard(Tracker, TensorBoardLogger):
    """Lightning's `TensorBoardLogger`, writing to `tensorboard/` of the run folder.

    Each row is on disk before the next iteration, so that a kill loses none. A resumed run hides
    what was logged after its checkpoint. A run that finishes appears on the HParams page with the
    scores of its best checkpoint.

    Args:
        save_dir: the run folder.
        resume_at: the iteration that a resumed run goes on after.
    """

    title = "TensorBoard"

    def __init__(self, save_dir: str | Path, *, resume_at: int | None = None) -> None:
        purge_step = None if resume_at is None else resume_at + 1
        super().__init__(
            str(save_dir), "", "tensorboard", default_hp_metric=False, purge_step=purge_step
        )
        self.folder = Path(save_dir)
        self.resume_at = None if Path(self.log_dir).is_dir() else resume_at

    @rank_zero_only
    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        """Keeps the config for the end, and logs what was before this tracker was added."""
        super().log_hyperparams({k: v for k, v in params.items() if k != "environment"})
        if self.resume_at is not None:
            self.log_earlier(0, self.resume_at)

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        """Logs a row, and sees it to the disk."""
        with self.harmless():
            super().log_metrics(dict(metrics), step)
            self.experiment.flush()

    @rank_zero_only
    def log_picture(self, key: str, picture: Image.Image, step: int) -> None:
        """Sends a picture, and sees it to the disk."""
        with self.harmless():
            pixels = np.asarray(picture.convert("RGB"))
            self.experiment.add_image(key, pixels, global_step=step, dataformats="HWC")
            self.experiment.flush()

    def finalize(self, status: str) -> None:
        """Keeps the files open, which Lightning would close after training: `close` writes more."""

    @rank_zero_only
    def close(self, exit_code: int) -> None:
        """Writes the entry of the HParams page, if the run has finished with scores."""
        with self.harmless():
            if exit_code == 0 and self.best:
                scores = {f"best/{name}": value for name, value in self.best.items()}
                step = int(self.best["iteration"])
                super().log_hyperparams(dict(self.hparams), metrics=scores, step=step)
            super().finalize("success" if exit_code == 0 else "failed")
