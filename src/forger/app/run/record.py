"""What every checkpoint says of its run, as plain containers. Owns the words, not the file."""

from __future__ import annotations

from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer

from forger.app.run.environment import git
from forger.app.run.folder import RunFolder
from forger.app.run.load import forger_version


class RecordInCheckpoint(Callback):
    """Puts what rebuilds the networks into every checkpoint, and notes in the folder how far it is.

    Args:
        folder: of the run.
        image_shape: channels, height, width.
        data: fingerprint of the training images.
    """

    def __init__(
        self, folder: RunFolder, image_shape: tuple[int, int, int], data: dict[str, Any] | None
    ) -> None:
        self.folder = folder
        self.record = {
            "config": folder.config,
            "image_shape": list(image_shape),
            "data": data,
            "threads": torch.get_num_threads(),
            "forger_version": forger_version(),
            "commit": git("rev-parse", "HEAD"),
        }

    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Adds the record."""
        checkpoint.update(self.record)
        self.folder.mark("running", None, checkpoint["global_step"])
