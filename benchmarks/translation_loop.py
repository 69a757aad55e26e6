"""The tightest plain PyTorch loops for pix2pix and CycleGAN, as `reference_loop` is for noise."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from reference_loop import Batch, Loop
from torch import Tensor
from workloads import EMA_DECAY, Workload

LAMBDA_L1, LAMBDA_CYCLE, LAMBDA_IDENTITY, POOL = 100.0, 10.0, 0.5, 50


class PairedLoop(Loop):
    """pix2pix: one translation for both updates, a discriminator of pairs, and L1."""

    def iterate(self) -> None:
        """Updates D, G and the average, once each."""
        image, source = next(self.batches)
        with self._autocast():
            fake = self.generator(source)
        right, made = (torch.cat([source, one], 1) for one in (image, fake))
        with self._autocast():
            real_logits, fake_logits = self._judge((right,), (made.detach(),))
        loss = self.loss.discriminator(real_logits.float(), fake_logits.float())
        self._step(self.optimizer_d, 0.5 * loss)
        self._freeze(True)
        with self._autocast():
            logits = self.discriminator(made)
        distance = (fake.float() - image).abs().mean()
        adversarial = self.loss.generator(logits.float(), None)
        self._step(self.optimizer_g, adversarial + LAMBDA_L1 * distance)
        self._freeze(False)
        self._average()

    def _freeze(self, frozen: bool) -> None:
        for weight in self.judges:
            weight.requires_grad_(not frozen)

    def _step(self, optimizer: Any, loss: Tensor) -> None:
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    def _average(self) -> None:
        decay = min(EMA_DECAY, (2 + self.iterations) / (11 + self.iterations))
        torch._foreach_lerp_(self.averaged, self.trained, 1 - decay)
        self.iterations += 1

    def _batches(self, images: Tensor) -> Iterator[Batch]:
        """Yields images and, as sources, their negatives."""
        for image, *_ in super()._batches(images):
            yield image, -image


class CycleLoop(PairedLoop):
    """CycleGAN: two translators, two critics, and their pools."""

    def __init__(self, workload: Workload, images: Tensor, *arguments: Any) -> None:
        super().__init__(workload, images, *arguments)
        self.pools: list[Tensor | None] = [None, None]

    def iterate(self) -> None:
        """Updates both critics, both translators and their average, once each."""
        image, source = next(self.batches)
        there, back = self.generator["there"], self.generator["back"]
        critics = self.discriminator["of_images"], self.discriminator["of_sources"]
        reals = image, source
        with self._autocast():
            fakes = there(source), back(image)
        loss = torch.zeros((), device=self.device)
        for side, critic in enumerate(critics):
            shown = self._pooled(side, fakes[side].detach())
            with self._autocast():
                real_logits, fake_logits = critic(reals[side]), critic(shown)
            loss = loss + self.loss.discriminator(real_logits.float(), fake_logits.float())
        self._step(self.optimizer_d, loss)
        self._freeze(True)
        with self._autocast():
            logits = [critic(fake) for critic, fake in zip(critics, fakes, strict=True)]
            rounds = there(fakes[1]), back(fakes[0])
            kept = there(image), back(source)
        adversarial = sum(self.loss.generator(one.float(), None) for one in logits)
        cycle, identity = (
            sum((a.float() - b).abs().mean() for a, b in zip(made, reals, strict=True))
            for made in (rounds, kept)
        )
        total = 2 * adversarial + LAMBDA_CYCLE * (cycle + LAMBDA_IDENTITY * identity)
        self._step(self.optimizer_g, total)
        self._freeze(False)
        self._average()

    def _pooled(self, side: int, images: Tensor) -> Tensor:
        """Exchanges half of the images for old ones, once there are enough of these."""
        held = images[:0] if (found := self.pools[side]) is None else found
        room = POOL - len(held)
        self.pools[side] = held = torch.cat([held, images[:room]]) if room > 0 else held
        new = images[room : room + POOL]
        if len(new) == 0:
            return images
        chance = self.uniform(len(images))[room : room + POOL]
        places = self.uniform(1, POOL)[0].argsort()[: len(new)]
        swaps, old = (chance < 0.5)[:, None, None, None], held[places]
        held[places] = torch.where(swaps, new, old)
        mixed = torch.where(swaps, old, new)
        return torch.cat([images[:room], mixed, images[room + POOL :]])

    def _batches(self, images: Tensor) -> Iterator[Batch]:
        """Yields images, and negatives of others."""
        orders = [super(CycleLoop, self)._batches(images) for _ in range(2)]
        for (image, _), (_, source) in zip(*orders, strict=True):
            yield image, source
