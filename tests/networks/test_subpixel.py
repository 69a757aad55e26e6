"""The small networks: sizes as told, sides in fours, no logit sees another image."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from forger.errors import ConfigError
from forger.networks.subpixel import Discriminator, Generator

SHAPES = [(1, 28, 28), (3, 32, 32), (1, 4, 4), (3, 12, 20)]


def count(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


def test_parameter_counts_as_told() -> None:
    assert count(Generator((1, 28, 28))) == 1_714_500
    assert count(Discriminator((1, 28, 28))) == 837_345


@pytest.mark.parametrize("shape", SHAPES)
def test_shapes_and_ranges(shape) -> None:
    generator = Generator(shape, latent_dim=7, width=4, hidden=9)
    images = generator(torch.randn(3, 7))
    assert images.shape == (3, *shape)
    assert 0 < images.abs().max() < 1
    assert Discriminator(shape, width=4, hidden=9)(images).shape == (3,)


def test_images_start_neither_flat_nor_saturated() -> None:
    torch.manual_seed(0)
    images = Generator((1, 28, 28))(torch.randn(64, 64))
    assert 0.1 < images.std() < 0.5


def test_every_weight_learns() -> None:
    generator, discriminator = Generator((1, 8, 8)), Discriminator((1, 8, 8))
    discriminator(generator(torch.randn(4, 64))).sum().backward()
    for network in (generator, discriminator):
        assert all(p.grad is not None and p.grad.any() for p in network.parameters())


def test_logits_depend_on_their_own_image_alone() -> None:
    torch.manual_seed(0)
    discriminator = Discriminator((1, 28, 28))
    assert discriminator.independent_samples
    images = torch.rand(4, 1, 28, 28) * 2 - 1
    alone = torch.cat([discriminator(image[None]) for image in images])
    torch.testing.assert_close(discriminator(images), alone, rtol=1e-4, atol=1e-5)
    assert not ((alone > 0) & (alone < 1)).all()  # no sigmoid


def test_each_pixel_reaches_the_logit() -> None:
    images = torch.zeros(1, 1, 28, 28, requires_grad=True)
    Discriminator((1, 28, 28))(images).sum().backward()
    assert (images.grad != 0).all()


@pytest.mark.parametrize("network", [Generator, Discriminator])
def test_sides_that_cannot_be_made_are_named(network) -> None:
    with pytest.raises(ConfigError, match=r"not 30x28; nearest: data.image_size=28\|32"):
        network((1, 30, 28))
    with pytest.raises(ConfigError, match=r"data.image_size=4\|8"):
        network((1, 2, 2))


@pytest.mark.parametrize("size", ["latent_dim", "width", "hidden"])
def test_sizes_below_one_are_named(size: str) -> None:
    with pytest.raises(ConfigError, match=rf"model.generator.{size}=0"):
        Generator((1, 28, 28), **{size: 0})
    if size != "latent_dim":
        with pytest.raises(ConfigError, match=rf"model.discriminator.{size}=0"):
            Discriminator((1, 28, 28), **{size: 0})
