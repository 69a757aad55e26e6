"""Estimates how much memory a process of a run will need, from trial passes of few images."""

from __future__ import annotations

from collections import Counter

import torch
from lightning import LightningDataModule, Trainer
from lightning.pytorch.accelerators import CPUAccelerator
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

from forger.app.run.checks import try_iteration
from forger.copying import copied
from forger.data import ImageDataModule
from forger.gan import GAN
from forger.noise import NoiseSource
from forger.random_state import random_state_kept
from forger.updates import Updates

# Both were seen with torch 2.14 on the CPU. Libraries load code and caches when first used. Around
# the largest map a backward pass holds its gradients before and behind a layer, and copies of them.
LIBRARIES = 45_000_000
COPIES_OF_LARGEST = 4
MOST_TRIED = 64  # images: enough for maps to outgrow what does not grow with their number
_TYPES = {"64-true": torch.float64, "16-true": torch.bfloat16, "bf16-true": torch.bfloat16}


def estimate_memory(
    gan: GAN, datamodule: LightningDataModule, trainer: Trainer, image_shape: tuple[int, int, int]
) -> dict[str, int]:
    """Returns the bytes of one process by part, beside those of Python with what it has imported.

    `in all` is the sum on the device that trains, the machine's memory where that is the CPU; a
    checkpoint, which is read back between two iterations, may need more than an iteration there.

    Args:
        gan: with both networks and the loss; not changed, nor is the random state.
        datamodule: with the images and the batch size; where it does not tell it, it counts as 1.
        trainer: with precision and number of processes.
        image_shape: channels, height, width.
    """
    dtype = _TYPES.get(str(trainer.precision), torch.float32)
    batch = batch_per_process(datamodule, trainer) or 1
    g, d = (_bytes(copied(network).to(dtype)) for network in (gan.generator, gan.discriminator))
    states = g * state_per_weight(gan.generator_updates)
    states += d * state_per_weight(gan.discriminator_updates)
    average = g * max(1, 4 // dtype.itemsize)  # never in 16 bits
    lasting = {
        "weights": g + d,
        "gradients": (g + d) * (2 if trainer.world_size > 1 else 1),  # DDP has buckets of its own
        "optimizer states": round(states),
        "averaged generator": average,
    }
    images, on_device = _image_bytes(datamodule, trainer.strategy.root_device)
    if on_device:
        lasting["training images"] = on_device
    pixels = batch * gan.batches_per_iteration * torch.Size(image_shape).numel()
    mixed = str(trainer.precision) in ("16-mixed", "bf16-mixed")
    iteration = {
        "real images": pixels * (1 + dtype.itemsize),
        **_activations(gan, image_shape, batch, dtype, mixed),
    }
    checkpoint = g + d + average + round(states)
    total, needed = sum(lasting.values()), sum(iteration.values())
    if isinstance(trainer.accelerator, CPUAccelerator):
        lasting["libraries"] = LIBRARIES
        total += max(needed, checkpoint) + images + LIBRARIES
    else:
        total += needed
    beside = {"resident images": images, "a checkpoint": checkpoint}
    return lasting | iteration | beside | {"in all": total}


def batch_per_process(datamodule: LightningDataModule, trainer: Trainer) -> int | None:
    """Returns how many images a process takes at once; `None`: the data module does not tell."""
    batch = getattr(datamodule, "batch_size", None)
    return batch // trainer.world_size if isinstance(batch, int) else None


def state_per_weight(updates: Updates) -> float:
    """Returns the optimizer's bytes of state for each byte of weights, by making one update."""
    probe = nn.Parameter(torch.zeros(64, 64))
    probe.grad = torch.zeros_like(probe)
    optimizer = updates.optimizer([probe])
    optimizer.step()
    held = [v for state in optimizer.state.values() for v in state.values()]
    return sum(v.nbytes for v in held if isinstance(v, Tensor) and v.ndim > 0) / probe.nbytes


def _bytes(network: nn.Module) -> int:
    return sum(tensor.nbytes for tensor in [*network.parameters(), *network.buffers()])


def _image_bytes(datamodule: LightningDataModule, device: torch.device) -> tuple[int, int]:
    """Returns the bytes of the training images in the machine's memory and on an accelerator.

    A file mapped into memory takes room only while there is some.
    """
    images = getattr(datamodule, "train_images", None)
    if not isinstance(images, Tensor):
        return 0, 0
    if not isinstance(datamodule, ImageDataModule):
        return images.nbytes, 0
    stays = datamodule.residence(device).type != "cpu"
    return 0 if datamodule.mapped else images.nbytes, images.nbytes if stays else 0


def _activations(
    gan: GAN, image_shape: tuple[int, int, int], batch: int, dtype: torch.dtype, mixed: bool
) -> dict[str, int]:
    """Returns the bytes that autograd keeps in an iteration, from trials of up to 64 images."""
    generator, discriminator = copied(gan.generator).to(dtype), copied(gan.discriminator).to(dtype)
    noise = NoiseSource(gan.prior, gan.seed, dtype=dtype)
    noise.start(1)
    weights = [t for n in (generator, discriminator) for t in n.state_dict().values()]
    found, more = [], max(4, min(batch, MOST_TRIED))
    for n in (few := more // 2, more):
        kept = _Kept(weights)
        autocast = torch.autocast("cpu", torch.bfloat16, enabled=mixed)
        counted = saved_tensors_hooks(kept.pack, lambda saved: saved.tensor)
        with random_state_kept(torch.device("cpu")), autocast, counted:
            real = torch.zeros(n, *image_shape, dtype=dtype)
            try_iteration(gan, generator, discriminator, noise, real)
        found.append((kept.most, kept.largest))
    most, largest = (
        a + (batch - few) * (b - a) // (more - few) for a, b in zip(*found, strict=True)
    )
    passes = 2 if gan.penalties else 1  # a gradient penalty's gradient is one more
    return {"activations": most, "backward passes": COPIES_OF_LARGEST * passes * largest}


class _Kept:
    """Counts the bytes that autograd keeps at a time, beside those of the weights."""

    def __init__(self, weights: list[Tensor]) -> None:
        self.references = Counter(weight.data_ptr() for weight in weights)  # by storage
        self.now = self.most = self.largest = 0

    def pack(self, tensor: Tensor) -> _Saved:
        storage = tensor.untyped_storage()
        return _Saved(self, tensor, storage.data_ptr(), storage.nbytes())

    def count(self, storage: int, change: int, size: int) -> None:
        before = self.references[storage]
        self.references[storage] += change
        self.now += size * ((before + change > 0) - (before > 0))
        self.most, self.largest = max(self.most, self.now), max(self.largest, size * (before == 0))


class _Saved:
    """A tensor that autograd keeps, until it is done with it."""

    def __init__(self, kept: _Kept, tensor: Tensor, storage: int, size: int) -> None:
        self.kept, self.tensor, self.storage, self.size = kept, tensor, storage, size
        kept.count(storage, 1, size)

    def __del__(self) -> None:
        self.kept.count(self.storage, -1, self.size)
