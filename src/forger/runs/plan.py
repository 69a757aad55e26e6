"""What a run is about to do, in words. Owns the text; reads it off the objects, not the config."""

from __future__ import annotations

from pathlib import Path

from lightning import LightningDataModule, Trainer
from lightning.pytorch.accelerators import CPUAccelerator
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from forger.gan import GAN
from forger.updates import Updates


def count(network: nn.Module) -> str:
    """Returns the number of trainable parameters."""
    return f"{sum(p.numel() for p in network.parameters() if p.requires_grad):,} parameters"


def describe_updates(updates: Updates) -> str:
    """Returns optimizer, schedule and what is not the default, in one line."""
    factory = updates.optimizer
    settings = ", ".join(f"{k}={v}" for k, v in getattr(factory, "keywords", {}).items())
    name = getattr(getattr(factory, "func", factory), "__name__", repr(factory))
    words = [f"{name}({settings})", type(updates.schedule).__name__.lower()]
    if updates.accumulate > 1:
        words.append(f"{updates.accumulate} batches per update")
    if updates.gradient_clip is not None:
        words.append(f"gradient norm at most {updates.gradient_clip}")
    return ", ".join(words)


def describe_length(gan: GAN, datamodule: LightningDataModule, trainer: Trainer) -> list[str]:
    """Returns images and iterations per epoch, and where the run ends."""
    images = getattr(datamodule, "num_train_images", None)
    batch = getattr(datamodule, "batch_size", None)
    lines = []
    if images is not None and batch is not None:
        per_epoch = images // batch // gan.batches_per_iteration
        lines.append(
            f"{images:,} training images, global batch {batch} x {gan.batches_per_iteration} per"
            f" iteration: {per_epoch:,} iterations per epoch"
        )
        if trainer.max_epochs not in (None, -1):
            lines.append(
                f"{trainer.max_epochs} epochs = {trainer.max_epochs * per_epoch:,} iterations"
            )
    if trainer.max_steps != -1:
        lines.append(f"at most {trainer.max_steps:,} iterations")
    return lines


def describe_plan(
    gan: GAN,
    datamodule: LightningDataModule,
    trainer: Trainer,
    folder: Path,
    image_shape: tuple[int, int, int],
) -> list[str]:
    """Returns the plan, a line each.

    Args:
        gan: with both networks and the loss.
        datamodule: set up, or not yet: then its counts are left out.
        trainer: with its limits and hardware.
        folder: where the run writes.
        image_shape: channels, height, width.
    """
    generator, discriminator, loss = gan.generator, gan.discriminator, gan.loss
    norm = getattr(discriminator, "norm", None)
    terms = [f"{n} x {p.weight:g}" for n, p in gan.penalties.items()]
    shape = "x".join(map(str, image_shape))
    lines = [
        f"data            {type(datamodule).__name__}, images {shape}",
        *(f"                {line}" for line in describe_length(gan, datamodule, trainer)),
        f"generator       {type(generator).__module__}: {count(generator)},"
        f" z {generator.latent_dim} {gan.prior}, EMA {gan.ema_generator.decay}",
        f"                {describe_updates(gan.generator_updates)}",
        f"discriminator   {type(discriminator).__module__}: {count(discriminator)}"
        + (f", norm {norm}" if norm else ""),
        f"                {describe_updates(gan.discriminator_updates)}",
        f"loss            {type(loss).__name__}, {loss.n_critic} D updates per G update"
        + (f", penalties {', '.join(terms)}" if terms else "")
        + (f", weights clipped to {loss.weight_clip}" if loss.weight_clip else ""),
        f"hardware        {trainer.accelerator.name()} x {trainer.world_size},"
        f" precision {trainer.precision}",
        f"run folder      {folder}",
    ]
    return lines + [f"note            {note}" for note in notes(gan, trainer)]


def notes(gan: GAN, trainer: Trainer) -> list[str]:
    """Returns what was decided for the user, and what differs here from elsewhere."""
    found = []
    if getattr(gan.discriminator, "norm", None) == "layer" and gan.penalties:
        found.append(
            "LayerNorm in D: the loss penalises gradients per sample, and BatchNorm mixes samples"
        )
    shared_cores = trainer.world_size > 1 and isinstance(trainer.accelerator, CPUAccelerator)
    if shared_cores and any(isinstance(m, _BatchNorm) for m in gan.modules()):
        found.append("BatchNorm's statistics stay per process: torch has no SyncBatchNorm on CPUs")
    return found
