"""What several tests for a GPU share: games, precisions, and draws that two devices have alike."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import torch
import translating
from helpers import SHAPE, conditional, make_dcgan, make_gan
from lightning.pytorch.plugins import MixedPrecision
from resuming import labelled, squares
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from forger import losses as L
from forger.augment import ADA
from forger.gan import GAN
from forger.networks import dcgan
from forger.noise import Draw, Draws
from forger.seeds import Purpose

PRECISIONS = ("32-true", "bf16-mixed", "16-mixed")


class ManyDark(translating.Dark):
    """Several iterations an epoch."""

    count = 400


def dark(**settings: Any) -> ManyDark:
    return ManyDark(batch_size=8, seed=5, flip=True, **settings)


def spectral() -> GAN:
    torch.manual_seed(0)
    judge = dcgan.Discriminator(SHAPE, width=4, norm="spectral")
    return make_gan(dcgan, discriminator=judge, loss=L.Hinge(n_critic=2))


def adaptive() -> GAN:
    augment = ADA(interval=2, ramp_images=300, cutout=1)
    return make_dcgan(augment=augment, instance_noise=0.1)


Game = tuple[Callable[[], GAN], Callable[..., Any]]
GAMES: dict[str, Game] = {  # what they are, and on which data
    "vanilla": (make_gan, squares),
    "dcgan": (make_dcgan, squares),
    "wgan_gp": (lambda: make_dcgan(loss=L.Wasserstein(gradient_penalty=10.0, n_critic=2)), squares),
    "r3gan": (lambda: make_dcgan(loss=L.R3GAN()), squares),
    "spectral norm": (spectral, squares),
    "ada": (adaptive, squares),
    "projection": (lambda: make_gan(dcgan, **conditional("projection", dcgan)), labelled),
    "auxiliary": (lambda: make_gan(**conditional("auxiliary")), labelled),
    **{name: (partial(translating.make_gan, name), dark) for name in translating.TASKS},
}
each_game = pytest.mark.parametrize("game", GAMES.values(), ids=GAMES)


def fused(gan: GAN) -> GAN:
    """The same with the optimizers of a run, which keep their count of steps on the device."""
    adam = partial(torch.optim.Adam, lr=2e-3, betas=(0.5, 0.9), fused=True)
    for side in ("generator_updates", "discriminator_updates"):
        setattr(gan, side, replace(getattr(gan, side), optimizer=adam))
    return gan


def precise(device: torch.device, precision: str) -> dict[str, Any]:
    """What gives a Trainer a precision; Lightning itself takes 16-mixed for GPUs alone."""
    if precision == "16-mixed" and device.type == "cpu":
        scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
        return {"plugins": [MixedPrecision("16-mixed", "cpu", scaler)]}
    return {"precision": precision}


@contextmanager
def draws_of_the_cpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Has all that training draws come from the CPU: a GPU draws other numbers."""

    def rows(own: Draws, purpose: Purpose, draw: Draw, batch: int, *shape: int) -> Tensor:
        here, own.device = own.device, torch.device("cpu")
        drawn = draw((batch * own.world_size, *shape), own._stream(purpose), own.dtype)
        own.device = here
        return drawn[own.rank :: own.world_size].to(here)

    with monkeypatch.context() as patch:
        patch.setattr(Draws, "rows", rows)
        yield


class Waits(TorchDispatchMode):
    """Fails where a GPU would be waited for: a stand-in for CUDA's own mode, on the CPU."""

    FORBIDDEN = ("_local_scalar_dense", "nonzero", "_unique2", "masked_select")

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        name = func.overloadpacket.__name__ if hasattr(func, "overloadpacket") else str(func)
        # Of Python's numbers a list is copied to a device, and a single one filled in there.
        made_of_list = name == "lift_fresh" and args[0].ndim > 0
        if name in self.FORBIDDEN or made_of_list:
            raise RuntimeError(f"{name} waits for the device")
        return func(*args, **(kwargs or {}))


@contextmanager
def never_waiting(device: torch.device) -> Iterator[None]:
    """Lets nothing wait for the device."""
    if device.type == "cpu":
        with Waits():
            yield
        return
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")
