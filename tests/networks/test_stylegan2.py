"""StyleGAN2: sizes as published, layers against loops and numbers by hand, styles and noise."""

from __future__ import annotations

import math
from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from forger.errors import ConfigError
from forger.networks.conditional import LabelBesideNoise
from forger.networks.modulated_layers import ModulatedConv2d, StyledLayer
from forger.networks.stylegan2 import Discriminator, Generator
from forger.networks.stylegan2_layers import (
    EqualConv2d,
    EqualLinear,
    Mapping,
    MinibatchDeviation,
)

CIFAR, MNIST = (3, 32, 32), (1, 28, 28)
CHANNELS: dict[str, Any] = {"channel_base": 64, "channel_max": 6}
SMALL: dict[str, Any] = {"latent_dim": 5, "style_dim": 7, "mapping_layers": 2, **CHANNELS}


def count(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


@pytest.mark.parametrize(
    ("network", "shape", "settings", "expected"),
    [
        (Generator, CIFAR, {"mapping_layers": 2}, 19_947_539),
        (Generator, CIFAR, {"mapping_layers": 2, "num_classes": 10}, 20_215_315),
        (Discriminator, CIFAR, {"residual": False, "group_size": 32}, 20_720_641),
        (Discriminator, CIFAR, {"residual": False, "num_classes": 10}, 23_089_664),
        (Generator, (3, 1024, 1024), {}, 30_370_060),
        (Discriminator, (3, 1024, 1024), {}, 29_012_513),
    ],
)
def test_sizes_as_published(network, shape, settings, expected) -> None:
    with torch.device("meta"):
        assert count(network(shape, **settings)) == expected


@pytest.mark.parametrize("side", [28, 32, 40, 64])
def test_images_and_logits_of_each_side_reach_every_weight(side: int) -> None:
    torch.manual_seed(0)
    shape, label = (3, side, side), torch.tensor([0, 1, 2, 0])
    generator = Generator(shape, num_classes=3, **SMALL)
    assert (generator.latent_dim, generator.image_shape) == (5, shape)
    images = generator(torch.randn(4, 5), label, torch.randn(4, generator.extra_noise))
    assert images.shape == (4, *shape)
    networks: list[nn.Module] = [generator]
    for settings in ({"residual": False}, {"num_classes": 3}, {"num_classes": 3, "group_size": 0}):
        discriminator = Discriminator(shape, **CHANNELS, **settings)
        logits = discriminator(images, label)
        assert logits.shape == (4,)
        networks.append(discriminator)
        logits.square().sum().backward(retain_graph=True)
    auxiliary = Discriminator(shape, num_classes=3, head="auxiliary", **CHANNELS)
    logits, classes = auxiliary(images, label)
    assert (logits.shape, classes.shape) == ((4,), (4, 3))
    (logits.square().sum() + classes.square().sum()).backward()
    for network in (*networks, auxiliary):
        for name, parameter in network.named_parameters():
            assert parameter.grad is not None, name
            assert parameter.grad.any(), name


def test_28_starts_from_7_and_channels_follow_the_side() -> None:
    generator = Generator(MNIST, channel_base=280, channel_max=32)
    assert generator.constant.shape == (1, 32, 7, 7)  # 40, and at most 32
    assert [layer.fixed_noise.shape[0] for layer in generator.layers] == [7, 14, 14, 28, 28]
    assert [len(layer.bias) for layer in generator.layers] == [32, 20, 20, 10, 10]


def test_channels_of_each_side_may_be_listed() -> None:
    channels: dict[str, Any] = {"channel_base": [24, 8, 4], "channel_max": 16}
    generator, discriminator = Generator(MNIST, 5, 7, **channels), Discriminator(MNIST, **channels)
    assert [len(layer.bias) for layer in generator.layers] == [16, 8, 8, 4, 4]  # at most 16
    assert discriminator.of_image.weight.shape[0] == 4
    assert discriminator.features.weight.shape == (16, 16 * 7**2)
    images = generator(torch.randn(4, 5))
    assert discriminator(images).shape == (4,)


def test_an_equalised_layer_learns_at_its_own_rate() -> None:
    """A step of Adam changes each effective weight by the rate, the multiplier and He's scale."""
    torch.manual_seed(0)
    layer = EqualLinear(100, 3, bias=0.5, lr_multiplier=0.01)
    assert layer.weight.std().item() == pytest.approx(100, rel=0.2)  # N(0, 1) / 0.01
    features = torch.randn(4000, 100)
    before = layer(features)
    assert before.var(0).mean().item() == pytest.approx(1, rel=0.2)  # 300 weights
    assert before.mean(0).tolist() == pytest.approx([0.5] * 3, abs=0.05)
    optimizer = torch.optim.Adam(layer.parameters(), lr=1.0)
    layer(torch.ones(1, 100)).sum().backward()
    optimizer.step()
    moved = before - layer(features)
    expected = 0.01 * (features.sum(1) / 10 + 1)  # of 100 weights, each by 0.01 / 10, and a bias
    torch.testing.assert_close(moved, expected[:, None].expand(-1, 3), atol=1e-4, rtol=1e-3)


def test_activations_keep_their_variance() -> None:
    torch.manual_seed(0)
    maps = torch.randn(8, 64, 16, 16)
    for layer in (EqualConv2d(64, 48, 3), EqualConv2d(64, 48, 1)):
        assert layer(maps).square().mean().item() == pytest.approx(1, rel=0.1)
        half = EqualConv2d(64, 48, 3, gain=0.5)(maps)
        assert half.square().mean().item() == pytest.approx(0.25, rel=0.1)


def modulated(weight: Tensor, scales: Tensor, demodulates: bool) -> np.ndarray:
    """The weights of each image, `(B, O, I, K, K)`, number by number (section 2.2)."""
    outputs, inputs, size, _ = weight.shape
    found = np.zeros((len(scales), *weight.shape))
    for b, o, i, y, x in np.ndindex(found.shape):
        found[b, o, i, y, x] = weight[o, i, y, x] * scales[b, i]
    for b, o in product(range(len(scales)), range(outputs)):
        if demodulates:
            found[b, o] /= math.sqrt((found[b, o] ** 2).sum() + 1e-8)
        else:
            found[b, o] /= math.sqrt(inputs * size**2)
    return found


def correlated(maps: np.ndarray, weight: np.ndarray, padding: int) -> np.ndarray:
    """Slides `(O, I, K, K)` over `(I, H, W)` with zeros around."""
    size = weight.shape[-1]
    around = np.pad(maps, ((0, 0), (padding, padding), (padding, padding)))
    side = around.shape[-1] - size + 1
    found = np.zeros((len(weight), side, side))
    for o, y, x in np.ndindex(found.shape):
        found[o, y, x] = (weight[o] * around[:, y : y + size, x : x + size]).sum()
    return found


@pytest.mark.parametrize(
    ("size", "doubles", "demodulates"), [(3, False, True), (1, False, False), (3, True, True)]
)
def test_a_modulated_convolution_is_one_with_weights_of_each_image(
    size: int, doubles: bool, demodulates: bool
) -> None:
    torch.manual_seed(0)
    layer = ModulatedConv2d(3, 2, size, 5, doubles, demodulates).double()
    maps, style = torch.randn(2, 3, 4, 4).double(), torch.randn(2, 5).double()
    found, gains = layer(maps, style)
    assert (gains is not None) == demodulates
    found = found * gains[:, :, None, None] if gains is not None else found
    scales = style @ layer.scales.weight.T / math.sqrt(5) + 1
    weights = modulated(layer.weight.detach(), scales.detach(), demodulates)
    taps = np.outer([1, 3, 3, 1], [1, 3, 3, 1]) / 16  # of sum 4
    for image, weight, ours in zip(maps.numpy(), weights, found.detach().numpy(), strict=True):
        if doubles:  # zeros between pixels, the turned kernel, the filter of each channel
            spread = np.zeros((3, 7, 7))
            spread[:, ::2, ::2] = image
            large = correlated(spread, weight[:, :, ::-1, ::-1], padding=2)
            each = np.zeros((2, 2, 4, 4))
            each[0, 0] = each[1, 1] = taps
            expected = correlated(large, each, padding=1)
        else:
            expected = correlated(image, weight, padding=size // 2)
        np.testing.assert_allclose(ours, expected, atol=1e-7)


@pytest.mark.parametrize("doubles", [False, True])
def test_demodulated_outputs_have_variance_1(doubles: bool) -> None:
    """Whatever the style; a doubled map is smoothed, and has unit variance for a smooth input."""
    torch.manual_seed(0)
    layer = ModulatedConv2d(32, 48, 3, 8, doubles)
    style = 30 * torch.randn(16, 8)
    maps, gains = layer(torch.randn(16, 32, 24, 24), style)
    inside = (maps * gains[:, :, None, None])[:, :, 2:-2, 2:-2]
    # Of white noise the filter [1, 3, 3, 1] / 4 and zeros between keep 20 / 32 of each axis.
    expected = (20 / 32) ** 2 if doubles else 1.0
    assert inside.var((0, 2, 3)).mean().item() == pytest.approx(expected, rel=0.05)
    assert inside.var((1, 2, 3)).std() < 0.1 * expected  # of each image alike


def test_a_layer_adds_noise_of_its_strength_and_a_bias() -> None:
    torch.manual_seed(0)
    layer = StyledLayer(3, 2, 4, style_dim=5)
    maps, style, noise = torch.randn(2, 3, 4, 4), torch.randn(2, 5), torch.randn(2, 1, 4, 4)
    assert torch.equal(layer(maps, style, noise), layer(maps, style))  # strength 0 at the start
    with torch.no_grad():
        layer.noise_strength.fill_(0.5)
        layer.bias.copy_(torch.tensor([1.0, -2.0]))
    found, gains = layer.convolution(maps, style)
    plain = found * gains[:, :, None, None]
    for given, used in ((noise, noise), (None, layer.fixed_noise)):
        total = plain + 0.5 * used + torch.tensor([1.0, -2.0])[:, None, None]
        expected = math.sqrt(2) * torch.where(total > 0, total, 0.2 * total)
        torch.testing.assert_close(layer(maps, style, given), expected)


def test_the_deviation_of_a_batch_by_hand() -> None:
    """Images 0 and 2 are a group, and 1 and 3: half of what two differ in, over all numbers."""
    maps = torch.zeros(4, 2, 1, 2)
    maps[2] = torch.tensor([[[2.0, 0.0]], [[4.0, 6.0]]])  # deviations 1, 0, 2, 3
    maps[3] = 8.0
    found = MinibatchDeviation(2)(maps)
    assert torch.equal(found[:, :2], maps)
    for image, deviation in zip(found, [1.5, 4.0, 1.5, 4.0], strict=True):
        torch.testing.assert_close(image[2], torch.full((1, 2), deviation), atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    ("rows", "wanted", "size"), [(12, 4, 4), (10, 4, 5), (6, 32, 6), (7, 4, 7)]
)
def test_groups_are_of_the_nearest_size_that_divides_a_batch(rows, wanted, size) -> None:
    maps = torch.arange(rows).float()[:, None, None, None] ** 2
    planes = MinibatchDeviation(wanted)(maps)[:, 1].flatten()
    expected = [maps[first :: rows // size].std(correction=0) for first in range(rows // size)]
    torch.testing.assert_close(planes, torch.stack(expected).repeat(size))


def test_only_the_deviation_makes_a_logit_depend_on_other_images() -> None:
    torch.manual_seed(0)
    images = torch.randn(4, *MNIST)
    alone = Discriminator(MNIST, group_size=0, **CHANNELS)
    assert alone.independent_samples
    torch.testing.assert_close(alone(images)[:2], alone(images[:2]))
    mixing = Discriminator(MNIST, group_size=4, **CHANNELS)
    assert not mixing.independent_samples
    assert not torch.allclose(mixing(images)[:2], mixing(images[:2]))


def test_a_label_is_mapped_and_multiplied_with_the_features() -> None:
    torch.manual_seed(0)
    discriminator = Discriminator(MNIST, num_classes=3, **CHANNELS)
    images, label = torch.randn(4, *MNIST), torch.tensor([2, 0, 1, 2])
    assert len(discriminator.mapping.layers) == 8
    seen: list[Tensor] = []
    discriminator.logit.register_forward_hook(lambda *call: seen.append(call[2]))
    logits = discriminator(images, label)
    embedded = discriminator.mapping.embedding.weight[label] / math.sqrt(3)
    unit = embedded / embedded.square().mean(1, keepdim=True).sqrt()
    expected = (seen[0] * discriminator.mapping.layers(unit)).sum(1) / math.sqrt(6)
    torch.testing.assert_close(logits, expected)


def test_mapping_forgets_how_long_noise_is() -> None:
    torch.manual_seed(0)
    mapping, noise, label = Mapping(5, 3, 7, 2), torch.randn(4, 5), torch.tensor([0, 1, 2, 0])
    styles = mapping(noise, label)
    torch.testing.assert_close(mapping(10 * noise, label), styles)
    assert not torch.allclose(mapping(-noise, label), styles)
    assert not torch.allclose(mapping(noise, label.flip(0))[1], styles[1])


@pytest.fixture
def generator() -> Generator:
    """One in which noise and styles matter."""
    torch.manual_seed(0)
    generator = Generator(MNIST, num_classes=3, **SMALL, style_mixing=0.5)
    for layer in generator.layers:
        nn.init.ones_(layer.noise_strength)
    return generator


LABEL = torch.tensor([1, 1, 1, 1])


def test_without_extra_noise_an_image_depends_on_its_own_noise_and_label_alone(generator) -> None:
    noise = torch.randn(2, 5)[[0, 1, 0, 1]]
    images = generator(noise, LABEL)
    torch.testing.assert_close(images[:2], images[2:])
    torch.testing.assert_close(generator(noise[:1], LABEL[:1]), images[:1])
    assert torch.equal(generator.train()(noise, LABEL), generator.eval()(noise, LABEL))
    assert not torch.allclose(generator(noise, torch.tensor([1, 1, 2, 1]))[2], images[0])


def test_extra_noise_differs_between_rows_and_is_all_that_is_drawn(generator) -> None:
    noise = torch.randn(1, 5).expand(4, -1)
    extra = torch.randn(4, generator.extra_noise)
    images = generator(noise, LABEL, extra)
    assert torch.equal(generator(noise, LABEL, extra), images)
    assert not torch.allclose(images[0], images[1])
    torch.testing.assert_close(generator(noise[2:3], LABEL[:1], extra[2:3]), images[2:3])
    extra.requires_grad_()
    generator(noise, LABEL, extra).square().sum().backward()
    pixels = sum(generator.noise_sizes)
    assert pixels == 7 * 7 + 2 * 14 * 14 + 2 * 28 * 28
    assert extra.grad[:, :pixels].all()  # every number is of some pixel


def test_styles_are_mixed_as_often_as_asked_and_at_every_layer(generator) -> None:
    rows = 6000
    noise, label = torch.randn(1, 5).expand(rows, -1), torch.zeros(rows, dtype=torch.int64)
    torch.manual_seed(1)
    extra = torch.zeros(rows, generator.extra_noise)
    extra[:, -7:] = torch.randn(rows, 7)
    styles = generator.styles(noise, label, extra)
    assert styles.shape == (rows, 6, 7)
    own = generator.mapping(noise, label)[:, None]
    others = generator.mapping(extra[:, -7:-2], label)
    is_other = (styles == others[:, None]).all(2)
    assert ((styles == own).all(2) | is_other).all()
    assert (is_other.diff(dim=1).int() >= 0).all()  # once the other's, up to the image
    first = 6 - is_other.sum(1)
    shares = torch.bincount(first, minlength=7) / rows
    assert shares[0] == 0
    assert shares[6].item() == pytest.approx(0.5, abs=0.03)
    assert shares[1:6].tolist() == pytest.approx([0.1] * 5, abs=0.02)
    assert (generator.styles(noise, label) == own).all()


@pytest.mark.parametrize("style_mixing", [0.0, 1.0])
def test_without_mixing_no_number_is_drawn_for_it(style_mixing: float) -> None:
    generator = Generator(MNIST, **SMALL, style_mixing=style_mixing)
    mixing = generator.extra_noise - sum(generator.noise_sizes)
    assert mixing == (0 if style_mixing == 0 else 5 + 2)


def test_the_style_of_each_layer_has_its_own_say(generator) -> None:
    styles = generator.styles(torch.randn(2, 5), LABEL[:2]).detach().clone().requires_grad_()
    images = generator.synthesize(styles)
    assert torch.equal(images, generator.synthesize(styles))
    images.square().sum().backward()
    assert styles.grad.any(2).all()


def test_mixed_precision_keeps_images_and_styles_in_float32() -> None:
    torch.manual_seed(0)
    generator, noise = Generator(MNIST, **SMALL), torch.randn(8, 5)
    discriminator = Discriminator(MNIST, **CHANNELS)
    plain, expected = generator(noise), generator.styles(noise)
    with torch.autocast("cpu", torch.bfloat16):
        images, styles = generator(noise), generator.styles(noise)
        logits = discriminator(plain)
    assert torch.equal(styles, expected)
    assert images.dtype == torch.float32
    assert (images - plain).abs().max() < 0.03 * plain.abs().max()
    torch.testing.assert_close(logits.float(), discriminator(plain), atol=0.05, rtol=0.05)


def test_a_label_beside_noise_goes_with_extra_noise_and_styles() -> None:
    torch.manual_seed(0)
    inner = Generator(MNIST, **SMALL, style_mixing=0)
    nn.init.ones_(inner.layers[0].noise_strength)
    wrapped = LabelBesideNoise(inner, num_classes=3, label_dim=2)
    assert (wrapped.extra_noise, wrapped.has_styles) == (sum(inner.noise_sizes), True)
    noise, extra = torch.randn(4, 3), torch.randn(4, inner.extra_noise)
    images = wrapped(noise, LABEL, extra=extra)
    assert not torch.allclose(images, wrapped(noise, LABEL))
    seen = torch.cat([noise, wrapped.embedding(LABEL)], 1)
    assert torch.equal(images, inner(seen, extra=extra))
    styles = wrapped.styles(noise, LABEL, extra=extra)
    assert torch.equal(wrapped.synthesize(styles, extra=extra), images)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Generator((1, 33, 33)), r"this one .* not 33x33; nearest: data.image_size=28"),
        (lambda: Discriminator((1, 28, 32)), "not 28x32"),
        (lambda: Generator(MNIST, style_dim=0), r"model\.generator\.style_dim=0: .* at least 1"),
        (lambda: Generator(MNIST, style_mixing=1.5), r"style_mixing=1\.5: .* from 0 to 1"),
        (lambda: Discriminator(MNIST, group_size=-1), r"group_size=-1: .* at least 0"),
        (lambda: Discriminator(MNIST, channel_base=0.5), r"discriminator\.channel_base=0\.5"),
        (
            lambda: Generator(MNIST, channel_base=[8, 4]),
            r"model\.generator\.channel_base=\[8, 4\]: images of this size have 3 stages",
        ),
        (lambda: Generator(MNIST, channel_base=[8, 4, 0]), r"generator\.channel_base=0: "),
        (lambda: Discriminator(MNIST, head="concat"), "head=concat: must be one of projection"),
        (
            lambda: LabelBesideNoise(Generator(MNIST, **SMALL), 3, 2),
            r"generator=concat: a style .*generator=auto, or model\.generator\.style_mixing=0",
        ),
    ],
)
def test_what_cannot_be_made_says_what_to_write(make, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make()
