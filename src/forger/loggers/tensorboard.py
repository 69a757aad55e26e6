"""TensorBoard."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from lightning.pytorch.loggers import TensorBoardLogger
from PIL import Image

from forger.loggers.tracker import Tracker


class TensorBoard(Tracker, TensorBoardLogger):
    """Lightning's `TensorBoardLogger`, writing to `tensorboard/` of the run folder.

    Each row is on disk before the next iteration, so that a kill loses none. A resumed run hides
    what was logged after its checkpoint. A run that finishes appears on the HParams page with the
    scores of its best checkpoint.
    """

    title = "TensorBoard"

    def __init__(self, save_dir: str | Path, *, resume_at: int | None = None) -> None:
        purge_step = None if resume_at is None else resume_at + 1
        super().__init__(
            str(save_dir), "", "tensorboard", default_hp_metric=False, purge_step=purge_step
        )
        self.folder, self.resume_at = Path(save_dir), resume_at
        self._lacks_all = not Path(self.log_dir).is_dir()

    def finalize(self, status: str) -> None:
        """Keeps the files open, which Lightning would close after training: `close` writes more."""

    def _start(self, params: Any) -> int | None:
        settings = {key: value for key, value in params.items() if key != "environment"}
        TensorBoardLogger.log_hyperparams(self, settings)  # written at the end
        return 0 if self._lacks_all else None

    def _send_row(self, row: dict[str, Any], step: int | None) -> None:
        TensorBoardLogger.log_metrics(self, row, step)
        self.experiment.flush()

    def _send_picture(self, key: str, picture: Image.Image, step: int, caption: str | None) -> None:
        pixels = np.asarray(picture.convert("RGB"))
        self.experiment.add_image(key, pixels, global_step=step, dataformats="HWC")
        self.experiment.flush()

    def _end(self, exit_code: int) -> None:
        if exit_code == 0 and self.best:
            scores = {f"best/{name}": value for name, value in self.best.items()}
            step = int(self.best["iteration"])
            TensorBoardLogger.log_hyperparams(self, dict(self.hparams), metrics=scores, step=step)
        TensorBoardLogger.finalize(self, "success" if exit_code == 0 else "failed")
