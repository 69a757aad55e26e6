"""Estimates how much memory a process of a run will need, from trial passes of few images."""

from __future__ import annotations

from collections.abc import Callable

import torch
from lightning import LightningDataModule, Trainer
from lightning.pytorch.accelerators import CPUAccelerator
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

from forger.copying import copied, in_float32
from forger.data import ImageDataModule
from forger.gan import GAN
from forger.gradients import frozen, full_precision, trainable
from forger.noise import NoiseSource
from forger.random_state import random_state_kept
from forger.updates import Updates

# Both were seen with torch 2.14 on the CPU. Libraries load code and caches when first used. Around
# the largest map a backward pass holds its gradients before and behind a layer, and copies of them.
LIBRARIES = 45_000_000
COPIES_OF_LARGEST = 4
FEW, MORE = 2, 4  # images of the two trials, which tell what grows with the batch
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
    """Returns the bytes of the update that needs more: D's with its penalties, or G's."""
    generator, discriminator = copied(gan.generator).to(dtype), copied(gan.discriminator).to(dtype)
    noise = NoiseSource(gan.prior, gan.seed, dtype=dtype)
    noise.start(1)
    own = {t.data_ptr() for n in (generator, discriminator) for t in n.state_dict().values()}

    def logits(images: Tensor) -> Tensor:
        return full_precision(discriminator(images)).view(len(images))

    def fakes(n: int) -> Tensor:
        made: Tensor = generator(noise.prior(n, int(generator.latent_dim)))  # type: ignore[arg-type]
        return made

    def discriminator_loss(n: int) -> Tensor:
        real = torch.zeros(n, *image_shape, dtype=dtype)
        with torch.no_grad():
            fake = fakes(n)
        loss = gan.loss.discriminator(logits(real), logits(fake))
        with torch.autocast("cpu", enabled=False):
            judge, real = in_float32(discriminator), full_precision(real)
            for penalty in gan.penalties.values():
                loss = loss + penalty(judge, real, fake.to(real.dtype), noise.uniform)
        return loss

    def generator_loss(n: int) -> Tensor:
        real = torch.zeros(n, *image_shape, dtype=dtype)
        with frozen(trainable(discriminator)):
            real_logits = logits(real) if gan.loss.generator_sees_real else None
            return gan.loss.generator(logits(fakes(n)), real_logits)

    found = []
    for loss in (discriminator_loss, generator_loss):
        few, more = (_kept(loss, n, own, mixed) for n in (FEW, MORE))
        kept = [
            a + (batch - FEW) * (b - a) // (MORE - FEW) for a, b in zip(few, more, strict=False)
        ]
        # a gradient penalty's gradient is one more backward pass
        passes = 2 if gan.penalties and loss is discriminator_loss else 1
        largest = COPIES_OF_LARGEST * passes * max(kept, default=0)
        found.append({"activations": sum(kept), "backward passes": largest})
    return max(found, key=lambda parts: sum(parts.values()))


def _kept(loss: Callable[[int], Tensor], n: int, own: set[int], mixed: bool) -> list[int]:
    """Returns the bytes of each tensor that autograd keeps of `loss`, but for the weights `own`."""
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor.detach()

    autocast = torch.autocast("cpu", torch.bfloat16, enabled=mixed)
    counted = saved_tensors_hooks(keep, lambda tensor: tensor)
    with random_state_kept(torch.device("cpu")), autocast, counted:
        result = loss(n)  # lives until all is counted, and with it what it keeps
    del result
    return list(kept.values())
