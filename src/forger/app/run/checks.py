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
    """Builds both optimizers and schedules once.

    Args:
        gan: whose they are.
        trainer: settings, of which the limits of the run are looked at.

    Raises:
        ConfigError: an optimizer is none or refuses its settings, or a schedule ends with a run
            that has no known end.
    """
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
    """Checks that an epoch, or the share of it that is asked for, holds an iteration.

    Raises:
        ConfigError: it does not.
    """
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

    The networks stay as they are.

    Args:
        gan: with networks, loss and penalties.
        image_shape: of the data: channels, height, width.
        batch: images that a process takes at once, as far as that matters: 1 or 2.

    Raises:
        ConfigError: G makes other images than the data holds, D does not give one logit each, or
            one of them cannot be trained.
    """
    latent_dim: Any = getattr(gan.generator, "latent_dim", None)
    if not isinstance(latent_dim, int):
        raise ConfigError("model.generator: needs an attribute latent_dim, the size of its noise")
    with random_state_kept(torch.device("cpu")):
        generator, can_be_tried = copied(gan.generator), True
        try:
            discriminator = copied(gan.discriminator)
        except Exception:  # no harm to its training
            discriminator, can_be_tried = gan.discriminator, False
        dtype = next((p.dtype for p in generator.parameters()), torch.float32)
        _check_outputs(generator, discriminator, latent_dim, image_shape, dtype)
        for name in NETWORKS:
            if not trainable(network := getattr(gan, name)):
                kind = type(network).__name__
                raise ConfigError(f"model.{name}: {kind} has no weights to train")
        parts = (gan.generator, gan.discriminator, gan.loss)
        ours = all(type(part).__module__.startswith("forger.") for part in parts)
        if not can_be_tried or (ours and batch > 1):
            return
        noise = NoiseSource(gan.prior, gan.seed, dtype=dtype)
        for iteration in (1, 2):  # what a first update leaves behind may break the second
            noise.start(iteration)
            real = torch.rand(min(batch, 2), *image_shape, dtype=dtype) * 2 - 1
            try_iteration(gan, generator, discriminator, noise, real)
    _check_left_behind("generator", generator, gan.generator.state_dict())
    _check_left_behind("discriminator", discriminator, gan.discriminator.state_dict())


def _check_outputs(
    generator: nn.Module,
    discriminator: nn.Module,
    latent_dim: int,
    image_shape: tuple[int, int, int],
    dtype: torch.dtype,
) -> None:
    images = _outputs("generator", generator, torch.zeros(2, latent_dim, dtype=dtype))
    if images.shape != (2, *image_shape):
        raise ConfigError(
            f"model.generator: makes images {tuple(images.shape[1:])}, the data holds {image_shape}"
        )
    logits = _outputs("discriminator", discriminator, torch.zeros(2, *image_shape, dtype=dtype))
    if logits.numel() != 2:
        raise ConfigError(
            f"model.discriminator: gives {tuple(logits.shape)} for 2 images, must give one logit"
            " each"
        )


def _outputs(name: str, network: nn.Module, inputs: Tensor) -> Tensor:
    """Returns what the network makes of `inputs` in eval mode, without gradients."""
    modes = {module: module.training for module in network.modules()}
    try:
        with torch.no_grad(), _explained(f"model.{name}: fails on an input {tuple(inputs.shape)}"):
            outputs: Tensor = network.eval()(inputs)
    finally:
        for module, training in modes.items():
            module.training = training
    if not isinstance(outputs, Tensor):
        kind = type(outputs).__name__
        raise ConfigError(f"model.{name}: must return a tensor, and returns {kind}")
    return outputs


def try_iteration(
    gan: GAN, generator: nn.Module, discriminator: nn.Module, noise: NoiseSource, real: Tensor
) -> None:
    """Computes the gradients of one iteration with copies of both networks, as the GAN does.

    Raises:
        ConfigError: it fails; it says in which part.
    """
    batch, latent_dim = len(real), int(gan.generator.latent_dim)  # type: ignore[arg-type]
    alone = "; BatchNorm needs more images than data.batch_size gives each process"
    untrainable = f"cannot be trained{alone if batch == 1 else ''}"
    loss_name = type(gan.loss).__name__

    def generate() -> Tensor:
        with _explained(f"model.generator: {untrainable}"):
            fakes: Tensor = generator(noise.prior(batch, latent_dim))
        return fakes

    def judge(images: Tensor) -> Tensor:
        with _explained(f"model.discriminator: {untrainable}"):
            logits: Tensor = discriminator(images).reshape(batch)
        return logits

    with torch.no_grad():
        fake = generate()
    real_logits, fake_logits = judge(real), judge(fake)
    with _explained(f"loss: {loss_name}.discriminator fails"):
        loss = gan.loss.discriminator(real_logits, fake_logits)
    judged, fake = in_float32(discriminator), full_precision(fake)
    for name, penalty in gan.penalties.items():
        failing = f"model.discriminator: the penalty {name} cannot be taken of it"
        with _explained(failing), torch.autocast("cpu", enabled=False):
            loss = loss + penalty(judged, full_precision(real), fake, noise.uniform)
    with _explained("model.discriminator: its backward pass fails"):
        loss.backward()  # type: ignore[no-untyped-call]
    with frozen(trainable(discriminator)):
        fake_logits = judge(generate())
        fresh = judge(real) if gan.loss.generator_sees_real else None
        with _explained(f"loss: {loss_name}.generator fails"):
            loss = gan.loss.generator(fake_logits, fresh)
        with _explained("model.generator: its backward pass, through the discriminator, fails"):
            loss.backward()  # type: ignore[no-untyped-call]
    generator.zero_grad()
    discriminator.zero_grad()


def _check_left_behind(name: str, network: nn.Module, before: dict[str, Any]) -> None:
    """Looks at what training has made of a network: checkpoints and samples must take it."""
    after = network.state_dict()
    for key in [*before, *after]:
        first, then = _shape_in(before, key), _shape_in(after, key)
        if first != then:
            raise ConfigError(
                f"model.{name}: {key} is {first} at first and {then} after a forward pass; register"
                " all parameters and buffers in __init__, in their sizes"
            )
    with _explained(f"model.{name}: cannot be copied once it has run"):
        copied(network)


def _shape_in(tensors: dict[str, Any], key: str) -> str:
    return f"of shape {tuple(tensors[key].shape)}" if key in tensors else "missing"


@contextmanager
def _explained(what: str) -> Iterator[None]:
    """Raises an error of the user's code as one of the config, with its file and line."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        raise ConfigError(f"{what}: {line_of(error)}") from error
