"""A tiny training that keeps the batches it was given."""

from __future__ import annotations

from typing import Any

import lightning


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
    settings: dict[str, Any] = {
        "accelerator": "cpu",
        "devices": 1,
        "max_epochs": 1,
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
    }
    lightning.Trainer(**{**settings, **flags}).fit(recorder, datamodule=data)
    return recorder.seen
