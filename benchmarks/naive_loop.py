"""The loop of the tutorials: what people copy when they write a GAN for the first time.

torchvision's data set with transforms for each image, a `DataLoader`, plain Adam, float32, one
generator forward for both steps, gradients of all D's weights in each, `.item()` at every step. The
networks are those of the other loops, so that nothing but the loop is compared.

    python benchmarks/naive_loop.py vanilla images.npy result.json --threads 2
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import torch
from stopwatch import Stopwatch
from torch import Tensor, nn
from torch.optim import Adam
from torch.utils.data import DataLoader
from torchvision import datasets, transforms
from workloads import (
    BATCH_SIZE,
    BETAS,
    LATENT_DIM,
    LEARNING_RATE,
    WORKLOADS,
    Shape,
    device_here,
    load_images,
)


class Digits(datasets.MNIST):
    """torchvision's MNIST around images that are there; an item is made by torchvision's code."""

    def __init__(self, images: Tensor, transform: Any) -> None:
        datasets.VisionDataset.__init__(self, "", transform=transform)
        self.data, self.targets = images[:, 0], torch.zeros(len(images), dtype=torch.int64)


class Photos(datasets.CIFAR10):
    """The same of torchvision's CIFAR-10."""

    def __init__(self, images: Tensor, transform: Any) -> None:
        datasets.VisionDataset.__init__(self, "", transform=transform)
        self.data, self.targets = images.permute(0, 2, 3, 1).numpy(), [0] * len(images)


def make_loader(images: Tensor, shape: Shape) -> DataLoader[Any]:
    """Returns the tutorials' loader."""
    half = (0.5,) * shape[0]
    steps = transforms.Compose(  # type: ignore[no-untyped-call]
        [transforms.ToTensor(), transforms.Normalize(half, half)]  # type: ignore[no-untyped-call]
    )
    data = (Digits if shape[0] == 1 else Photos)(images, steps)
    return DataLoader(data, batch_size=BATCH_SIZE, shuffle=True, drop_last=True)


class Original:
    """Binary cross-entropy with targets (the DCGAN tutorial)."""

    def __init__(self, generator: nn.Module, discriminator: nn.Module) -> None:
        for network in (generator, discriminator):
            network.to(memory_format=torch.contiguous_format)  # ours are channels last
        self.generator, self.discriminator = generator, discriminator
        self.optimizer_g = Adam(generator.parameters(), lr=LEARNING_RATE, betas=BETAS)
        self.optimizer_d = Adam(discriminator.parameters(), lr=LEARNING_RATE, betas=BETAS)
        self.criterion = nn.BCEWithLogitsLoss()

    def see(self, real: Tensor, number: int) -> bool:
        """Takes batch `number`, and says whether an iteration ended with it."""
        valid = torch.ones(len(real), device=real.device)
        invalid = torch.zeros(len(real), device=real.device)
        self.optimizer_d.zero_grad()
        real_loss = self.criterion(self.discriminator(real), valid)
        real_loss.backward()
        fake = self.generator(torch.randn(len(real), LATENT_DIM, device=real.device))
        fake_loss = self.criterion(self.discriminator(fake.detach()), invalid)
        fake_loss.backward()
        self.optimizer_d.step()
        self.optimizer_g.zero_grad()
        loss_g = self.criterion(self.discriminator(fake), valid)
        loss_g.backward()
        self.optimizer_g.step()
        _ = (real_loss + fake_loss).item(), loss_g.item()
        return True


class Critic(Original):
    """The Wasserstein loss with a gradient penalty."""

    n_critic, gradient_penalty = 5, 10.0

    def see(self, real: Tensor, number: int) -> bool:
        """Takes a batch; the generator is updated at every fifth."""
        noise = torch.randn(len(real), LATENT_DIM, device=real.device)
        self.optimizer_d.zero_grad()
        fake = self.generator(noise)
        difference = self.discriminator(fake.detach()).mean() - self.discriminator(real).mean()
        loss_d = difference + self.gradient_penalty * self._penalty(real, fake.detach())
        loss_d.backward()
        self.optimizer_d.step()
        _ = loss_d.item()
        if (number + 1) % self.n_critic:
            return False
        self.optimizer_g.zero_grad()
        loss_g = -self.discriminator(self.generator(noise)).mean()
        loss_g.backward()
        self.optimizer_g.step()
        _ = loss_g.item()
        return True

    def _penalty(self, real: Tensor, fake: Tensor) -> Tensor:
        alpha = torch.rand(len(real), 1, 1, 1, device=real.device)
        between = (alpha * real + (1 - alpha) * fake).requires_grad_(True)
        logits = self.discriminator(between)
        (gradients,) = torch.autograd.grad(
            logits, between, torch.ones_like(logits), create_graph=True, retain_graph=True
        )
        slopes: Tensor = gradients.view(len(real), -1).norm(2, dim=1)
        return ((slopes - 1) ** 2).mean()


def main() -> None:
    """Trains until the time is measured."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument(
        "workload", choices=[k for k, of in WORKLOADS.items() if "naive" in of.more]
    )
    parser.add_argument("images")
    parser.add_argument("output", type=Path)
    parser.add_argument("--iterations", type=int)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    workload = WORKLOADS[arguments.workload]
    stopwatch = Stopwatch(
        arguments.output,
        workload.warm_up,
        arguments.iterations or workload.iterations,
        workload.images_per_iteration,
    )
    device = device_here()
    generator, discriminator = (network.to(device) for network in workload.networks())
    kind = Critic if workload.loss.n_critic > 1 else Original
    training = kind(generator, discriminator)
    loader = make_loader(load_images(arguments.images), workload.shape)
    iteration = 0
    while iteration < stopwatch.last:
        for number, (real, _) in enumerate(loader):
            if training.see(real.to(device), number):
                iteration += 1
                stopwatch.tick(iteration)


if __name__ == "__main__":
    main()
