"""Finds out what only built objects can tell, before anything is trained or written."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from lightning import LightningDataModule
from omegaconf import DictConfig
from torch import Tensor, nn
from torch.optim import Optimizer

from forger.app.config.device_rules import process_count
from forger.app.config.source import line_of
from forger.copying import copied, in_float32
from forger.data import ImageDataModule
from forger.errors import ConfigError, UserError
from forger.gan import GAN
from forger.gradients import frozen, full_precision, trainable
from forger.noise import NoiseSource
from forger.random_state import random_state_kept

NETWORKS = ("generator", "discriminator")


def images_per_process(trainer: DictConfig, datamodule: LightningDataModule) -> int:
    """Returns how many images a process takes at once, as far as the settings tell; else 2."""
    if not isinstance(datamodule, ImageDataModule):
        return 2
    return datamodule.batch_size // (process_count(trainer) or 1)


def check_updates(gan: GAN, trainer: DictConfig) -> None:
    """Builds both optimizers and schedules once, which may refuse their settings."""
    steps, epochs = trainer.get("max_steps"), trainer.get("max_epochs")
    endless = epochs == -1 or (epochs is None and trainer.get("max_time") is not None)
    total = math.inf if steps in (None, -1) and endless else 1
    for name in NETWORKS:
        updates = getattr(gan, f"{name}_updates")
        with _explained(f"optimizer.{name}"):
            made: Any = updates.make_optimizer(getattr(gan, name))
        if not isinstance(made, Optimizer):
            raise ConfigError(
                f"optimizer.{name}: gives an object of {type(made).__name__}, and must give a"
                " torch.optim.Optimizer"
            )
        updates.make_scheduler(made, total)


def check_epoch(datamodule: LightningDataModule, gan: GAN, trainer: DictConfig) -> None:
    """Checks that an epoch, or the share of it that is asked for, holds an iteration."""
    if not isinstance(datamodule, ImageDataModule):
        return
    batches = gan.batches_per_iteration
    datamodule.check_enough(batches)
    iterations = datamodule.num_train_images // datamodule.batch_size // batches
    for name in ("limit_train_batches", "overfit_batches"):
        share = trainer.get(name)
        if isinstance(share, float) and 0 < share * iterations < 1:
            raise ConfigError(
                f"trainer.{name}={share}: an epoch has {iterations} iterations; write 1 for one of"
                " them"
            )


def check_networks(gan: GAN, image_shape: tuple[int, int, int], batch: int = 2) -> None:
    """Runs copies of G and D once, and takes those of the user's own through two iterations.

    Args:
        gan: left as it is.
        image_shape: channels, height, width.
        batch: images that a process takes at once, as far as that matters: 1 or 2.

    Raises:
        ConfigError: G makes other images than the data holds, D does not give one logit each, or
            one of them cannot be trained.
    """
    if not isinstance(getattr(gan.generator, "latent_dim", None), int):
        raise ConfigError("model.generator: needs an attribute latent_dim, the size of its noise")
    dtype = next((p.dtype for p in gan.generator.parameters()), torch.float32)
    with random_state_kept(torch.device("cpu")):
        try:
            trial = Trial(gan, dtype)
        except Exception:  # a network that cannot be copied may train all the same
            return
        _check_outputs(gan, image_shape, dtype)
        parts = (gan.generator, gan.discriminator, gan.loss)
        if batch > 1 and all(type(part).__module__.startswith("forger.") for part in parts):
            return
        for _ in range(2):  # what a first update leaves behind may break the second
            real = torch.rand(min(batch, 2), *image_shape, dtype=dtype) * 2 - 1
            trial.update_discriminator(real)
            trial.update_generator(real)
    for name in NETWORKS:
        before, after = (_shapes(getattr(owner, name)) for owner in (gan, trial))
        if before != after:
            keys = ", ".join(sorted({key for key, _ in before.items() ^ after.items()}))
            raise ConfigError(
                f"model.{name}: a forward pass adds {keys}, or changes the size; register all"
                " parameters and buffers in __init__, in their sizes"
            )


def _shapes(network: nn.Module) -> dict[str, torch.Size]:
    return {name: tensor.shape for name, tensor in network.state_dict().items()}


def _check_outputs(gan: GAN, image_shape: tuple[int, int, int], dtype: torch.dtype) -> None:
    generator, discriminator = (copied(n).eval() for n in (gan.generator, gan.discriminator))
    noise = torch.zeros(2, int(gan.generator.latent_dim), dtype=dtype)  # type: ignore[arg-type]
    with torch.no_grad():
        images = _run("generator", generator, noise)
        logits = _run("discriminator", discriminator, torch.zeros(2, *image_shape, dtype=dtype))
    if images.shape != (2, *image_shape):
        raise ConfigError(
            f"model.generator: makes images {tuple(images.shape[1:])}, the data holds {image_shape}"
        )
    if logits.numel() != 2:
        raise ConfigError(
            f"model.discriminator: gives {tuple(logits.shape)} for 2 images, must give one logit"
            " each"
        )
    for name in NETWORKS:
        if not trainable(network := getattr(gan, name)):
            raise ConfigError(f"model.{name}: {type(network).__name__} has no weights to train")


def _run(name: str, network: nn.Module, inputs: Tensor) -> Tensor:
    """Returns what a network makes of its inputs."""
    alone = "; BatchNorm needs more images than data.batch_size gives each process"
    failing = f"model.{name}: fails on an input {tuple(inputs.shape)}"
    with _explained(f"{failing}{alone if len(inputs) == 1 else ''}"):
        outputs = network(inputs)
    if not isinstance(outputs, Tensor):
        kind = type(outputs).__name__
        raise ConfigError(f"model.{name}: must return a tensor, and returns {kind}")
    return outputs


class Trial:
    """Updates of copies of both networks as the GAN makes them, but for the optimizers' steps.

    What fails is raised as a ConfigError that says in which network.
    """

    def __init__(self, gan: GAN, dtype: torch.dtype) -> None:
        self.generator = copied(gan.generator).to(dtype)
        self.discriminator = copied(gan.discriminator).to(dtype)
        self.loss, self.penalties = gan.loss, gan.penalties
        self.noise = NoiseSource(gan.prior, gan.seed, dtype=dtype)
        self.noise.start(1)

    def update_discriminator(self, real: Tensor) -> None:
        """Computes D's gradient for real images `(B, C, H, W)`."""
        with torch.no_grad():
            fake = self._fakes(len(real))
        real_logits, fake_logits = self._logits(real), self._logits(fake)
        with _explained(f"model.discriminator: cannot be trained by {type(self.loss).__name__}"):
            loss = self.loss.discriminator(real_logits, fake_logits)
            judge, real, fake = in_float32(self.discriminator), *map(full_precision, (real, fake))
            with torch.autocast("cpu", enabled=False):
                for penalty in self.penalties.values():
                    loss = loss + penalty(judge, real, fake, self.noise.uniform)
            loss.backward()  # type: ignore[no-untyped-call]

    def update_generator(self, real: Tensor) -> None:
        """Computes G's gradient, through D."""
        with frozen(trainable(self.discriminator)):
            fake_logits = self._logits(self._fakes(len(real)))
            fresh = self._logits(real) if self.loss.generator_sees_real else None
            name = type(self.loss).__name__
            with _explained(f"model.generator: cannot be trained by {name} through D"):
                loss = self.loss.generator(fake_logits, fresh)
                loss.backward()  # type: ignore[no-untyped-call]

    def _fakes(self, batch: int) -> Tensor:
        latent_dim = int(self.generator.latent_dim)  # type: ignore[arg-type]
        return _run("generator", self.generator, self.noise.prior(batch, latent_dim))

    def _logits(self, images: Tensor) -> Tensor:
        return _run("discriminator", self.discriminator, images).reshape(len(images))


@contextmanager
def _explained(what: str) -> Iterator[None]:
    """Raises an error of the user's code as one of the config, with its file and line."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        raise ConfigError(f"{what}: {line_of(error)}") from error
