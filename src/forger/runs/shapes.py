"""Do the networks fit the data? Owns the trial run of both on two samples, before any work."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from forger.errors import ConfigError
from forger.gan import GAN


def check_shapes(gan: GAN, image_shape: tuple[int, int, int]) -> None:
    """Runs G and D once, in eval mode and without gradients, which changes neither.

    Raises:
        ConfigError: G makes other images than the data holds, or D does not give one logit each.
    """
    latent_dim: Any = getattr(gan.generator, "latent_dim", None)
    if not isinstance(latent_dim, int):
        raise ConfigError("model.generator: needs an attribute latent_dim, the size of its noise")
    images = tried("generator", gan.generator, torch.zeros(2, latent_dim))
    if images.shape != (2, *image_shape):
        raise ConfigError(
            f"model.generator: makes images {tuple(images.shape[1:])}, the data holds {image_shape}"
        )
    logits = tried("discriminator", gan.discriminator, torch.zeros(2, *image_shape))
    if logits.numel() != 2:
        raise ConfigError(
            f"model.discriminator: gives {tuple(logits.shape)} for 2 images, must give one logit"
            " each"
        )


def tried(name: str, network: nn.Module, inputs: Tensor) -> Tensor:
    """Returns what the network makes of `inputs`.

    Raises:
        ConfigError: it cannot take them.
    """
    modes = {module: module.training for module in network.modules()}
    try:
        with torch.no_grad():
            outputs: Tensor = network.eval()(inputs)
    except RuntimeError as error:  # torch's word for shapes that do not fit
        reason = str(error).splitlines()[0]
        raise ConfigError(
            f"model.{name}: fails on an input {tuple(inputs.shape)}: {reason}"
        ) from error
    finally:
        for module, training in modes.items():
            module.training = training
    return outputs
