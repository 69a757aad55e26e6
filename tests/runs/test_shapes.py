"""Networks that do not fit the data are refused before any work."""

from __future__ import annotations

import pytest
import torch
from helpers import SHAPE, make_dcgan
from torch import nn

from forger.errors import ConfigError
from forger.gan import GAN
from forger.networks import mlp
from forger.runs.shapes import check_shapes


def gan_of(generator: nn.Module, discriminator: nn.Module) -> GAN:
    return GAN(generator=generator, discriminator=discriminator)


def test_fitting_networks_are_left_as_they_were() -> None:
    gan = make_dcgan()
    gan.discriminator.layers[0].eval()
    modes = [module.training for module in gan.modules()]
    bits = {name: value.clone() for name, value in gan.state_dict().items()}
    state = torch.get_rng_state()
    check_shapes(gan, SHAPE)
    assert [module.training for module in gan.modules()] == modes
    assert all(torch.equal(value, bits[name]) for name, value in gan.state_dict().items())
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(
    ("generator", "discriminator", "message"),
    [
        (mlp.Generator((1, 8, 8)), mlp.Discriminator(SHAPE), r"images \(1, 8, 8\), the data holds"),
        (mlp.Generator(SHAPE), mlp.Discriminator((1, 8, 8)), r"discriminator: fails on an input"),
        (mlp.Generator(SHAPE), nn.Flatten(), r"\(2, 256\) for 2 images, must give one logit each"),
        (nn.Linear(3, 4), mlp.Discriminator(SHAPE), "needs an attribute latent_dim"),
    ],
)
def test_refused(generator: nn.Module, discriminator: nn.Module, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        check_shapes(gan_of(generator, discriminator), SHAPE)
