"""R3GAN's networks: sizes as published, first weights, and what tells classes."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from torch import nn
from torch.nn.functional import conv2d, leaky_relu, one_hot

from forger.errors import ConfigError
from forger.networks.r3gan import Block, Discriminator, Generator

CIFAR = (3, 32, 32)
SMALL = {"width": 16, "blocks": 1}


def count(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


def drawn(network: nn.Module) -> nn.Module:
    """Lets blocks do something: their last weights are no longer zero."""
    for module in network.modules():
        if isinstance(module, Block):
            nn.init.normal_(module.reduce.weight, 0.0, 0.2)
    return network


@pytest.mark.parametrize(
    ("width", "classes", "generator", "discriminator"),
    [
        (768, 0, 20_732_160, 20_683_776),
        (768, 10, 20_781_952, 21_280_512),
        (64, 0, 285_888, 281_856),
        (96, 0, 527_136, 521_088),
        (128, 0, 833_920, 825_856),
    ],
)
def test_parameter_counts_as_published(width, classes, generator, discriminator) -> None:
    with torch.device("meta"):
        made = Generator(CIFAR, width=width, num_classes=classes)
        assert count(made) == generator
        assert count(Discriminator(CIFAR, width=width, num_classes=classes)) == discriminator
    (grouped,) = {block.grouped.groups for block in made.modules() if isinstance(block, Block)}
    assert grouped == width // 8  # 96 as published


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 32, 32), (3, 48, 48), (1, 64, 64), (2, 8, 8)])
def test_shapes(shape) -> None:
    generator = Generator(shape, latent_dim=7, **SMALL)
    images = generator(torch.randn(3, 7))
    assert images.shape == (3, *shape)
    assert Discriminator(shape, **SMALL)(images).shape == (3,)
    assert (generator.latent_dim, generator.image_shape) == (7, shape)


def test_widths_of_each_side_are_joined_by_convolutions_of_1x1() -> None:
    widths = [32, 16, 8]
    generator = drawn(Generator((1, 28, 28), width=widths, blocks=1))
    discriminator = drawn(Discriminator((1, 28, 28), width=widths, blocks=1))
    images = generator(torch.randn(2, 64))
    assert discriminator(images).shape == (2,)
    for network, order in ((generator, widths), (discriminator, widths[::-1])):
        found = [m.expand.in_channels for m in network.modules() if isinstance(m, Block)]
        assert found == order
        joined = [m for m in network.stages if isinstance(m, nn.Conv2d)]
        assert [sorted(one.weight.shape) for one in joined] == [
            [1, 1, *sorted(pair)] for pair in pairwise(order)
        ]


def test_every_block_begins_as_the_identity_and_all_of_it_learns() -> None:
    torch.manual_seed(0)
    block = Block(16, 8, depth=8)
    features = torch.randn(2, 16, 5, 5)
    assert torch.equal(block(features), features)
    block(features).square().sum().backward()
    assert block.reduce.weight.grad.any()  # and through it the others, one step later
    generator, discriminator = (
        drawn(network) for network in (Generator(CIFAR, **SMALL), Discriminator(CIFAR, **SMALL))
    )
    discriminator(generator(torch.randn(4, 64))).sum().backward()
    for network in (generator, discriminator):
        assert all(p.grad is not None and p.grad.any() for p in network.parameters())


def test_a_block_is_the_formula() -> None:
    torch.manual_seed(0)
    block = drawn(Block(8, 4, depth=1)).double()
    for name, parameter in block.named_parameters():
        if name.endswith("bias"):
            nn.init.normal_(parameter)
    features = torch.randn(2, 8, 6, 6).double()
    hidden = torch.einsum("oi,bihw->bohw", block.expand.weight[:, :, 0, 0], features)
    hidden = leaky_relu(hidden + block.expand.bias[:, None, None], 0.2)
    groups = []
    for group in range(4):  # 16 channels in groups of 4
        own = slice(4 * group, 4 * group + 4)
        groups.append(conv2d(hidden[:, own], block.grouped.weight[own], padding=1))
    hidden = leaky_relu(torch.cat(groups, 1) + block.grouped.bias[:, None, None], 0.2)
    last = torch.einsum("oi,bihw->bohw", block.reduce.weight[:, :, 0, 0], hidden)
    torch.testing.assert_close(block(features), features + last)


def test_first_weights_are_as_published() -> None:
    torch.manual_seed(0)
    generator = Generator(CIFAR, width=64, num_classes=10)
    gain = math.sqrt(2) / math.sqrt(1.04) * 8 ** (-1 / 4)  # eight blocks
    for block in generator.modules():
        if isinstance(block, Block):
            assert block.expand.weight.std().item() == pytest.approx(gain / 64**0.5, rel=0.05)
            assert block.grouped.weight.std().item() == pytest.approx(gain / 144**0.5, rel=0.05)
            assert not block.expand.bias.any()
            assert not block.grouped.bias.any()
    assert generator.linear.weight.std().item() == pytest.approx(128**-0.5, rel=0.05)
    assert generator.embedding.weight.std().item() == pytest.approx(10**-0.5, rel=0.1)
    assert generator.basis.std().item() == pytest.approx(1, rel=0.1)
    discriminator = Discriminator(CIFAR, width=64, num_classes=10)
    assert discriminator.basis.weight.std().item() == pytest.approx(1 / 4, rel=0.1)
    assert discriminator.embedding.weight.std().item() == pytest.approx(640**-0.5, rel=0.1)


def test_images_are_not_squashed_and_scale_with_the_noise() -> None:
    torch.manual_seed(0)
    generator, noise = Generator(CIFAR, **SMALL), torch.randn(2, 64)
    images = generator(noise)  # linear while all blocks are the identity
    torch.testing.assert_close(generator(9 * noise), 9 * images)
    assert (9 * images).abs().max() > 1


def test_both_networks_treat_each_image_alone() -> None:
    torch.manual_seed(0)
    generator, discriminator = Generator(CIFAR, **SMALL), Discriminator(CIFAR, **SMALL)
    drawn(generator), drawn(discriminator)
    noise = torch.randn(3, 64)
    images = generator(noise)
    alone = torch.cat([generator(one[None]) for one in noise])
    torch.testing.assert_close(images, alone, rtol=1e-4, atol=1e-4)
    assert discriminator.independent_samples
    alone = torch.cat([discriminator(one[None]) for one in images])
    torch.testing.assert_close(discriminator(images), alone, rtol=1e-4, atol=1e-4)


def test_the_generator_is_told_a_class_beside_its_noise() -> None:
    torch.manual_seed(0)
    generator = Generator(CIFAR, latent_dim=5, num_classes=3, **SMALL)
    noise, label = torch.randn(2, 5), torch.tensor([2, 0])
    first = generator.linear(torch.cat([noise, generator.embedding.weight[label]], 1))
    expected = first[:, :, None, None] * generator.basis
    found = []
    generator.stages[0].register_forward_pre_hook(lambda _, given: found.append(given[0]))
    images = generator(noise, label)
    torch.testing.assert_close(found[0], expected)
    assert not torch.allclose(images, generator(noise, 2 - label))


def test_a_logit_is_the_dot_product_of_outputs_and_the_classs_embedding() -> None:
    torch.manual_seed(0)
    discriminator = Discriminator(CIFAR, num_classes=3, **SMALL)
    images, label = torch.randn(4, *CIFAR), torch.tensor([0, 1, 2, 1])
    features = discriminator.basis(discriminator.stages(discriminator.image(images))).flatten(1)
    outputs = features @ discriminator.linear.weight.T
    embedded = one_hot(label, 3).float() @ discriminator.embedding.weight
    expected = (outputs * embedded).sum(1)
    torch.testing.assert_close(discriminator(images, label), expected)


def test_a_class_head_tells_classes_and_leaves_the_logit_alone() -> None:
    torch.manual_seed(0)
    discriminator = Discriminator(CIFAR, num_classes=3, head="auxiliary", **SMALL)
    images = torch.randn(4, *CIFAR)
    logits, classes = discriminator(images, torch.tensor([0, 1, 2, 1]))
    assert (logits.shape, classes.shape) == ((4,), (4, 3))
    again, _ = discriminator(images, torch.tensor([1, 0, 0, 0]))
    assert torch.equal(logits, again)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"width": 12, "group_size": 16}, r"group_size=16: must divide 24, twice the width 12"),
        ({"width": [8, 8]}, r"width=\[8, 8\]: images of this size have 4 stages"),
        ({"width": 0}, r"width=0: must be"),
        ({"blocks": 0}, r"blocks=0: must be"),
        (
            {"image_shape": (1, 30, 30)},
            r"makes square images .*image_size=24\|28\|32",
        ),
    ],
)
def test_what_is_refused(arguments, message) -> None:
    arguments = {"image_shape": CIFAR} | arguments
    for network in (Generator, Discriminator):
        with pytest.raises(ConfigError, match=message):
            network(**arguments)


def test_an_unknown_head_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"head=linear: must be one of projection, auxiliary"):
        Discriminator(CIFAR, num_classes=2, head="linear", **SMALL)
