"""How long a run will be. Owns the arithmetic of images, iterations and epochs, and its words."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from lightning import LightningDataModule, Trainer
from lightning.pytorch.callbacks import Timer

from forger.gan import GAN


def iterations_per_epoch(gan: GAN, datamodule: LightningDataModule, trainer: Trainer) -> int | None:
    """Returns how many whole iterations one pass over the data makes; `None`: not known before."""
    images = getattr(datamodule, "num_train_images", None)
    batch = getattr(datamodule, "batch_size", None)
    if images is None or batch is None:
        return None
    whole: int = images // batch // gan.batches_per_iteration
    limit = trainer.limit_train_batches
    return min(whole, limit) if isinstance(limit, int) else int(whole * limit)


def limits(trainer: Trainer) -> list[str]:
    """Returns what ends the run; the first that is reached does."""
    found = []
    if trainer.max_epochs not in (None, -1):
        found.append(f"{trainer.max_epochs:,} epochs")
    if trainer.max_steps != -1:
        found.append(f"{trainer.max_steps:,} iterations")
    for timer in trainer.callbacks:  # type: ignore[attr-defined]
        if isinstance(timer, Timer) and (seconds := timer.time_remaining()) is not None:
            found.append(f"{timedelta(seconds=round(seconds))} hours")
    return found


def describe_length(gan: GAN, datamodule: LightningDataModule, trainer: Trainer) -> list[str]:
    """Returns images and iterations per epoch and in all, and where the run ends.

    Args:
        gan: with the batches that an iteration takes.
        datamodule: set up; what it does not tell is left out.
        trainer: with its limits.
    """
    data: Any = datamodule
    lines, numbers = [], [trainer.max_steps] if trainer.max_steps != -1 else []
    per_epoch = iterations_per_epoch(gan, datamodule, trainer)
    batches = gan.batches_per_iteration
    if per_epoch is not None:
        per_iteration = data.batch_size * batches
        lines.append(
            f"{data.num_train_images:,} training images, global batch"
            f" {data.batch_size} x {batches} per iteration: {per_epoch:,} iterations per"
            f" epoch, {per_epoch * per_iteration:,} images"
        )
        if trainer.max_epochs not in (None, -1):
            numbers.append(trainer.max_epochs * per_epoch)
    end = f"until {' or '.join(limits(trainer)) or 'it is stopped'}"
    if numbers:
        end += f": at most {min(numbers):,} iterations"
    if numbers and per_epoch is not None:
        end += f", {min(numbers) * per_iteration:,} images"
    return [*lines, end]
