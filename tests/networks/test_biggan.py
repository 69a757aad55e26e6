"""BigGAN's networks: sizes as published, attention by loops, what noise and class reach."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from forger.conditions import Labels
from forger.errors import ConfigError
from forger.networks.biggan import Discriminator, Generator, SelfAttention
from forger.networks.conditional import ClassBatchNorm, VectorBatchNorm
from forger.sampling.between_classes import generate_between
from forger.sampling.sampler import Sampler

CIFAR, SMALL = (3, 32, 32), {"width": 2, "init": "normal"}
AUTHORS: dict[str, Any] = {"latent_dim": 128, "class_dim": None, "skip_noise": False}
WAYS: dict[str, dict[str, Any]] = {
    "chunks and shared classes": {"num_classes": 3, "class_dim": 5},
    "shared classes": {"num_classes": 3, "class_dim": 5, "skip_noise": False},
    "own classes": {"num_classes": 3, "class_dim": None, "skip_noise": False},
    "chunks": {},
    "noise alone": {"skip_noise": False},
}


def count(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


def label_of(settings: dict[str, Any], rows: int) -> tuple[Tensor, ...]:
    return (torch.arange(rows) % 3,) if settings.get("num_classes") else ()


def test_sizes_of_the_authors_networks_for_cifar() -> None:
    assert count(Generator(CIFAR, **AUTHORS, init="normal", num_classes=10)) == 4_304_387
    assert count(Discriminator(CIFAR, init="normal", num_classes=10)) == 4_207_361


@pytest.mark.parametrize(
    ("network", "expected"), [(Generator, 70_433_988), (Discriminator, 87_982_370)]
)
def test_sizes_for_128_pixels_and_1000_classes_as_published(
    network: type[nn.Module], expected: int
) -> None:
    """Of width 96, too large to build here: the size is a quadratic function of the width."""
    sizes = [
        count(network((3, 128, 128), width=width, init="normal", num_classes=1000))
        for width in (8, 16, 24)
    ]
    first, second = sizes[1] - sizes[0], sizes[2] - 2 * sizes[1] + sizes[0]
    steps = (96 - 8) // 8
    assert sizes[0] + steps * first + math.comb(steps, 2) * second == expected


def test_widths_by_side() -> None:
    """Channels of the generator's and of the discriminator's maps, of width 1."""
    for side, wide, deep in (
        (28, [4, 4, 4], [4, 4, 4, 4]),
        (32, [4, 4, 4, 4], [4, 4, 4, 4]),
        (64, [16, 16, 8, 4, 2], [1, 2, 4, 8, 16]),
        (128, [16, 16, 8, 4, 2, 1], [1, 2, 4, 8, 16, 16]),
    ):
        shape = (3, side, side)
        generator = Generator(shape, width=1, init="normal")
        channels = [block.shortcut.in_channels for block in generator.blocks]
        assert [*channels, generator.image.in_channels] == wide
        judged = Discriminator(shape, width=1, init="normal").blocks[::2]
        assert [block.conv2.out_channels for block in judged] == deep
        attending = [isinstance(one, SelfAttention) for one in generator.attentions]
        assert attending == [
            side * 2 ** (i + 1 - len(wide) + 1) == 64 for i in range(len(wide) - 1)
        ]


@pytest.mark.parametrize("settings", WAYS.values(), ids=WAYS.keys())
@pytest.mark.parametrize("side", [28, 32, 64, 128])
def test_every_weight_and_number_of_the_noise_counts(settings: dict[str, Any], side: int) -> None:
    torch.manual_seed(0)
    shape, small = (3, side, side), {"width": 8, "init": "normal"}
    classes = {"num_classes": 3} if settings.get("num_classes") else {}
    generator = Generator(shape, latent_dim=13, **small, **settings)
    discriminator = Discriminator(shape, **small, **classes)
    for network in (generator, discriminator):
        for module in network.modules():
            if isinstance(module, SelfAttention):
                nn.init.ones_(module.gamma)
    noise, label = torch.randn(4, 13, requires_grad=True), label_of(settings, 4)
    images = generator(noise, *label)
    assert images.shape == (4, *shape)
    assert 0 < images.abs().max() < 1
    logits = discriminator(images, *label)
    assert logits.shape == (4,)
    logits.square().sum().backward()
    assert noise.grad is not None
    assert noise.grad.all()
    for network in (generator, discriminator):
        for name, parameter in network.named_parameters():
            assert parameter.grad is not None, name
            assert parameter.grad.any() or parameter.ndim == 1, name


def test_chunks_of_noise_go_to_the_layers_in_order() -> None:
    """A block's chunk changes nothing before it; the rest of a division goes to the first layer."""
    torch.manual_seed(0)
    generator = Generator(CIFAR, latent_dim=14, **SMALL).eval()
    assert generator.chunks == [5, 3, 3, 3]
    maps: list[Tensor] = []
    for block in generator.blocks:
        block.register_forward_hook(lambda *seen: maps.append(seen[-1]))
    noise = torch.randn(1, 14)
    generator(noise)
    before = maps.copy()
    for block, start in enumerate((5, 8, 11)):
        for place in range(start, start + 3):
            maps.clear()
            changed = noise.clone()
            changed[0, place] += 1
            generator(changed)
            alike = [torch.equal(*pair) for pair in zip(maps, before, strict=True)]
            assert alike == [depth < block for depth in range(3)]


def test_batch_norm_of_a_vector_is_its_formula() -> None:
    torch.manual_seed(0)
    layer = VectorBatchNorm(4, inputs=3)
    features, vector = torch.randn(5, 4, 2, 6), torch.randn(5, 3)
    mean = features.mean((0, 2, 3), keepdim=True)
    normed = (features - mean) / (features.var((0, 2, 3), False, keepdim=True) + 1e-5).sqrt()
    expected = torch.empty_like(features)
    for row in range(5):
        for channel in range(4):
            gain = 1 + sum(layer.gain.weight[channel] * vector[row])
            bias = sum(layer.bias.weight[channel] * vector[row])
            expected[row, channel] = gain * normed[row, channel] + bias
    torch.testing.assert_close(layer(features, vector), expected)
    torch.testing.assert_close(layer(features, torch.zeros(5, 3)), normed)


def attended(attention: SelfAttention, features: Tensor) -> Tensor:
    """Self-attention of one image `(C, H, W)`, pixel by pixel."""
    query, key, value = (
        torch.einsum("oc,chw->ohw", layer.weight[:, :, 0, 0], features)
        for layer in (attention.query, attention.key, attention.value)
    )
    _, height, width = features.shape
    corners = [(y, x) for y in range(0, height, 2) for x in range(0, width, 2)]
    largest = [
        [one[:, y : y + 2, x : x + 2].flatten(1).max(1).values for y, x in corners]
        for one in (key, value)
    ]
    result = features.clone()
    for y in range(height):
        for x in range(width):
            weights = torch.stack([(query[:, y, x] * one).sum() for one in largest[0]]).exp()
            seen = sum(w * one for w, one in zip(weights / weights.sum(), largest[1], strict=True))
            result[:, y, x] += attention.gamma * attention.output.weight[:, :, 0, 0] @ seen
    return result


def test_attention_begins_as_the_identity_and_is_its_formula() -> None:
    torch.manual_seed(0)
    attention, features = SelfAttention(16), torch.randn(2, 16, 4, 6)
    assert torch.equal(attention(features), features)
    nn.init.constant_(attention.gamma, 0.7)
    expected = torch.stack([attended(attention, one) for one in features])
    torch.testing.assert_close(attention(features), expected)


def test_attention_can_be_penalised() -> None:
    """R1 takes the gradient of a gradient; only maps of 64 pixels attend, so the layer is alone."""
    torch.manual_seed(0)
    attention = SelfAttention(8).double()
    nn.init.constant_(attention.gamma, 0.7)
    features = torch.randn(1, 8, 4, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradgradcheck(attention, (features,))


@pytest.mark.parametrize("settings", WAYS.values(), ids=WAYS.keys())
def test_spectral_norm_holds_every_layer_of_both_but_the_generators_embeddings(
    settings: dict[str, Any],
) -> None:
    torch.manual_seed(0)
    classes = {"num_classes": 3} if settings.get("num_classes") else {}
    generator = Generator(CIFAR, latent_dim=8, **SMALL, **settings)
    discriminator = Discriminator(CIFAR, **SMALL, **classes)
    for _ in range(60):  # power iterations
        label = label_of(settings, 4)
        discriminator(generator(torch.randn(4, 8), *label), *label)
    layers = [
        layer
        for network, kinds in (
            (generator.eval(), (nn.Conv2d, nn.Linear)),
            (discriminator.eval(), (nn.Conv2d, nn.Linear, nn.Embedding)),
        )
        for layer in network.modules()
        if isinstance(layer, kinds)
    ]
    assert len(layers) > 20
    for layer in layers:
        largest = torch.linalg.matrix_norm(layer.weight.flatten(1), 2)
        assert largest.item() == pytest.approx(1, abs=0.02)


def originals(network: nn.Module) -> list[Tensor]:
    """Weights as they were drawn, as matrices."""
    return [
        value.detach().flatten(1)
        for name, value in network.named_parameters()
        if name.endswith("original") or "embedding" in name
    ]


def test_first_weights() -> None:
    for network in (Generator, Discriminator):
        torch.manual_seed(0)
        for weight in originals(network(CIFAR, width=4, num_classes=3)):
            small = weight if len(weight) <= weight.shape[1] else weight.T
            torch.testing.assert_close(small @ small.T, torch.eye(len(small)))  # orthogonal
        drawn = torch.cat([one.flatten() for one in originals(network(CIFAR, **SMALL))])
        assert drawn.std().item() == pytest.approx(0.02, rel=0.05)
    own = Generator(CIFAR, width=16, num_classes=50, **AUTHORS, init="normal")
    gains = [one.gain.weight for one in own.modules() if isinstance(one, ClassBatchNorm)]
    assert len(gains) == 6
    assert torch.cat(gains).mean().item() == pytest.approx(1, abs=0.001)
    assert torch.cat(gains).std().item() == pytest.approx(0.02, rel=0.05)


@pytest.mark.parametrize("head", ["projection", "auxiliary"])
def test_logits_depend_on_their_own_image_and_label_alone(head: Any) -> None:
    torch.manual_seed(0)
    discriminator = Discriminator(CIFAR, **SMALL, num_classes=3, head=head).eval()
    assert discriminator.independent_samples
    images, label = torch.randn(4, *CIFAR), torch.tensor([0, 2, 1, 0])
    one = [discriminator(images[row : row + 1], label[row : row + 1]) for row in range(4)]
    judged = discriminator(images, label)
    if head == "auxiliary":
        for part in range(2):
            torch.testing.assert_close(judged[part], torch.cat([alone[part] for alone in one]))
    else:
        torch.testing.assert_close(judged, torch.cat(one))
        other = discriminator(images, torch.tensor([1, 2, 1, 0]))
        assert (other != judged).tolist() == [True, False, False, False]


@pytest.mark.parametrize("way", ["chunks and shared classes", "own classes"])
def test_a_walk_between_classes_ends_at_the_other_one(way: str) -> None:
    torch.manual_seed(0)
    generator = Generator(CIFAR, latent_dim=8, width=2, **WAYS[way])
    sampler = Sampler(generator, "normal", Labels(["cat", "dog", "ship"]))
    noise, start, end = sampler.noise(3), torch.zeros(3).long(), torch.full((3,), 2)
    found = generate_between(sampler, noise, start, end, 1.0)
    torch.testing.assert_close(found, sampler(noise, end))
    assert F.mse_loss(found, sampler(noise, start)) > 0


@pytest.mark.parametrize(
    ("network", "settings", "message"),
    [
        (Generator, {"image_shape": (3, 48, 48)}, "model=biggan: .* 28, 32, 64, 128, not 48x48"),
        (Discriminator, {"image_shape": (3, 32, 28)}, "not 32x28; write data.image_size=32"),
        (Generator, {"latent_dim": 3}, r"latent_dim=3: is cut into 4 chunks; .*latent_dim=4 or mo"),
        (Generator, {"width": 0}, r"model\.generator\.width=0"),
        (Generator, {"class_dim": 0}, r"model\.generator\.class_dim=0"),
        (Generator, {"num_classes": 3, "class_dim": None}, r"class_dim=null: .*\.skip_noise=false"),
        (Generator, {"init": "xavier"}, "generator.init=xavier: must be one of orthogonal, normal"),
        (Discriminator, {"init": "xavier"}, r"model\.discriminator\.init=xavier"),
        (Discriminator, {"num_classes": 3, "head": "both"}, "head=both: must be one of projection"),
    ],
)
def test_what_cannot_be_made_names_key_value_and_what_is_allowed(
    network: type[nn.Module], settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        network(**({"image_shape": CIFAR} | settings))
