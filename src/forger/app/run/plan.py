"""What a run is about to do, in words. Owns the text; reads it off the objects, not the config."""

from __future__ import annotations

from pathlib import Path

from lightning import LightningDataModule, Trainer
from lightning.pytorch.accelerators import CPUAccelerator
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from forger.app.config.messages import near
from forger.app.run.length import describe_length
from forger.app.run.memory import batch_per_process, estimate_memory, megabytes
from forger.data import GroupedDataModule, ImageDataModule
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


def describe_memory(
    gan: GAN, datamodule: LightningDataModule, trainer: Trainer, image_shape: tuple[int, int, int]
) -> str:
    """Returns about how much memory the run needs, in one line."""
    try:
        memory = estimate_memory(gan, datamodule, trainer, image_shape)
    except Exception as error:  # a network of the user's own: training will tell what fails
        return f"no estimate: {type(error).__name__}: {str(error).partition(chr(10))[0]}"
    if isinstance(trainer.accelerator, CPUAccelerator):
        where = f"about {megabytes(memory.host)} in each process, beside Python and its packages"
    else:
        where = (
            f"about {megabytes(memory.device)} on each device, beside its context, and"
            f" {megabytes(memory.images)} of images in the machine's memory"
        )
    batch = batch_per_process(datamodule, trainer)
    return f"{where}{', for a batch of one image' if batch is None else ''} (an estimate)"


def norm_of(network: nn.Module) -> str:
    """Returns the network's normalisation, where it tells."""
    norm = getattr(network, "norm", None)
    return f", norm {norm}" if isinstance(norm, str) else ""


def describe_data(datamodule: LightningDataModule) -> list[str]:
    """Returns what the data module says of its images, one of ours that is."""
    return datamodule.describe() if isinstance(datamodule, ImageDataModule) else []


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
    terms = [f"{n} x {p.weight:g}" for n, p in gan.penalties.items()]
    shape = "x".join(map(str, image_shape))
    own = datamodule.datamodule if isinstance(datamodule, GroupedDataModule) else datamodule
    lines = [
        f"data            {type(own).__name__}, images {shape}",
        *(f"                {line}" for line in describe_length(gan, datamodule, trainer)),
        *(f"                {line}" for line in describe_data(datamodule)),
        f"generator       {type(generator).__module__}: {count(generator)}{norm_of(generator)},"
        f" z {generator.latent_dim} {gan.prior}, EMA {gan.ema_generator.decay}",
        f"                {describe_updates(gan.generator_updates)}",
        f"discriminator   {type(discriminator).__module__}: {count(discriminator)}"
        + norm_of(discriminator),
        f"                {describe_updates(gan.discriminator_updates)}",
        f"loss            {type(loss).__name__}, {loss.n_critic} D updates per G update"
        + (f", penalties {', '.join(terms)}" if terms else "")
        + (f", weights clipped to {loss.weight_clip}" if loss.weight_clip else ""),
        f"hardware        {trainer.accelerator.name()} x {trainer.world_size},"
        f" precision {trainer.precision}",
        f"memory          {describe_memory(gan, datamodule, trainer, image_shape)}",
        f"run folder      {near(folder)}",
    ]
    return lines + [f"note            {note}" for note in notes(gan, trainer)]


def notes(gan: GAN, trainer: Trainer) -> list[str]:
    """Returns what was decided for the user, and what differs here from elsewhere."""
    found = []
    if getattr(gan.discriminator, "norm", None) == "layer" and gan.penalties:
        found.append(
            "LayerNorm in D: the loss penalises gradients per sample, and BatchNorm mixes samples"
        )
    if trainer.world_size > 1:
        found += notes_on_processes(gan, trainer)
    return found


def notes_on_processes(gan: GAN, trainer: Trainer) -> list[str]:
    """Returns what several processes compute in another way than one does."""
    found = []
    if any(isinstance(module, _BatchNorm) for module in gan.modules()):
        if isinstance(trainer.accelerator, CPUAccelerator):
            reason = "torch has no SyncBatchNorm on CPUs"
            found.append(f"BatchNorm's statistics stay per process: {reason}")
        elif getattr(trainer.strategy, "_layer_sync", None) is None:
            found.append("BatchNorm's statistics stay per process: trainer.sync_batchnorm is off")
        else:
            found.append("BatchNorm's statistics are those of all processes: SyncBatchNorm is on")
    if gan.loss.batch_statistics:
        name = type(gan.loss).__name__
        found.append(f"the batch statistics of {name} stay per process, over its share of a batch")
    return found
