"""The tightest plain PyTorch loop for a GAN: what a specialist would write by hand for one model.

No logging, no pictures, no checkpoints. It does the product's arithmetic on the same images,
networks and loss, with Adam and an average of the generator.

    python benchmarks/reference_loop.py vanilla images.npy result.json --threads 2

`--way compiled` compiles both networks, and `--way graph` replays whole iterations (`graph_loop`).
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator
from contextlib import AbstractContextManager
from copy import deepcopy
from pathlib import Path
from typing import Any, TypeAlias, cast

import torch
from kernels import PROFILED, Kernels
from operations import Operations
from stopwatch import Stopwatch, resident
from torch import Tensor, nn
from torch.optim import Adam
from workloads import (
    BATCH_SIZE,
    BETAS,
    CLASSES,
    EMA_DECAY,
    EMA_HALF_LIFE,
    LEARNING_RATE,
    WORKLOADS,
    Workload,
    device_here,
    load_images,
)

Batch: TypeAlias = tuple[Tensor, ...]
"""Images, and their labels where there are classes."""


class Loop:
    """One training.

    Args:
        workload: what to train.
        images: uint8 `(N, C, H, W)`.
        precision: `32-true` or `bf16-mixed`, as the product's `trainer.precision`.
        share_fakes: one generator forward for both updates, as the product's `model.share_fakes`.
    """

    capturable = False  # whether optimizers can be part of a CUDA graph

    def __init__(
        self,
        workload: Workload,
        images: Tensor,
        precision: str = "32-true",
        share_fakes: bool = False,
    ) -> None:
        self.device, self.workload, self.loss = device_here(), workload, workload.loss
        self.precision, self.share_fakes = precision, share_fakes
        self.generator, self.discriminator = (
            cast(Any, network.to(self.device)) for network in workload.networks()
        )
        self.average = deepcopy(self.generator).requires_grad_(False)
        self.optimizer_g, self.optimizer_d = (
            Adam(
                network.parameters(),
                lr=LEARNING_RATE,
                betas=BETAS,
                fused=True,
                capturable=self.capturable and self.device.type == "cuda",
            )
            for network in (self.generator, self.discriminator)
        )
        self.judges = list(self.discriminator.parameters())
        self.averaged, self.trained = _floats(self.average), _floats(self.generator)
        # Where no sample's logit depends on the others, both batches go through D at once.
        self.at_once = getattr(self.discriminator, "independent_samples", False)
        self.batches = self._batches(images.to(self.device))
        self.iterations, self.penalty_factor = 0, 1.0

    def iterate(self) -> None:
        """Updates D `n_critic` times, G once, and the average."""
        self._play(self._decay())
        self.iterations += 1

    def _decay(self) -> float:
        """Returns that of the average, and sets what follows schedules."""
        if self.workload.annealed is not None:
            return self._anneal(self.workload.annealed)
        return min(EMA_DECAY, (2 + self.iterations) / (11 + self.iterations))

    def _play(self, decay: float) -> None:
        shared = self._fakes() if self.share_fakes else None
        for update in range(1, self.loss.n_critic + 1):
            self._update_discriminator(shared, self.iterations * self.loss.n_critic + update)
        self._update_generator(shared)
        torch._foreach_lerp_(self.averaged, self.trained, 1 - decay)

    def _anneal(self, images: int) -> float:
        """Sets what R3GAN's schedules change, by half cosines; returns the average's decay."""
        left = (1 + math.cos(math.pi * min(self.iterations * BATCH_SIZE / images, 1))) / 2
        for optimizer in (self.optimizer_g, self.optimizer_d):
            (group,) = optimizer.param_groups
            group["lr"] = LEARNING_RATE * (0.25 + 0.75 * left)
            group["betas"] = (BETAS[0], 1 - (1 - BETAS[1]) * (0.1 + 0.9 * left))
        self.penalty_factor = 0.1 + 0.9 * left
        half_life = EMA_HALF_LIFE * (1 - left)
        return 0.5 ** (BATCH_SIZE / half_life) if half_life > 0 else 0.0

    def draw(self) -> tuple[Tensor, list[Tensor], dict[str, Tensor]]:
        """Draws noise, labels where there are classes, and what else G asks for."""
        noise = torch.randn(BATCH_SIZE, self.generator.latent_dim, device=self.device)
        label = torch.randint(CLASSES, (BATCH_SIZE,), device=self.device)
        count = getattr(self.generator, "extra_noise", 0)
        extra = {"extra": torch.randn(BATCH_SIZE, count, device=self.device)} if count else {}
        return noise, [label] if self.workload.classes else [], extra

    def uniform(self, batch: int, *shape: int) -> Tensor:
        """Draws U(0, 1) for penalties."""
        return torch.rand(batch, *shape, device=self.device)

    def _fakes(self) -> Batch:
        noise, label, extra = self.draw()
        with self._autocast():
            return self.generator(noise, *label, **extra), *label

    def _update_discriminator(self, shared: Batch | None, update: int) -> None:
        real = next(self.batches)
        with torch.no_grad():
            fake = self._fakes() if shared is None else (shared[0].detach(), *shared[1:])
        with self._autocast():
            real_logits, fake_logits = self._judge(real, fake)
        loss = self.loss.discriminator(real_logits.float(), fake_logits.float())
        for penalty in self.loss.penalties.values():
            if update % penalty.interval == 0:
                # Compiled networks have no second gradient.
                with torch.compiler.set_stance("force_eager"):
                    term = penalty(self.discriminator, real[0], fake[0].float(), self.uniform)
                loss = loss + self.penalty_factor * penalty.weight * penalty.interval * term
        self.optimizer_d.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer_d.step()

    def _update_generator(self, shared: Batch | None) -> None:
        for weight in self.judges:
            weight.requires_grad_(False)
        fake, real_logits = self._fakes() if shared is None else shared, None
        with self._autocast():
            logits = self.discriminator(*fake)
            if self.loss.generator_sees_real:
                real_logits = self.discriminator(*next(self.batches)).float()
        self.optimizer_g.zero_grad()
        self.loss.generator(logits.float(), real_logits).backward()  # type: ignore[no-untyped-call]
        self.optimizer_g.step()
        for weight in self.judges:
            weight.requires_grad_(True)

    def _judge(self, real: Batch, fake: Batch) -> tuple[Tensor, Tensor]:
        if self.at_once:
            both = map(torch.cat, zip(real, fake, strict=True))
            real_logits, fake_logits = self.discriminator(*both).chunk(2)
            return real_logits, fake_logits
        return self.discriminator(*real), self.discriminator(*fake)

    def _batches(self, images: Tensor) -> Iterator[Batch]:
        labels = torch.arange(len(images), device=self.device) % CLASSES  # speed asks for no truth
        for index in self._rows(len(images)):
            pixels = images.index_select(0, index)
            label = [labels[index]] if self.workload.classes else []
            yield pixels.to(torch.float32).div_(127.5).sub_(1), *label

    def _rows(self, count: int) -> Iterator[Tensor]:
        """Yields which of so many images are in each batch, pass after pass."""
        while True:
            order = torch.randperm(count, device=self.device)
            yield from torch.split(order[: count // BATCH_SIZE * BATCH_SIZE], BATCH_SIZE)

    def _autocast(self) -> AbstractContextManager[None]:
        mixed = self.precision == "bf16-mixed"
        return torch.autocast(self.device.type, torch.bfloat16, enabled=mixed)


def _floats(network: nn.Module) -> list[Tensor]:
    """Returns weights and statistics; counters of batches are of no use to an average."""
    tensors: list[Tensor] = [*network.parameters(), *network.buffers()]
    return [tensor.detach() for tensor in tensors if tensor.is_floating_point()]


def main() -> None:
    """Trains, and adds to the measured what one iteration computes."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("workload", choices=list(WORKLOADS))
    parser.add_argument("images")
    parser.add_argument("output", type=Path)
    parser.add_argument("--iterations", type=int)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--precision", choices=("32-true", "bf16-mixed"), default="32-true")
    parser.add_argument("--share-fakes", action="store_true")
    parser.add_argument("--way", choices=("eager", "compiled", "graph"), default="eager")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    after_import = resident()
    workload = WORKLOADS[arguments.workload]
    images = load_images(arguments.images)
    kind: Any = Loop
    if arguments.way == "graph":
        from graph_loop import GraphLoop as kind  # noqa: N813  (it derives from this file's loop)
    loop = kind(workload, images, arguments.precision, arguments.share_fakes)
    if arguments.way == "compiled":
        for network in (loop.generator, loop.discriminator):
            network.compile(dynamic=False)
    iterations = arguments.iterations or workload.iterations
    stopwatch = Stopwatch(
        arguments.output, workload.warm_up, iterations, workload.images_per_iteration
    )
    for iteration in range(1, stopwatch.last + 1):
        loop.iterate()
        stopwatch.tick(iteration)
    stopwatch.add({"after_import_mib": after_import})
    if loop.device.type == "cuda":
        kernels = Kernels()
        for _ in range(PROFILED):
            loop.iterate()
        stopwatch.add(kernels.of_each(PROFILED))
    if arguments.way == "eager":
        with Operations() as counted:
            loop.iterate()
        stopwatch.add({"operations": counted.total})


if __name__ == "__main__":
    main()
