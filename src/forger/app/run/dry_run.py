"""What a dry run adds to the plan, in words: both networks layer by layer, and memory by part."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from lightning import LightningDataModule, Trainer
from lightning.pytorch.accelerators import CPUAccelerator

from forger.app.run.layers import BATCH, layer_table
from forger.app.run.memory import LIBRARIES, Memory, batch_per_process, estimate_memory, megabytes
from forger.gan import GAN

MEANINGS = {
    "batches": "the real images of an iteration",
    "activations": "of an iteration's forward passes, kept for its backward passes",
    "backward passes": "what they hold around the largest map",
    "training images": "a copy that stays there: data.device",
    "libraries": "what they load and keep when first used",
    "on the device": "the sum, beside the device's context and scores",
    "resident images": "in the machine's memory, whatever trains",
    "a checkpoint": "of each file; the first is read back once, between two iterations",
    "together": "counting the larger of a checkpoint and an iteration; beside Python and scores",
}


def describe_dry_run(
    gan: GAN, datamodule: LightningDataModule, trainer: Trainer, image_shape: tuple[int, int, int]
) -> list[str]:
    """Returns the lines that follow those of `describe_plan`; changes nothing.

    Args:
        gan: with both networks and the loss.
        datamodule: with the images and the batch size, where it tells them.
        trainer: with its hardware and precision.
        image_shape: channels, height, width.
    """
    latent_dim: Any = gan.generator.latent_dim
    noise, images = torch.zeros(BATCH, latent_dim), torch.zeros(BATCH, *image_shape)
    shape = " x ".join(map(str, image_shape))
    estimate = partial(estimate_memory, gan, datamodule, trainer, image_shape)
    return [
        f"generator: B x {latent_dim} to B x {shape}{size_of_batch(datamodule, trainer)}",
        *tried(lambda: layer_table(gan.generator, noise)),
        f"discriminator: B x {shape} to B logits",
        *tried(lambda: layer_table(gan.discriminator, images)),
        "memory of each process, an estimate:",
        *tried(lambda: memory_table(estimate(), trainer)),
    ]


def tried(describe: Callable[[], list[str]]) -> list[str]:
    """Returns the lines, indented, or in one line why there are none."""
    try:
        return [f"    {line}".rstrip() for line in describe()]
    except Exception as error:  # a network of the user's own: training will tell what fails
        return [f"    not known: {type(error).__name__}: {error}".splitlines()[0]]


def size_of_batch(datamodule: LightningDataModule, trainer: Trainer) -> str:
    """Returns what B is in each process, where the data module tells."""
    batch = batch_per_process(datamodule, trainer)
    return "" if batch is None else f", B = {batch} in each process"


def memory_table(memory: Memory, trainer: Trainer) -> list[str]:
    """Returns the parts, their sum, and the size of a checkpoint."""
    rows = [*(memory.lasting | memory.iteration).items()]
    images = ("resident images", memory.images)
    checkpoint = ("a checkpoint", memory.checkpoint)
    if isinstance(trainer.accelerator, CPUAccelerator):
        rows += [images, ("libraries", LIBRARIES), checkpoint, ("together", memory.host)]
    else:
        rows += [("on the device", memory.device), images, checkpoint]
    return [f"{name:20}{megabytes(size):>10}  {MEANINGS.get(name, '')}" for name, size in rows]
