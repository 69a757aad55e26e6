"""DF-GAN's networks against the paper's sizes, and how they start."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn.functional import avg_pool2d

from forger.errors import ConfigError
from forger.networks import subpixel
from forger.networks.dfgan import Affine, Discriminator, DiscriminatorBlock, Generator

# in a network of 64x64, a convolution that the authors' code makes and never runs
_NEVER_RUN = 256 * 256 + 256


def count(network: nn.Module) -> int:
    return sum(one.numel() for one in network.parameters())


@pytest.mark.parametrize(
    ("side", "of_generator", "of_discriminator"),
    [(32, 2.78e6, 1.51e6), (64, 5.48e6, 3.21e6 - _NEVER_RUN)],
)
def test_numbers_of_parameters_are_the_papers(
    side: int, of_generator: float, of_discriminator: float
) -> None:
    shape = (3, side, side)
    generator, discriminator = Generator(shape, text_dim=384), Discriminator(shape, text_dim=384)
    head = count(discriminator.head)
    assert count(generator) == pytest.approx(of_generator, abs=5e3)
    assert count(discriminator) - head == pytest.approx(of_discriminator, abs=5e3)
    assert head == (256 + 384) * 64 * 9 + 64 * 16


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 8, 8), (2, 40, 40)])
def test_shapes_and_one_logit_each(shape: tuple[int, int, int]) -> None:
    generator = Generator(shape, latent_dim=5, width=4, text_dim=3)
    discriminator = Discriminator(shape, width=4, text_dim=3)
    images = generator(torch.randn(2, 5), torch.randn(2, 3))
    assert images.shape == (2, *shape)
    assert images.abs().max() <= 1
    assert discriminator(images, torch.randn(2, 3)).shape == (2,)
    without = Discriminator(shape, width=4)(
        Generator(shape, latent_dim=5, width=4)(torch.randn(2, 5))
    )
    assert without.shape == (2,)


def test_blocks_of_the_discriminator_start_as_their_shortcuts() -> None:
    torch.manual_seed(0)
    maps = torch.randn(2, 4, 8, 8)
    torch.testing.assert_close(DiscriminatorBlock(4, 4)(maps), avg_pool2d(maps, 2))
    wider = DiscriminatorBlock(4, 6)
    torch.testing.assert_close(wider(maps), avg_pool2d(wider.shortcut(maps), 2))
    with torch.no_grad():
        wider.factor.fill_(1)
    assert not torch.allclose(wider(maps), avg_pool2d(wider.shortcut(maps), 2))
    for start in (0, 1):
        judge = Discriminator((3, 8, 8), initial_factor=start)
        assert [block.factor.item() for block in judge.blocks] == [start]


def test_the_head_may_be_wider_than_the_rest() -> None:
    for width, head_width, found in ((4, None, 8), (4, 32, 32)):
        judge = Discriminator((3, 8, 8), width, text_dim=5, head_width=head_width)
        assert judge.head[0].weight.shape == (found, 2 * width + 5, 3, 3)
    with pytest.raises(ConfigError, match="head_width=0"):
        Discriminator((3, 8, 8), head_width=0)


def test_affine_layers_start_by_changing_nothing() -> None:
    maps, vector = torch.randn(2, 4, 3, 3), torch.randn(2, 5)
    assert torch.equal(Affine(4, 5)(maps, vector), maps)


def test_the_side_doubles_before_what_each_pixel_undergoes_or_after_it() -> None:
    """The order that saves work gives what the paper's order gives."""
    torch.manual_seed(0)
    block = Generator((3, 8, 8), latent_dim=5, width=4, text_dim=2).blocks[0]
    for affine in block.affines:
        for mlp in (affine.gain, affine.bias):
            nn.init.normal_(mlp[-1].weight)
    maps, vector = torch.randn(2, 32, 4, 4), torch.randn(2, 7)
    doubled = nn.functional.interpolate(maps, scale_factor=2)
    hidden = doubled
    for number, affine in enumerate(block.affines):
        hidden = nn.functional.leaky_relu(affine(hidden, vector), 0.2)
        if number % 2:
            hidden = (block.first, block.second)[number // 2](hidden)
    torch.testing.assert_close(block(maps, vector), block.shortcut(doubled) + hidden)


def test_more_texts_than_images_judge_the_first_images_again() -> None:
    torch.manual_seed(0)
    network = Discriminator((3, 8, 8), width=4, text_dim=3)
    images, texts = torch.randn(4, 3, 8, 8), torch.randn(6, 3)
    expected = network(torch.cat([images, images[:2]]), texts)
    torch.testing.assert_close(network(images, texts), expected)


def test_small_networks_for_a_processor_take_texts_too() -> None:
    torch.manual_seed(0)
    settings = {"width": 2, "hidden": 8, "text_dim": 3}
    generator = subpixel.Generator((3, 8, 8), latent_dim=5, **settings).eval()
    discriminator = subpixel.Discriminator((3, 8, 8), **settings)
    noise, texts = torch.randn(2, 5), torch.randn(3, 3)
    images = generator(noise, texts[:2])
    assert not torch.allclose(images, generator(noise, texts[1:]))
    expected = discriminator(torch.cat([images, images[:1]]), texts)
    torch.testing.assert_close(discriminator(images, texts), expected)
    assert not torch.allclose(expected[0], expected[2])
