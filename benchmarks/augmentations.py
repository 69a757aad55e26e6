"""What augmentations and regularizers add to one iteration's forward and backward passes.

python benchmarks/augmentations.py [--rounds 20] [--threads 1]
"""

from __future__ import annotations

import argparse
import time
from typing import Any

import torch

from forger.augment import ADA, DiffAugment
from forger.losses import Hinge
from forger.networks import dcgan, subpixel
from forger.noise import Draws
from forger.tasks import FromNoise

BATCH = 64
MODELS = {
    "subpixel 28x28 grey": (subpixel, (1, 28, 28), {}),
    "dcgan 32x32 color": (dcgan, (3, 32, 32), {"norm": "spectral"}),
}
CASES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "none": ({}, {}),
    "diffaugment": ({}, {"augment": DiffAugment()}),
    "ada p=0.5": ({}, {"augment": ADA(0.5)}),
    "instance noise": ({}, {"instance_noise": 0.1}),
    "lecam": ({"lecam": 0.3}, {}),
    "cr": ({"cr": 10.0}, {}),
    "bcr": ({"cr": 10.0, "cr_fake": 10.0}, {}),
    "zcr": ({"zcr_d": 20.0, "zcr_g": 0.5}, {}),
    "r1": ({"r1_gamma": 1.0}, {}),
    "r1, ada p=0.5": ({"r1_gamma": 1.0}, {"augment": ADA(0.5)}),
}


def make(model: str, loss: dict[str, Any], parts: dict[str, Any]) -> FromNoise:
    """Returns the game of a model with these settings."""
    torch.manual_seed(0)
    module, shape, norm = MODELS[model]
    networks = module.Generator(shape), module.Discriminator(shape, **norm)
    return FromNoise(*networks, Hinge(**loss), **parts)


def seconds(task: FromNoise, shape: tuple[int, int, int], iteration: int) -> float:
    """Returns processor seconds of both sides' passes: those of other programs do not count."""
    draws, real = Draws(0), {"image": torch.rand(BATCH, *shape) * 2 - 1}
    draws.start(iteration)
    begun = time.process_time()
    with torch.no_grad():
        fakes = task.fakes(real, draws)
    task.discriminator_terms(real, fakes, draws, 2000 + iteration).total.backward()  # type: ignore[no-untyped-call]
    task.after_discriminator_step()
    fakes = task.fakes(real, draws)
    task.generator_terms(real, fakes, draws).total.backward()  # type: ignore[no-untyped-call]
    return time.process_time() - begun


def main() -> None:
    """Prints how many times as long each takes as none."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--threads", type=int, default=1)
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    for name, (_, shape, _) in MODELS.items():
        tasks = {case: make(name, *settings) for case, settings in CASES.items()}
        best = dict.fromkeys(CASES, float("inf"))
        for iteration in range(asked.rounds):  # in turn, so that all see the same machine
            for case, task in tasks.items():
                best[case] = min(best[case], seconds(task, shape, iteration))
        print(f"{name}, batch {BATCH}: {1e3 * best['none']:.0f} ms without")
        for case, time_taken in best.items():
            print(f"  {case:20} x {time_taken / best['none']:.2f}")


if __name__ == "__main__":
    main()
