"""How much memory a run will need. Owns the estimate, part by part; the plan owns the words."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from lightning import LightningDataModule, Trainer
from torch import Tensor, nn

from forger.app.run.trial import Trial
from forger.data import ImageDataModule
from forger.gan import GAN
from forger.updates import Updates

LIBRARIES = 45_000_000  # code and caches, read when first used; seen with torch 2.14 on the CPU


@dataclass(frozen=True, kw_only=True)
class Memory:
    """Bytes of one process, beside those of Python with what it has imported.

    Args:
        lasting: held through the whole of training, by part.
        iteration: held for a part of each iteration, by part.
        images: in the machine's memory; a copy on the device, if one stays there, is `lasting`.
        checkpoint: of one file; a run reads its first one back.
    """

    lasting: dict[str, int]
    iteration: dict[str, int]
    images: int
    checkpoint: int

    @property
    def device(self) -> int:
        """What training needs on its device."""
        return sum(self.lasting.values()) + sum(self.iteration.values())

    @property
    def host(self) -> int:
        """What training needs of the machine if it runs on the CPU.

        The checkpoint is read back between two iterations, so that the larger of both counts.
        """
        larger = max(sum(self.iteration.values()), self.checkpoint)
        return sum(self.lasting.values()) + larger + self.images + LIBRARIES


def estimate_memory(
    gan: GAN, datamodule: LightningDataModule, trainer: Trainer, image_shape: tuple[int, int, int]
) -> Memory:
    """Returns what one process needs; without a known batch size, for a batch of one image.

    Args:
        gan: with both networks and the loss; not changed.
        datamodule: with the images and the batch size, where it tells them.
        trainer: with precision and number of processes.
        image_shape: channels, height, width.
    """
    trial = Trial(gan, str(trainer.precision), image_shape)
    g, d = tensor_bytes(trial.generator), tensor_bytes(trial.discriminator)
    states = g * state_per_weight(gan.generator_updates)
    states += d * state_per_weight(gan.discriminator_updates)
    copies = 2 if trainer.world_size > 1 else 1  # DDP exchanges gradients in buckets of its own
    average = g * max(1, 4 // trial.dtype.itemsize)  # never in 16 bits
    batch = batch_per_process(datamodule, trainer) or 1
    return Memory(
        lasting={
            "weights": g + d,
            "gradients": (g + d) * copies,
            "optimizer states": round(states),
            "averaged generator": average,
            **images_on_device(datamodule, trainer.strategy.root_device),
        },
        iteration={"batches": trial.batches(batch)} | trial.activations(batch),
        images=resident_bytes(datamodule),
        checkpoint=g + d + average + round(states),
    )


def batch_per_process(datamodule: LightningDataModule, trainer: Trainer) -> int | None:
    """Returns how many images a process takes at once; `None`: the data module does not tell."""
    batch = getattr(datamodule, "batch_size", None)
    return batch // trainer.world_size if isinstance(batch, int) else None


def megabytes(number: int) -> str:
    """Returns for example `18.4 MB`."""
    return f"{number / 1e6:,.1f} MB" if number < 1e9 else f"{number / 1e9:,.2f} GB"


def tensor_bytes(network: nn.Module) -> int:
    """Returns the bytes of all parameters and buffers."""
    return sum(tensor.nbytes for tensor in [*network.parameters(), *network.buffers()])


def resident_bytes(datamodule: LightningDataModule) -> int:
    """Returns the bytes of the images that the data module holds in memory; 0 if it tells none.

    A file mapped into memory takes room only while there is some.
    """
    images = getattr(datamodule, "train_images", None)
    mapped = isinstance(datamodule, ImageDataModule) and datamodule.mapped
    return images.nbytes if isinstance(images, Tensor) and not mapped else 0


def images_on_device(datamodule: LightningDataModule, device: torch.device) -> dict[str, int]:
    """Returns the bytes of the training images, as a part, where they stay on an accelerator."""
    if not isinstance(datamodule, ImageDataModule) or datamodule.residence(device).type == "cpu":
        return {}
    return {"training images": datamodule.train_images.nbytes}


def state_per_weight(updates: Updates) -> float:
    """Returns the optimizer's bytes of state for each byte of weights, by making one update."""
    probe = nn.Parameter(torch.zeros(64, 64))
    probe.grad = torch.zeros_like(probe)
    optimizer = updates.optimizer([probe])
    optimizer.step()
    held = [v for state in optimizer.state.values() for v in state.values()]
    return sum(v.nbytes for v in held if isinstance(v, Tensor) and v.ndim > 0) / probe.nbytes
