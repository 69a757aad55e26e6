"""What is trained in the throughput benchmark, by product, reference and naive loop alike.

Of forger only networks and losses come in here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from forger.losses import AdversarialLoss, NonSaturating, Wasserstein
from forger.networks import dcgan, mlp

LATENT_DIM = 100
BATCH_SIZE = 64
LEARNING_RATE, BETAS = 2e-4, (0.5, 0.999)
EMA_DECAY = 0.999
Shape = tuple[int, int, int]


@dataclass(frozen=True)
class Workload:
    """One training to be timed.

    Attributes:
        images: which images it needs.
        shape: of one of them, `(C, H, W)`.
        networks: makes generator and discriminator.
        loss: with its `n_critic` and penalties.
        overrides: that make the product train the same.
        warm_up: iterations before the clock starts.
        iterations: that are timed. Whole intervals of the product's rows, and of its pictures where
            these come within a minute.
        divided: whether two processes are to be timed too.
    """

    images: Literal["digits", "photos"]
    shape: Shape
    networks: Callable[[], tuple[nn.Module, nn.Module]]
    loss: AdversarialLoss
    overrides: tuple[str, ...]
    warm_up: int
    iterations: int
    divided: bool = False

    @property
    def images_per_iteration(self) -> int:
        """Real images that one iteration uses."""
        return BATCH_SIZE * self.loss.n_critic


def _vanilla() -> tuple[nn.Module, nn.Module]:
    return mlp.Generator((1, 28, 28), LATENT_DIM), mlp.Discriminator((1, 28, 28))


def _dcgan(*, gradient_penalty: bool = False) -> tuple[nn.Module, nn.Module]:
    discriminator = dcgan.Discriminator((3, 32, 32), gradient_penalty=gradient_penalty)
    return dcgan.Generator((3, 32, 32), LATENT_DIM), discriminator


WORKLOADS = {
    "vanilla": Workload(
        images="digits",
        shape=(1, 28, 28),
        networks=_vanilla,
        loss=NonSaturating(),
        overrides=("model=vanilla", "loss=non_saturating"),
        warm_up=100,
        iterations=1000,
    ),
    "dcgan": Workload(
        images="photos",
        shape=(3, 32, 32),
        networks=_dcgan,
        loss=NonSaturating(),
        overrides=("model=dcgan", "loss=non_saturating"),
        warm_up=10,
        iterations=100,
        divided=True,
    ),
    "wgan_gp": Workload(
        images="photos",
        shape=(3, 32, 32),
        networks=lambda: _dcgan(gradient_penalty=True),
        loss=Wasserstein(gradient_penalty=10.0, n_critic=5),
        overrides=("model=dcgan", "loss=wgan_gp"),
        warm_up=5,
        iterations=50,
    ),
}


def load_images(path: str) -> Tensor:
    """Reads the training images, uint8 `(N, C, H, W)`, into memory."""
    return torch.from_numpy(np.load(path))


def device_here() -> torch.device:
    """Returns the device that the product's `trainer=auto` takes."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")
