"""What the tutorials' recipes reach on MNIST in a given time, by the scores of `evaluate.py`.

`mlp` is the common tutorial MLP; `dcgan` the tutorial DCGAN at 28x28, from maps of 7x7 and with 64
channels, the cheapest of its common sizes. Both train in the tutorials' own loop with Adam 2e-4,
batches of 64 and float32. The last weights are scored, since tutorials average none.

    python benchmarks/tutorials.py dcgan --root <folder that holds MNIST/raw> --seconds 300
"""

from __future__ import annotations

import argparse
import math
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from naive_loop import Original, make_loader
from torch import nn
from workloads import LATENT_DIM, device_here

from forger.data import MNIST
from forger.metrics.classifier import Classifier
from forger.metrics.evaluator import Evaluator
from forger.metrics.settings import DEFAULT_FAKES, ScoreSettings
from forger.networks import dcgan, mlp
from forger.tasks import FromNoise

SHAPE = (1, 28, 28)
NETWORKS = {"mlp": mlp, "dcgan": dcgan}
COVERED = 0.01  # least share of the images that a class takes to be counted


@dataclass(frozen=True)
class Budget:
    """How long to train: whichever ends first."""

    seconds: float
    iterations: float

    def spent(self, seconds: float, iterations: int) -> bool:
        """Tells whether the training is over."""
        return seconds >= self.seconds or iterations >= self.iterations


def train(name: str, data: MNIST, budget: Budget) -> tuple[nn.Module, nn.Module]:
    """Trains a recipe; prints how long it took, and returns generator and discriminator."""
    device, networks = device_here(), NETWORKS[name]
    generator = networks.Generator(SHAPE, LATENT_DIM).to(device)
    discriminator = networks.Discriminator(SHAPE).to(device)
    training = Original(generator, discriminator)
    loader = make_loader(data.train_images, SHAPE)
    began, seconds, iterations = time.perf_counter(), 0.0, 0
    while not budget.spent(seconds, iterations):
        for number, (real, _) in enumerate(loader):
            training.see(real.to(device), number)
            seconds, iterations = time.perf_counter() - began, iterations + 1
            if budget.spent(seconds, iterations):
                break
    print(f"{name}: {iterations:,} iterations in {seconds:.0f} s")
    return generator, discriminator


def score(generator: nn.Module, discriminator: nn.Module, data: MNIST, cache_dir: Path) -> None:
    """Prints the scores of 10,000 images."""
    device = device_here()
    extractor = Classifier().to(device)
    extractor.prepare(data, cache_dir)
    evaluator = Evaluator(extractor, data, ScoreSettings(), cache_dir=cache_dir, device=device)
    task = FromNoise(generator, discriminator.eval())
    scored = evaluator.evaluate(task.sampler(generator), task, num_fake=DEFAULT_FAKES)
    floor = evaluator.evaluate_floor(DEFAULT_FAKES)
    classes = sum(share >= COVERED for share in scored.class_shares or [])
    coverage = f"{scored.prefix}coverage"
    print(
        f"FID {scored.fid:.2f} (floor {floor.fid:.2f}), "
        f"coverage {scored.scores[coverage]:.3f} (floor {floor.scores[coverage]:.3f}), "
        f"{classes} classes"
    )


def main() -> None:
    """Trains and scores one recipe."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("recipe", choices=list(NETWORKS))
    parser.add_argument("--root", type=Path, default=Path("data"), help="holds MNIST/raw")
    parser.add_argument(
        "--cache-dir", type=Path, default=Path(".cache/forger"), help="of the scores"
    )
    parser.add_argument("--seconds", type=float, default=math.inf)
    parser.add_argument("--iterations", type=int, default=math.inf)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    arguments = parser.parse_args()
    budget = Budget(arguments.seconds, arguments.iterations)
    if budget == Budget(math.inf, math.inf):
        parser.error("give --seconds or --iterations")
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(arguments.seed)
    data = MNIST(root=arguments.root)
    data.prepare_data()
    data.setup("fit")
    score(*train(arguments.recipe, data, budget), data, arguments.cache_dir)


if __name__ == "__main__":
    main()
