"""A tiny training that keeps the batches it was given."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning
from helpers import make_trainer


class Recorder(lightning.LightningModule):
    """Takes the batches of a real Trainer and keeps what it saw."""

    def __init__(self, batches_per_iteration: int | None = None) -> None:
        super().__init__()
        self.seen: list[tuple[int, Any]] = []
        self.automatic_optimization = False
        if batches_per_iteration is not None:
            self.batches_per_iteration = batches_per_iteration

    def configure_optimizers(self) -> Any:
        return []

    def training_step(self, batch: Any, batch_idx: int) -> None:
        self.seen.append((self.current_epoch, batch))


def fit(recorder: Recorder, data: lightning.LightningDataModule, **flags: Any) -> list[Any]:
    """Trains on the CPU and returns (epoch, batch) of every step."""
    settings = {"max_steps": -1, "max_epochs": 1, "limit_val_batches": 1.0, **flags}
    make_trainer(Path(), **settings).fit(recorder, datamodule=data)
    return recorder.seen
