"""Finds out before any work whether the networks fit the data, and whether they can be trained."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import forger
from forger.copying import copied
from forger.errors import ConfigError
from forger.gan import GAN
from forger.gradients import frozen, trainable
from forger.noise import NoiseSource
from forger.random_state import random_state_kept

_NOT_THE_USERS = (Path(torch.__file__).parent, Path(forger.__file__).parent)


def check_shapes(gan: GAN, image_shape: tuple[int, int, int], batch: int = 2) -> None:
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
        pair = (("generator", gan.generator), ("discriminator", gan.discriminator))
        generator, can_be_tried = copied(gan.generator), True
        try:
            discriminator = copied(gan.discriminator)
        except Exception:  # no harm to its training
            discriminator, can_be_tried = gan.discriminator, False
        dtype = next((p.dtype for p in generator.parameters()), torch.float32)
        images = tried("generator", generator, torch.zeros(2, latent_dim, dtype=dtype))
        if images.shape != (2, *image_shape):
            raise ConfigError(
                f"model.generator: makes images {tuple(images.shape[1:])}, the data holds"
                f" {image_shape}"
            )
        reals = torch.zeros(2, *image_shape, dtype=dtype)
        logits = tried("discriminator", discriminator, reals)
        if logits.numel() != 2:
            raise ConfigError(
                f"model.discriminator: gives {tuple(logits.shape)} for 2 images, must give one"
                " logit each"
            )
        for name, network in pair:
            if not trainable(network):
                kind = type(network).__name__
                raise ConfigError(f"model.{name}: {kind} has no weights to train")
        theirs = any(not _is_ours(part) for part in (gan.generator, gan.discriminator, gan.loss))
        if not can_be_tried or not (theirs or batch == 1):
            return
        noise = NoiseSource(gan.prior, gan.seed, dtype=dtype)
        for iteration in (1, 2):  # what a first update leaves behind may break the second
            noise.start(iteration)
            _updated(gan, generator, discriminator, noise, min(batch, 2), image_shape)
        for (name, network), after in zip(pair, (generator, discriminator), strict=True):
            _check_left_behind(name, after, network.state_dict())


def tried(name: str, network: nn.Module, inputs: Tensor) -> Tensor:
    """Returns what the network makes of `inputs` in eval mode, without gradients.

    Raises:
        ConfigError: it cannot take them, or gives no tensor.
    """
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


def _is_ours(part: object) -> bool:
    return type(part).__module__.startswith("forger.")


def _updated(
    gan: GAN,
    generator: nn.Module,
    discriminator: nn.Module,
    noise: NoiseSource,
    batch: int,
    image_shape: tuple[int, int, int],
) -> None:
    """Computes the gradients of one iteration, as the GAN does."""
    dtype, latent_dim = noise.dtype, int(gan.generator.latent_dim)  # type: ignore[arg-type]
    real = torch.rand(batch, *image_shape, dtype=dtype) * 2 - 1
    alone = (
        "; BatchNorm needs more images than data.batch_size gives each process"
        if batch == 1
        else ""
    )

    def generate() -> Tensor:
        with _explained(f"model.generator: cannot be trained{alone}"):
            fakes: Tensor = generator(noise.prior(batch, latent_dim))
        return fakes

    def judge(images: Tensor) -> Tensor:
        with _explained(f"model.discriminator: cannot be trained{alone}"):
            logits: Tensor = discriminator(images).reshape(batch)
        return logits

    with torch.no_grad():
        fake = generate()
    real_logits, fake_logits = judge(real), judge(fake)
    with _explained(f"loss: {type(gan.loss).__name__}.discriminator fails"):
        loss = gan.loss.discriminator(real_logits, fake_logits)
    for name, penalty in gan.penalties.items():
        with _explained(f"model.discriminator: the penalty {name} cannot be taken of it"):
            loss = loss + penalty(discriminator, real, fake, noise.uniform)
    with _explained("model.discriminator: its backward pass fails"):
        loss.backward()  # type: ignore[no-untyped-call]
    with frozen(trainable(discriminator)):
        fake_logits = judge(generate())
        fresh = judge(real) if gan.loss.generator_sees_real else None
        with _explained(f"loss: {type(gan.loss).__name__}.generator fails"):
            loss = gan.loss.generator(fake_logits, fresh)
        with _explained("model.generator: its backward pass, through the discriminator, fails"):
            loss.backward()  # type: ignore[no-untyped-call]
    for network in (generator, discriminator):
        network.zero_grad()


def _check_left_behind(name: str, network: nn.Module, before: dict[str, Any]) -> None:
    """Looks at what training has made of a network: checkpoints and samples must take it.

    Raises:
        ConfigError: it cannot be copied any more, or has other tensors than at first.
    """
    after = network.state_dict()
    for key in [*before, *after]:
        if _shape_in(before, key) != _shape_in(after, key):
            raise ConfigError(
                f"model.{name}: {key} is {_shape_in(before, key)} at first and"
                f" {_shape_in(after, key)} after a forward pass; register all parameters and"
                " buffers in __init__, in their sizes"
            )
    with _explained(f"model.{name}: cannot be copied once it has run"):
        copied(network)


def _shape_in(tensors: dict[str, Any], key: str) -> str:
    if key not in tensors:
        return "missing"
    return f"of shape {tuple(tensors[key].shape)}"


@contextmanager
def _explained(what: str) -> Iterator[None]:
    """Words an error of a network's as one of the config, with the place in the user's code."""
    try:
        yield
    except ConfigError:
        raise
    except Exception as error:
        reason = (str(error).strip().splitlines() or [""])[0]
        frames = traceback.extract_tb(error.__traceback__)
        own = [
            f for f in frames if not any(Path(f.filename).is_relative_to(p) for p in _NOT_THE_USERS)
        ]
        place = f" ({own[-1].filename}:{own[-1].lineno})" if own else ""
        raise ConfigError(f"{what}: {type(error).__name__}: {reason}{place}") from error
