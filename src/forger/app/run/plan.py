"""Says in a few lines what a run will do, read off its objects; no network runs for it."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

from lightning import LightningDataModule, Trainer
from lightning.pytorch.callbacks import Timer
from torch import nn

from forger.app.config.messages import near
from forger.data import GroupedDataModule, ImageDataModule
from forger.gan import GAN
from forger.networks.stylegan2_layers import MinibatchDeviation
from forger.tasks.base import BATCH_NORMS
from forger.updates import Updates

Shape = tuple[int, int, int]  # of an image: channels, height, width


def describe_plan(
    gan: GAN, datamodule: LightningDataModule, trainer: Trainer, folder: Path, image_shape: Shape
) -> list[str]:
    """Returns the plan, a line each."""
    loss = gan.loss
    regularizers = [f"{name} x {weight:g}" for name, weight in loss.regularizers.items()]
    penalties = [f"{name} x {penalty.weight:g}" for name, penalty in loss.penalties.items()]
    module = datamodule.datamodule if isinstance(datamodule, GroupedDataModule) else datamodule
    describe_images = module.describe() if isinstance(module, ImageDataModule) else []
    source, images = getattr(module, "source_shape", None), "x".join(map(str, image_shape))
    images += "" if source is None else f", sources {'x'.join(map(str, source))}"
    return [
        f"data            {type(module).__name__}, images {images}",
        *(f"                {line}" for line in describe_images),
        *(f"                {line}" for line in describe_length(gan, datamodule, trainer)),
        f"generator       {_describe(gan.generator, gan.generator_updates)}",
        f"                {gan.task.describe()}, EMA {gan.ema_generator.describe()}",
        f"discriminator   {_describe(gan.discriminator, gan.discriminator_updates)}",
        *([f"                {seen}"] if (seen := gan.task.describe_seen()) else []),
        f"loss            {type(loss).__name__}, {loss.n_critic} D updates per G update"
        + (f", penalties {', '.join(penalties)}" if penalties else "")
        + (f", {', '.join(regularizers)}" if regularizers else "")
        + (f", weights clipped to {loss.weight_clip}" if loss.weight_clip else ""),
        *([f"schedules       {scheduled}"] if (scheduled := gan.scheduled.describe()) else []),
        f"hardware        {trainer.accelerator.name()} x {trainer.world_size},"
        f" precision {trainer.precision}",
        f"run folder      {near(folder)}",
        *(f"note            {note}" for note in notes(gan, trainer)),
    ]


def describe_length(gan: GAN, datamodule: LightningDataModule, trainer: Trainer) -> list[str]:
    """Returns images and iterations per epoch, where the data module tells, and the run's end."""
    images = getattr(datamodule, "num_train_images", None)
    batch = getattr(datamodule, "batch_size", None)
    ends = [trainer.max_steps] if trainer.max_steps != -1 else []
    lines, total = [], ""
    if images is not None and batch is not None:
        per_iteration = batch * gan.batches_per_iteration
        per_epoch, limit = images // per_iteration, trainer.limit_train_batches
        per_epoch = min(per_epoch, limit) if isinstance(limit, int) else int(per_epoch * limit)
        lines = [
            f"{images:,} training images, {batch} x {gan.batches_per_iteration} per iteration:"
            f" {per_epoch:,} iterations per epoch, {per_epoch * per_iteration:,} images"
        ]
        if trainer.max_epochs not in (None, -1):
            ends.append(trainer.max_epochs * per_epoch)
        total = f", {min(ends) * per_iteration:,} images" if ends else ""
    at_most = f": at most {min(ends):,} iterations{total}" if ends else ""
    return [*lines, f"until {' or '.join(_limits(trainer)) or 'it is stopped'}{at_most}"]


def _limits(trainer: Trainer) -> Iterator[str]:
    """Yields what ends the run; the first that is reached does."""
    if trainer.max_epochs not in (None, -1):
        yield f"{trainer.max_epochs:,} epochs"
    if trainer.max_steps != -1:
        yield f"{trainer.max_steps:,} iterations"
    for timer in trainer.callbacks:  # type: ignore[attr-defined]
        if isinstance(timer, Timer) and (seconds := timer.time_remaining()) is not None:
            yield f"{timedelta(seconds=round(seconds))} hours"


def _describe(network: nn.Module, updates: Updates) -> str:
    """Returns the size of a network and how it is updated."""
    count = sum(p.numel() for p in network.parameters() if p.requires_grad)
    factory: Any = updates.optimizer
    settings = ", ".join(f"{k}={v}" for k, v in getattr(factory, "keywords", {}).items())
    name = getattr(getattr(factory, "func", factory), "__name__", repr(factory))
    parts = [
        f"{type(network).__module__}: {count:,} parameters",
        *([f"norm {network.norm}"] if isinstance(getattr(network, "norm", None), str) else []),
        f"{name}({settings}), {type(updates.schedule).__name__.lower()}",
        *([f"{updates.accumulate} batches per update"] if updates.accumulate > 1 else []),
    ]
    if updates.gradient_clip is not None:
        parts.append(f"gradient norm at most {updates.gradient_clip}")
    return ", ".join(parts)


def notes(gan: GAN, trainer: Trainer) -> Iterator[str]:
    """Yields what was decided for the user, and what several processes compute differently."""
    if getattr(gan.discriminator, "norm", None) == "layer" and gan.loss.penalties:
        yield "LayerNorm in D: the loss penalises gradients per sample, and BatchNorm mixes samples"
    if trainer.world_size == 1:
        return
    synced = getattr(trainer.strategy, "_layer_sync", None) is not None
    if not synced and any(isinstance(module, BATCH_NORMS) for module in gan.modules()):
        yield "BatchNorm's statistics stay per process: trainer.sync_batchnorm=true is for GPUs"
    if any(isinstance(module, MinibatchDeviation) for module in gan.modules()):
        yield "standard deviations of groups of images stay per process, in its share of a batch"
    if gan.loss.batch_statistics:
        name = type(gan.loss).__name__
        yield f"the batch statistics of {name} stay per process, over its share of a batch"
