"""TensorBoard. Owns what it is sent beyond what Lightning's logger sends, and when."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_only
from torch import Tensor

from forger.loggers.history import Earlier
from forger.loggers.tracker import Tracker, lacking


class TensorBoard(Tracker, TensorBoardLogger):
    """Lightning's `TensorBoardLogger`, writing to `tensorboard/` of the run folder.

    Each row is on disk before the next iteration, so that a kill loses none. A run that goes on
    hides what was logged after its checkpoint. A run that finishes appears on the HParams page with
    the scores of its best checkpoint.

    Args:
        save_dir: the run folder.
        purge_step: the first iteration to hide of what was logged before.
    """

    def __init__(self, save_dir: str | Path, *, purge_step: int | None = None) -> None:
        super().__init__(
            save_dir=str(save_dir),
            name="",
            version="tensorboard",
            default_hp_metric=False,
            purge_step=purge_step,
        )
        self.best = {}
        self._config: dict[str, Any] = {}
        self._known: set[tuple[int, str]] = set()

    def go_on(self, earlier: Earlier) -> None:
        """Has the run go on; what it has of the iteration that it goes on after stays."""
        super().go_on(earlier)
        self._known = earlier.newest if earlier.tracked else set()

    @rank_zero_only
    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        """Keeps the config for the end, and sends what was logged before this tracker was added."""
        self._config |= {name: value for name, value in params.items() if name != "environment"}
        super().log_hyperparams(self._config)
        earlier, self._earlier = self._earlier, None
        for step, row in () if earlier is None or earlier.tracked else earlier.rows:
            self.log_metrics(row, step)

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        """Logs a row, and sees it to the disk."""
        with self.harmless():
            super().log_metrics(lacking(self._known, metrics, step or 0), step)
            self.experiment.flush()

    @rank_zero_only
    def log_picture(self, key: str, image: Tensor, step: int) -> None:
        """Sends a picture, and sees it to the disk."""
        if (step, key) in self._known:
            return
        with self.harmless():
            self.experiment.add_image(key, image, global_step=step)
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
                super().log_hyperparams(self._config, metrics=scores, step=step)
            super().finalize("success" if exit_code == 0 else "failed")
