"""What autograd keeps in an iteration. Owns trial passes of few images by copies of the networks.

Nothing of the run itself moves, random states included; the estimate of memory adds up the rest.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

from forger.copying import copied, in_float32
from forger.gan import GAN
from forger.gradients import frozen, full_precision, trainable
from forger.noise import NoiseSource
from forger.random_state import random_state_kept

FEW, MORE = 2, 4  # images of the two trials: what grows with the batch is told from what does not

# Seen with torch 2.14 on the CPU. Around the largest map a backward pass holds its gradients before
# and behind a layer, and copies in the layout of the library that computes it.
COPIES_OF_LARGEST = 4


class Trial:
    """Forward passes of one iteration, by copies of both networks in the run's precision.

    Args:
        gan: whose networks are copied.
        precision: the Trainer's; 16 bits of either kind take the same room.
        image_shape: channels, height, width.
    """

    def __init__(self, gan: GAN, precision: str, image_shape: tuple[int, int, int]) -> None:
        whole = {"64-true": torch.float64, "16-true": torch.bfloat16, "bf16-true": torch.bfloat16}
        self.gan, self.image_shape = gan, image_shape
        self.dtype = whole.get(precision, torch.float32)
        self.mixed = precision in ("16-mixed", "bf16-mixed")
        self.generator = copied(gan.generator).to(self.dtype)
        self.discriminator = copied(gan.discriminator).to(self.dtype)
        self.noise = NoiseSource(gan.prior, gan.seed, dtype=self.dtype)
        self.noise.start(1)

    def activations(self, batch: int) -> dict[str, int]:
        """Returns the bytes of the update that needs more: D's with its penalties, or G's."""
        passes = 2 if self.gan.penalties else 1  # a gradient penalty's gradient is one more
        found = []
        for loss, times in ((self._discriminator_loss, passes), (self._generator_loss, 1)):
            kept = self._kept_of_batch(loss, batch)
            largest = COPIES_OF_LARGEST * times * max(kept, default=0)
            found.append({"activations": sum(kept), "backward passes": largest})
        return max(found, key=lambda parts: sum(parts.values()))

    def batches(self, batch: int) -> int:
        """Returns the bytes of an iteration's real images, as bytes and as numbers."""
        pixels = batch * self.gan.batches_per_iteration * torch.Size(self.image_shape).numel()
        return pixels * (1 + self.dtype.itemsize)

    def _kept_of_batch(self, loss: Callable[[int], Tensor], batch: int) -> list[int]:
        """Returns the bytes of each tensor kept for a batch, from trials of few images."""
        pairs = zip(self._kept(loss, FEW), self._kept(loss, MORE), strict=False)
        return [few + (batch - FEW) * (more - few) // (MORE - FEW) for few, more in pairs]

    def _kept(self, loss: Callable[[int], Tensor], n: int) -> list[int]:
        """Returns the bytes of each tensor that autograd keeps of `loss`, but for the weights."""
        networks = (self.generator, self.discriminator)
        own = {t.data_ptr() for net in networks for t in [*net.parameters(), *net.buffers()]}
        kept: dict[int, int] = {}

        def keep(tensor: Tensor) -> Tensor:
            storage = tensor.untyped_storage()
            if storage.data_ptr() not in own:
                kept[storage.data_ptr()] = storage.nbytes()
            return tensor.detach()

        mixed = torch.autocast("cpu", torch.bfloat16, enabled=self.mixed)
        counted = saved_tensors_hooks(keep, lambda tensor: tensor)
        with random_state_kept(torch.device("cpu")), mixed, counted:
            result = loss(n)  # lives until all is counted, and with it what it keeps
        del result
        return list(kept.values())

    def _discriminator_loss(self, n: int) -> Tensor:
        real = torch.zeros(n, *self.image_shape, dtype=self.dtype)
        with torch.no_grad():
            fake = self.generator(self._latents(n))
        loss = self.gan.loss.discriminator(self._logits(real), self._logits(fake))
        with torch.autocast("cpu", enabled=False):
            judge, real = in_float32(self.discriminator), full_precision(real)
            for penalty in self.gan.penalties.values():
                fake = fake.to(real.dtype)
                loss = loss + penalty(judge, real, fake, self.noise.uniform)
        return loss

    def _generator_loss(self, n: int) -> Tensor:
        real = torch.zeros(n, *self.image_shape, dtype=self.dtype)
        with frozen(trainable(self.discriminator)):
            fake_logits = self._logits(self.generator(self._latents(n)))
            real_logits = self._logits(real) if self.gan.loss.generator_sees_real else None
            return self.gan.loss.generator(fake_logits, real_logits)

    def _latents(self, n: int) -> Tensor:
        latent_dim: Any = self.generator.latent_dim
        return self.noise.prior(n, latent_dim)

    def _logits(self, images: Tensor) -> Tensor:
        return full_precision(self.discriminator(images)).view(len(images))
