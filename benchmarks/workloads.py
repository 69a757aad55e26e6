"""What is trained in the throughput benchmark, by product, reference and naive loop alike.

Of forger only networks and losses come in here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from forger.losses import (
    R3GAN,
    AdversarialLoss,
    Hinge,
    LeastSquares,
    NonSaturating,
    Wasserstein,
)
from forger.networks import (
    biggan,
    dcgan,
    mlp,
    patchgan,
    r3gan,
    resnet,
    resnet_translator,
    stylegan2,
    unet,
)

LATENT_DIM = 100
BATCH_SIZE = 64
LEARNING_RATE, BETAS = 2e-4, (0.5, 0.999)
EMA_DECAY, EMA_HALF_LIFE = 0.999, 10_000
CLASSES = 10
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
        more: programs that it is for beside product and reference loop.
        classes: whether both networks are told the class of an image.
        game: what the loop by hand plays.
        on: where it is timed unless others are asked for.
        annealed: images over which the schedules of `schedule=r3gan` go, half-life and all.
    """

    images: Literal["digits", "photos", "pairs", "sides"]
    shape: Shape
    networks: Callable[[], tuple[nn.Module, nn.Module]]
    loss: AdversarialLoss
    overrides: tuple[str, ...]
    warm_up: int
    iterations: int
    more: tuple[str, ...] = ()
    classes: bool = False
    annealed: int | None = None
    on: tuple[Literal["cpu", "cuda"], ...] = ("cpu",)
    game: Literal["noise", "paired", "cycle"] = "noise"

    @property
    def images_per_iteration(self) -> int:
        """Real images that one iteration uses."""
        return BATCH_SIZE * self.loss.n_critic


def _vanilla() -> tuple[nn.Module, nn.Module]:
    return mlp.Generator((1, 28, 28), LATENT_DIM), mlp.Discriminator((1, 28, 28))


def _dcgan(*, gradient_penalty: bool = False) -> tuple[nn.Module, nn.Module]:
    discriminator = dcgan.Discriminator((3, 32, 32), gradient_penalty=gradient_penalty)
    return dcgan.Generator((3, 32, 32), LATENT_DIM), discriminator


def _r3gan() -> tuple[nn.Module, nn.Module]:
    sizes: Any = {"image_shape": (1, 28, 28), "width": [128, 64, 16], "blocks": 1}
    return r3gan.Generator(**sizes), r3gan.Discriminator(**sizes)


def _sngan() -> tuple[nn.Module, nn.Module]:
    return resnet.Generator((3, 32, 32)), resnet.Discriminator((3, 32, 32))


def _r3gan_full() -> tuple[nn.Module, nn.Module]:
    return r3gan.Generator((3, 32, 32)), r3gan.Discriminator((3, 32, 32))


def _biggan() -> tuple[nn.Module, nn.Module]:
    sizes: Any = {"image_shape": (1, 28, 28), "width": 8, "num_classes": CLASSES}
    return biggan.Generator(**sizes), biggan.Discriminator(**sizes)


def _stylegan2() -> tuple[nn.Module, nn.Module]:
    sizes: Any = {"image_shape": (1, 28, 28), "channel_base": 448, "channel_max": 32}
    generator = stylegan2.Generator(latent_dim=64, style_dim=64, mapping_layers=2, **sizes)
    return generator, stylegan2.Discriminator(**sizes)


def _paired() -> tuple[nn.Module, nn.Module]:
    generator = unet.Generator((1, 28, 28), (1, 28, 28), width=32, dropout=0)
    return generator, patchgan.Discriminator((2, 28, 28), width=32, layers=1)


def _cycle() -> tuple[nn.Module, nn.Module]:
    def translator() -> nn.Module:
        return resnet_translator.Generator((1, 28, 28), (1, 28, 28), width=16, blocks=3)

    def critic() -> nn.Module:
        return patchgan.Discriminator((1, 28, 28), width=32, layers=1, norm="instance")

    both = nn.ModuleDict({"there": translator(), "back": translator()})
    return both, nn.ModuleDict({"of_images": critic(), "of_sources": critic()})


_SMALL_CRITIC = ("model.discriminator.width=32", "model.discriminator.layers=1")

WORKLOADS = {
    "vanilla": Workload(
        images="digits",
        shape=(1, 28, 28),
        networks=_vanilla,
        loss=NonSaturating(),
        overrides=("model=vanilla", "loss=non_saturating"),
        warm_up=100,
        iterations=1000,
        more=("naive",),
        on=("cpu", "cuda"),
    ),
    "dcgan": Workload(
        images="photos",
        shape=(3, 32, 32),
        networks=_dcgan,
        loss=NonSaturating(),
        overrides=("model=dcgan", "loss=non_saturating"),
        warm_up=10,
        iterations=100,
        more=("naive", "processes"),
        on=("cpu", "cuda"),
    ),
    "wgan_gp": Workload(
        images="photos",
        shape=(3, 32, 32),
        networks=lambda: _dcgan(gradient_penalty=True),
        loss=Wasserstein(gradient_penalty=10.0, n_critic=5),
        overrides=("model=dcgan", "loss=wgan_gp"),
        warm_up=5,
        iterations=50,
        more=("naive",),
    ),
    "r3gan": Workload(
        images="digits",
        shape=(1, 28, 28),
        networks=_r3gan,
        loss=R3GAN(gamma=1.0, penalty_interval=4),
        overrides=(
            *("model=r3gan", "model.width=[128,64,16]", "model.blocks=1", "loss=r3gan"),
            *("loss.gamma=1.0", "loss.penalty_interval=4", "schedule=r3gan"),
            *("schedule.images=200_000", f"model.ema_half_life={EMA_HALF_LIFE}"),
        ),
        warm_up=10,
        iterations=100,
        annealed=200_000,
        on=("cpu", "cuda"),
    ),
    "sngan": Workload(
        images="photos",
        shape=(3, 32, 32),
        networks=_sngan,
        loss=Hinge(n_critic=5),
        overrides=("model=sngan", "loss=hinge", "loss.n_critic=5"),
        warm_up=10,
        iterations=100,
        on=("cuda",),
    ),
    "r3gan_full": Workload(
        images="photos",
        shape=(3, 32, 32),
        networks=_r3gan_full,
        loss=R3GAN(gamma=0.05),
        overrides=(
            *("model=r3gan", "loss=r3gan", "schedule=r3gan", "schedule.images=200_000"),
            f"model.ema_half_life={EMA_HALF_LIFE}",
        ),
        warm_up=10,
        iterations=50,
        annealed=200_000,
        on=("cuda",),
    ),
    "biggan": Workload(
        images="digits",
        shape=(1, 28, 28),
        networks=_biggan,
        loss=Hinge(n_critic=2),
        overrides=(
            *("model=biggan", "model.generator.width=8", "model.discriminator.width=8"),
            *("condition=label", "loss=hinge", "loss.n_critic=2"),
        ),
        warm_up=10,
        iterations=100,
        classes=True,
    ),
    "stylegan2": Workload(
        images="digits",
        shape=(1, 28, 28),
        networks=_stylegan2,
        loss=NonSaturating(r1_gamma=0.1, penalty_interval=8),
        overrides=(
            *("model=stylegan2", "model.generator.latent_dim=64", "model.generator.style_dim=64"),
            "model.generator.mapping_layers=2",
            *(f"model.{side}.channel_base=448" for side in ("generator", "discriminator")),
            *(f"model.{side}.channel_max=32" for side in ("generator", "discriminator")),
            *("loss=non_saturating", "loss.r1_gamma=0.1", "loss.penalty_interval=8"),
        ),
        warm_up=10,
        iterations=100,
    ),
    "paired": Workload(
        images="pairs",
        shape=(1, 28, 28),
        networks=_paired,
        loss=NonSaturating(),
        overrides=(
            *("task=paired", "model=unet_patchgan", "model.generator.width=32"),
            *("model.generator.dropout=0", "loss=non_saturating", *_SMALL_CRITIC),
        ),
        warm_up=10,
        iterations=100,
        game="paired",
    ),
    "cycle": Workload(
        images="sides",
        shape=(1, 28, 28),
        networks=_cycle,
        loss=LeastSquares(),
        overrides=(
            *("task=cycle", "model=resnet_patchgan", "model.generator.width=16"),
            *("model.generator.blocks=3", "loss=least_squares", *_SMALL_CRITIC),
        ),
        warm_up=10,
        iterations=100,
        game="cycle",
    ),
}


def load_images(path: str) -> Tensor:
    """Reads the training images, uint8 `(N, C, H, W)`, into memory."""
    return torch.from_numpy(np.load(path))


def device_here() -> torch.device:
    """Returns the device that the product's `trainer=auto` takes."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")
