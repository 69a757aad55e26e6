"""A short training with callbacks: epochs of a few iterations on a small GAN."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from helpers import Squares, make_gan, make_trainer
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import Checkpoint, ProgressBar


def run(
    folder: Path,
    *callbacks: Any,
    gan: Any = None,
    batches: int = 10,
    ckpt_path: Path | None = None,
    **flags: Any,
) -> Trainer:
    """Trains for an epoch of `batches` iterations; `folder` is the run folder."""
    data = Squares(batch_size=8, seed=0)
    data.count = 8 * batches
    defaults: dict[str, Any] = {
        "max_steps": -1,
        "max_epochs": 1,
        "enable_progress_bar": any(isinstance(one, ProgressBar) for one in callbacks),
        "enable_checkpointing": any(isinstance(one, Checkpoint) for one in callbacks),
    }
    trainer = make_trainer(folder, callbacks=list(callbacks), **(defaults | flags))
    trainer.fit(gan or make_gan(), datamodule=data, ckpt_path=ckpt_path)
    return trainer


def last(folder: Path, name: str = "last") -> dict[str, Any]:
    """The run's checkpoint, read as plain data."""
    content: dict[str, Any] = torch.load(folder / "checkpoints" / f"{name}.ckpt", weights_only=True)
    return content


class After(Callback):
    """Does something at the end of iterations."""

    def __init__(self, do: Any) -> None:
        self.do = do

    def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
        self.do(trainer)
