"""Every loss with every network, small: trained here by one process, and by two as a program."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import ModuleType
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))  # for `helpers`, as a program

import torch
from helpers import SHAPE, LabelledSquares, conditional, make_gan, make_trainer, small
from hydra.utils import instantiate
from omegaconf import OmegaConf
from torch import Tensor

from forger.augment import ADA, DiffAugment
from forger.conditions import Labels
from forger.gan import GAN
from forger.losses import AdversarialLoss
from forger.networks import dcgan, mlp, r3gan, stylegan2
from forger.schedules import Cosine, Linear
from forger.updates import Updates

LOSSES = sorted((Path(__file__).parents[2] / "configs" / "loss").glob("*.yaml"))
NETWORKS: dict[ModuleType, tuple[str, ...]] = {  # and the normalisations that mix no samples
    mlp: ("none", "layer", "spectral"),
    dcgan: ("none", "layer", "spectral", "instance"),
}
CONDITIONS = ("projection", "auxiliary", "concat")
SEEN: dict[str, Any] = {  # how D sees images
    "diffaugment": lambda: {"augment": DiffAugment()},
    "ada": lambda: {"augment": ADA(interval=2, ramp_images=300, cutout=1), "instance_noise": 0.1},
}
REGULARIZED: dict[str, Any] = {
    **{"lecam": 0.3, "lecam_start": 3, "r1_gamma": 1.0},
    **{"cr": 1.0, "cr_fake": 1.0, "zcr_d": 1.0, "zcr_g": 0.1},
}
STEPS = 10
PROCESSES = 2
R3GAN = {  # what else follows schedules
    "ema_half_life": 80.0,
    "schedules": {
        "penalty": Cosine(final=0.1, images=100),
        "beta2": Cosine(final=0.1, images=100),
        "ema": Cosine(initial=0.0, final=1.0, images=100),
    },
}


@dataclass(frozen=True)
class Combination:
    """One training."""

    loss: str
    network: ModuleType
    norm: str = "none"
    loss_settings: dict[str, Any] = field(default_factory=dict)
    updates: dict[str, Any] = field(default_factory=dict)
    generator_norm: str = "none"
    condition: str = ""
    steps: int = STEPS
    seen: str = ""
    training: dict[str, Any] = field(default_factory=lambda: {"ema_decay": 0.9})

    def __str__(self) -> str:
        network = self.network.__name__.rpartition(".")[2]
        norms = [self.norm] if self.generator_norm == "none" else [self.norm, self.generator_norm]
        condition = [self.condition] if self.condition else []
        parts = [self.loss, network, *norms, *self.loss_settings, *self.updates, *condition]
        return "-".join([*parts, self.seen] if self.seen else parts)

    def make_loss(self) -> AdversarialLoss:
        (path,) = (path for path in LOSSES if path.stem == self.loss)
        loss: AdversarialLoss = instantiate(OmegaConf.load(path), **self.loss_settings)
        return loss

    def make_gan(self) -> GAN:
        updates = Updates(**self.updates)
        return make_gan(
            loss=self.make_loss(),
            generator_updates=updates,
            discriminator_updates=updates,
            **self.training,
            **self._parts(),
            **(SEEN[self.seen]() if self.seen else {}),
        )

    def _parts(self) -> dict[str, Any]:
        if self.condition:
            return conditional(self.condition, self.network, self.norm, self.generator_norm)
        torch.manual_seed(0)
        generator = small(self.network, "Generator", self.generator_norm)
        discriminator = small(self.network, "Discriminator", self.norm)
        return {
            "generator": self.network.Generator(SHAPE, 6, **generator),
            "discriminator": self.network.Discriminator(SHAPE, **discriminator),
        }

    def train(self, folder: Path, **settings: Any) -> dict[str, Tensor]:
        """Returns all weights, averages and optimizer states after training, by name."""
        gan = self.make_gan()
        steps = {"max_steps": self.steps, "log_every_n_steps": self.steps}
        defaults = {**steps, "precision": "64-true"}
        trainer = make_trainer(folder, **(defaults | settings))
        trainer.fit(gan, datamodule=LabelledSquares(batch_size=8, seed=0, flip=True))
        state = dict(gan.state_dict())
        for number, optimizer in enumerate(trainer.optimizers):
            for place, values in optimizer.state_dict()["state"].items():
                state |= {f"optimizer {number} {place} {k}": v for k, v in values.items()}
        return state


@dataclass(frozen=True)
class Styled(Combination):
    """StyleGAN2, which has no normalisation, with the classes by projection if there are any."""

    network: ModuleType = stylegan2
    group_size: int = 0
    steps: int = 8

    def _parts(self) -> dict[str, Any]:
        torch.manual_seed(0)
        names = LabelledSquares.classes if self.condition else ()
        facts: dict[str, Any] = {"channel_base": 64, "channel_max": 6, "num_classes": len(names)}
        return {
            "generator": stylegan2.Generator(SHAPE, 6, 5, mapping_layers=2, **facts),
            "discriminator": stylegan2.Discriminator(SHAPE, group_size=self.group_size, **facts),
            "condition": Labels(names) if names else None,
        }


def styled() -> Iterator[Combination]:
    """StyleGAN2 without minibatch standard deviation, and its settings."""
    yield Styled("non_saturating", loss_settings={"r1_gamma": 1.0, "path_length": 2.0})
    yield Styled("hinge", updates={"accumulate": 2}, condition="projection")


def combinations() -> Iterator[Combination]:
    """All without batch statistics, and settings of the updates with some of them."""
    for path in LOSSES:
        for network, norms in NETWORKS.items():
            loss = Combination(path.stem, network).make_loss()
            if not loss.batch_statistics:
                short = {"n_critic": 2} if loss.n_critic > 2 else {}  # the same, sooner
                yield from (Combination(path.stem, network, norm, short) for norm in norms)
    yield from styled()
    for network in NETWORKS:
        yield Combination("r3gan", network, "layer", updates={"accumulate": 2})
        yield Combination("hinge", network, "spectral", {"n_critic": 2}, {"gradient_clip": 0.01})
        yield Combination("minimax", network, updates={"schedule": Linear()})
        yield Combination("wgan_gp", network, "layer", {"n_critic": 2}, seen="diffaugment")
        yield Combination("hinge", network, "spectral", REGULARIZED, seen="ada")
        for how in CONDITIONS:
            yield Combination("hinge", network, "spectral", condition=how)
            yield Combination("wgan_gp", network, "layer", {"n_critic": 2}, condition=how)
    for how in ("", *CONDITIONS):
        yield Combination("r3gan", r3gan, condition=how, training=R3GAN)


def few() -> list[Combination]:
    """One of those that differ in their normalisation alone, another one each time."""
    alike: dict[str, list[Combination]] = {}
    for one in combinations():
        alike.setdefault(str(replace(one, norm="")), []).append(one)
    return [ones[place % len(ones)] for place, ones in enumerate(alike.values())]


def many() -> list[Combination]:
    """The rest of the product."""
    kept = [str(one) for one in few()]
    return [one for one in combinations() if str(one) not in kept]


def with_batch_statistics() -> list[Combination]:
    """What two processes compute in another way than one does."""
    kept = [Combination(path.stem, network) for path in LOSSES for network in NETWORKS]
    found = [one for one in kept if one.make_loss().batch_statistics]
    norms: dict[str, Any] = {"generator_norm": "batch"}
    found += [Combination("hinge", dcgan, **norms, condition=how) for how in ("", *CONDITIONS[:2])]
    return [*found, Styled("non_saturating", group_size=4)]


def start_pair(folder: Path, *words: str) -> list[subprocess.Popen[str]]:
    """Starts two processes that train together and save it all as rank_<rank>.pt."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    own = {k: v for k, v in os.environ.items() if not k.startswith("PL_")}
    own |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(PROCESSES)}
    return [
        subprocess.Popen(
            [sys.executable, __file__, str(folder), *words],
            env=own | {"LOCAL_RANK": str(rank), "NODE_RANK": "0", "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(PROCESSES)
    ]


def main(folder: Path, *words: str) -> None:
    """Trains as one of two processes: the few, or with `many` the rest."""
    settings = {"strategy": "ddp", "devices": PROCESSES}
    chosen = many() if words else few()
    states = {str(one): one.train(folder, **settings) for one in chosen}
    for one in () if words else with_batch_statistics():
        states[str(one)] = one.train(folder, **settings, max_steps=3)
    torch.save(states, folder / f"rank_{os.environ['LOCAL_RANK']}.pt")
    torch.distributed.destroy_process_group()  # or its threads may end the process with an error


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
