"""Networks that know classes: their sizes, and what a label changes."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from forger.errors import ConfigError
from forger.networks import dcgan, mlp, resnet, sndcgan, subpixel
from forger.networks.conditional import (
    ClassBatchNorm,
    LabelBesideNoise,
    LabelPlanes,
    batch_norm,
    with_label_planes,
)

CIFAR, MNIST = (3, 32, 32), (1, 28, 28)
SMALL = {  # few channels, for speed
    mlp: {"hidden": (8, 6)},
    dcgan: {"width": 2},
    subpixel: {"width": 2, "hidden": 8},
    resnet: {"width": 4},
    sndcgan: {"width": 2},
}
UNNORMALISED = {mlp: {"norm": "none"}, dcgan: {"norm": "none"}, subpixel: {}}
UNNORMALISED |= {resnet: {"spectral": False}, sndcgan: {"spectral": False}}
EVERY = pytest.mark.parametrize("module", SMALL, ids=lambda module: module.__name__)


def count(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


@pytest.mark.parametrize(
    ("module", "shape", "arguments", "expected"),
    [
        (resnet, CIFAR, {}, 4_276_739),
        (resnet, CIFAR, {"num_classes": 10}, 4_304_387),
        (resnet, CIFAR, {"num_classes": 100}, 4_580_867),
        # of WGAN-GP's authors; each class has 2 x 128 numbers in each of six BatchNorms
        (resnet, CIFAR, {"width": 128}, 1_218_307 - 9 * 6 * 256),
        (resnet, CIFAR, {"width": 128, "num_classes": 10}, 1_218_307),
        (resnet, CIFAR, {"width": 128, "num_classes": 100}, 1_218_307 + 90 * 6 * 256),
        (sndcgan, CIFAR, {}, 3_813_379),
        # BatchNorms of 512, 256, 128 and 64 channels
        (sndcgan, CIFAR, {"num_classes": 10}, 3_813_379 + 9 * 2 * 960),
        (sndcgan, CIFAR, {"num_classes": 100}, 3_813_379 + 99 * 2 * 960),
        (dcgan, CIFAR, {"num_classes": 10}, 1_068_928 + 9 * 2 * (256 + 128 + 64)),
        (dcgan, (3, 64, 64), {"num_classes": 10}, 3_576_704 + 9 * 2 * 960),
        (mlp, MNIST, {"num_classes": 10}, 1_510_032 + 9 * 2 * (256 + 512 + 1024)),
        (subpixel, MNIST, {"num_classes": 10}, 1_714_500 + 9 * 2 * (512 + 64 + 32)),
    ],
)
def test_sizes_of_generators(module, shape, arguments, expected) -> None:
    assert count(module.Generator(shape, **arguments)) == expected


@pytest.mark.parametrize(
    ("module", "shape", "unconditional", "features"),
    [
        (resnet, CIFAR, 1_053_825, 128),
        (sndcgan, CIFAR, 2_935_873, 512 * 4 * 4),
        (dcgan, CIFAR, 663_296, 256 * 4 * 4),
        (dcgan, (3, 64, 64), 2_765_568, 512 * 4 * 4),
        (mlp, MNIST, 533_505, 256),
        (subpixel, MNIST, 837_345, 256),
    ],
)
def test_sizes_of_discriminators(module, shape, unconditional, features) -> None:
    """10 classes make resnet's 1,055,105 by projection and 1,055,115 with a head, as published."""
    assert count(module.Discriminator(shape)) == unconditional
    for classes in (10, 100):
        projection = module.Discriminator(shape, num_classes=classes)
        assert count(projection) == unconditional + classes * features
        auxiliary = module.Discriminator(shape, num_classes=classes, head="auxiliary")
        assert count(auxiliary) == unconditional + classes * (features + 1)


@EVERY
@pytest.mark.parametrize("side", [28, 32, 48, 64, 128])
def test_images_and_logits_of_each_side_reach_every_weight(module, side: int) -> None:
    torch.manual_seed(0)
    shape = (3, side, side)
    generator = module.Generator(shape, latent_dim=5, num_classes=3, **SMALL[module])
    assert (generator.latent_dim, generator.image_shape) == (5, shape)
    label = torch.tensor([0, 1, 2, 0])
    images = generator(torch.randn(4, 5), label)
    assert images.shape == (4, *shape)
    assert 0 < images.abs().max() <= 1
    projection = module.Discriminator(shape, num_classes=3, **SMALL[module])
    auxiliary = module.Discriminator(shape, num_classes=3, head="auxiliary", **SMALL[module])
    (logits, classes), projected = auxiliary(images, label), projection(images, label)
    assert (projected.shape, logits.shape, classes.shape) == ((4,), (4,), (4, 3))
    # not their plain sum, whose gradient BatchNorm and a sum over classes would cancel
    (projected.square().sum() + logits.square().sum() + classes.square().sum()).backward()
    for network in (generator, projection, auxiliary):
        for name, parameter in network.named_parameters():
            assert parameter.grad is not None, name
            assert parameter.grad.any() or parameter.ndim == 1, name


@pytest.mark.parametrize("network", [resnet.Generator, resnet.Discriminator])
def test_a_side_without_a_table_is_refused(network) -> None:
    with pytest.raises(ConfigError, match=r"sngan\|wgan_gp_resnet: .* 28, 32, 48, 64, 128, not 40"):
        network((3, 40, 40))


@pytest.mark.parametrize(
    ("network", "arguments", "message"),
    [
        (dcgan.Generator, {"norm": "none"}, "norm=none: .* write condition.generator=concat"),
        (mlp.Generator, {"norm": "none"}, "norm=none: .* write condition.generator=concat"),
        (resnet.Discriminator, {"head": "concat"}, "head=concat: .* one of projection, auxiliary"),
        (resnet.Discriminator, {"pool": "max"}, "pool=max: must be one of sum, mean"),
    ],
)
def test_what_cannot_be_told_classes_says_what_to_write(network, arguments, message) -> None:
    with pytest.raises(ConfigError, match=message):
        network(CIFAR, num_classes=3, **arguments)


@pytest.mark.parametrize(("kind", "pixels"), [(nn.BatchNorm1d, ()), (nn.BatchNorm2d, (3, 2))])
def test_batch_norm_of_classes_is_batch_norm_where_all_classes_are_alike(kind, pixels) -> None:
    torch.manual_seed(0)
    ours, plain = batch_norm(kind, 6, num_classes=4, eps=0.1), kind(6, eps=0.1)
    label = torch.tensor([3, 0, 1, 1, 2])
    features = torch.randn(5, 6, *pixels)
    torch.testing.assert_close(ours(features, label), plain(features))  # fresh: 1 and 0
    with torch.no_grad():
        plain.weight.uniform_(), plain.bias.uniform_()
        ours.gain.weight.copy_(plain.weight.expand(4, -1))
        ours.bias.weight.copy_(plain.bias.expand(4, -1))
    for training in (True, False):
        ours.train(training), plain.train(training)
        one, other = features.clone().requires_grad_(), features.clone().requires_grad_()
        actual, expected = ours(one, label), plain(other)
        torch.testing.assert_close(actual, expected)
        actual.pow(3).sum().backward(), expected.pow(3).sum().backward()
        torch.testing.assert_close(one.grad, other.grad)
        torch.testing.assert_close(ours.gain.weight.grad.sum(0), plain.weight.grad)
        torch.testing.assert_close(ours.bias.weight.grad.sum(0), plain.bias.grad)
        ours.zero_grad(), plain.zero_grad()


def test_batch_norm_of_classes_gives_each_image_gain_and_bias_of_its_own_class() -> None:
    layer = ClassBatchNorm(nn.BatchNorm1d(1, eps=3.0, affine=False), 2)
    with torch.no_grad():
        layer.gain.weight.copy_(torch.tensor([[2.0], [10.0]]))
        layer.bias.weight.copy_(torch.tensor([[0.5], [7.0]]))
    features = torch.tensor([[4.0], [6.0], [6.0], [4.0]])  # mean 5, variance 1
    expected = torch.tensor([[-0.5], [1.5], [12.0], [2.0]])
    torch.testing.assert_close(layer(features, torch.tensor([0, 0, 1, 1])), expected)


@EVERY
def test_classes_of_a_fresh_generator_are_alike(module) -> None:
    generator = module.Generator(CIFAR, latent_dim=4, num_classes=2, **SMALL[module])
    noise = torch.randn(3, 4)
    images = generator(noise, torch.tensor([0, 1, 0]))
    torch.testing.assert_close(generator(noise, torch.tensor([1, 1, 0])), images)


def features_before_the_logit(discriminator: nn.Module, images: torch.Tensor) -> torch.Tensor:
    """Returns `(B, F)`: the gradient of `<w, h> + b` to `w` is `h`."""
    weights = [p for p in discriminator.parameters() if p.ndim > 1 and len(p) == 1]
    assert len(weights) == 1
    logits = discriminator(images)
    rows = [torch.autograd.grad(one, weights, retain_graph=True)[0][0] for one in logits]
    return torch.stack(rows).movedim(1, -1).flatten(1)  # channels last, as maps lie in memory


@EVERY
def test_heads_are_their_formulas(module) -> None:
    settings = SMALL[module] | UNNORMALISED[module]
    images, label = torch.randn(5, *CIFAR), torch.tensor([0, 2, 1, 1, 0])
    torch.manual_seed(0)
    unconditional = module.Discriminator(CIFAR, **settings)
    h = features_before_the_logit(unconditional, images)
    torch.manual_seed(0)  # the same weights, and the classes' behind them
    projection = module.Discriminator(CIFAR, num_classes=3, **settings)
    v = projection.class_head.embedding.weight
    expected = [
        logit + v[y] @ one for logit, one, y in zip(unconditional(images), h, label, strict=True)
    ]
    torch.testing.assert_close(projection(images, label), torch.stack(expected))
    torch.manual_seed(0)
    auxiliary = module.Discriminator(CIFAR, num_classes=3, head="auxiliary", **settings)
    logits, classes = auxiliary(images, label)
    torch.testing.assert_close(logits, unconditional(images))
    nn.init.uniform_(auxiliary.class_head.classes.bias)
    linear = auxiliary.class_head.classes
    _, classes = auxiliary(images, label)
    torch.testing.assert_close(classes, h @ linear.weight.T + linear.bias)


@EVERY
def test_an_image_depends_on_its_own_label_alone(module) -> None:
    torch.manual_seed(0)
    generator = module.Generator(CIFAR, latent_dim=4, num_classes=2, **SMALL[module]).eval()
    for layer in generator.modules():
        if isinstance(layer, nn.Embedding):
            nn.init.normal_(layer.weight)
    noise = torch.randn(1, 4).expand(3, -1)
    images = generator(noise, torch.tensor([0, 1, 0]))
    swapped = generator(noise, torch.tensor([1, 0, 1]))
    assert not torch.allclose(images[0], images[1])
    torch.testing.assert_close(images[0], images[2])
    torch.testing.assert_close(swapped, images[[1, 0, 1]])


@EVERY
@pytest.mark.parametrize("label", [-1, 3])
def test_a_label_out_of_range_is_refused(module, label: int) -> None:
    wrong = torch.tensor([0, label])
    generator = module.Generator(CIFAR, latent_dim=4, num_classes=3, **SMALL[module])
    discriminator = module.Discriminator(CIFAR, num_classes=3, **SMALL[module])
    with pytest.raises(IndexError):
        generator(torch.randn(2, 4), wrong)
    with pytest.raises(RuntimeError, match="out of bounds"):
        discriminator(torch.randn(2, *CIFAR), wrong)
    with pytest.raises(RuntimeError, match="Class values"):
        with_label_planes(torch.randn(2, *CIFAR), wrong, 3)


@pytest.mark.parametrize("head", ["projection", "auxiliary"])
@pytest.mark.parametrize(
    ("module", "settings"),
    [(resnet, {}), (sndcgan, {}), (dcgan, {"norm": "spectral"}), (mlp, {"norm": "spectral"})],
)
def test_every_layer_of_a_spectral_discriminator_has_norm_1(module, settings, head) -> None:
    torch.manual_seed(0)
    settings = SMALL[module] | settings
    discriminator = module.Discriminator(CIFAR, num_classes=3, head=head, **settings)
    optimizer = torch.optim.Adam(discriminator.parameters(), lr=1e-3)
    images, label = torch.randn(8, *CIFAR), torch.randint(3, (8,))
    for step in range(70):
        judged = discriminator(images, label)
        if step < 20:  # then power iterations alone
            optimizer.zero_grad()
            outputs = judged if isinstance(judged, tuple) else (judged,)
            torch.cat([one.flatten() for one in outputs]).square().sum().backward()
            optimizer.step()
    discriminator.eval()
    kinds = (nn.Conv2d, nn.Linear, nn.Embedding)
    layers = [module for module in discriminator.modules() if isinstance(module, kinds)]
    assert any(layer in layers for layer in discriminator.class_head.children())
    for layer in layers:
        largest = torch.linalg.matrix_norm(layer.weight.flatten(1), 2)
        assert largest.item() == pytest.approx(1, abs=0.01)


@EVERY
@pytest.mark.parametrize("head", ["projection", "auxiliary", "planes"])
def test_logits_of_independent_samples_are_those_of_each_half(module, head) -> None:
    torch.manual_seed(0)
    settings = SMALL[module] | UNNORMALISED[module]
    if head == "planes":
        discriminator = LabelPlanes(module.Discriminator((6, 32, 32), **settings), 3)
    else:
        discriminator = module.Discriminator(CIFAR, num_classes=3, head=head, **settings)
    assert discriminator.independent_samples
    images, label = torch.randn(6, *CIFAR), torch.tensor([0, 1, 2, 2, 0, 1])
    both = discriminator(images, label)
    halves = [discriminator(images[half], label[half]) for half in (slice(3), slice(3, 6))]
    if head == "auxiliary":
        both, halves = (
            torch.cat([both[0][:, None], both[1]], 1),
            [torch.cat([logits[:, None], classes], 1) for logits, classes in halves],
        )
    torch.testing.assert_close(both, torch.cat(halves))


def test_planes_show_the_class_beside_the_image() -> None:
    images, label = torch.rand(3, 2, 4, 4), torch.tensor([1, 0, 2])
    shown = with_label_planes(images, label, 3)
    assert shown.shape == (3, 5, 4, 4)
    assert torch.equal(shown[:, :2], images)
    for row, own in enumerate(label):
        for other in range(3):
            assert (shown[row, 2 + other] == float(other == own)).all()


@EVERY
def test_a_label_beside_noise_is_its_embedding(module) -> None:
    torch.manual_seed(0)
    generator = module.Generator(CIFAR, latent_dim=7, **SMALL[module]).eval()
    wrapped = LabelBesideNoise(generator, num_classes=3, label_dim=2)
    assert (wrapped.latent_dim, wrapped.image_shape) == (5, CIFAR)
    noise, label = torch.randn(4, 5), torch.tensor([2, 0, 1, 2])
    seen = torch.cat([noise, torch.stack([wrapped.embedding.weight[y] for y in label])], 1)
    images = wrapped(noise, label)
    torch.testing.assert_close(images, generator(seen))
    images.square().sum().backward()
    assert wrapped.embedding.weight.grad.all()


def test_an_mlp_has_an_input_for_each_class_beside_its_pixels() -> None:
    torch.manual_seed(0)
    discriminator = mlp.Discriminator((2, 4, 4), hidden=(8,), label_inputs=3)
    images, label = torch.randn(4, 2, 4, 4), torch.tensor([2, 0, 1, 2])
    pixels, classes = discriminator.layers[1].weight.split([32, 3], 1)  # of the first linear layer
    assert [*discriminator.layers[1].weight.shape] == [8, 35]
    found = images.flatten(1) @ pixels.T + classes.T[label] + discriminator.layers[1].bias
    expected = discriminator.layers[3](torch.nn.functional.leaky_relu(found, 0.2)).flatten()
    torch.testing.assert_close(discriminator(images, label), expected)
    assert discriminator.bfloat16()(images.bfloat16(), label).dtype == torch.bfloat16


def test_label_planes_are_the_discriminators_input() -> None:
    torch.manual_seed(0)
    plain = mlp.Discriminator((5, 4, 4))
    images, label = torch.randn(4, 2, 4, 4), torch.tensor([2, 0, 1, 2])
    expected = plain(with_label_planes(images, label, 3))
    assert torch.equal(LabelPlanes(plain, 3)(images, label), expected)
    mixing = dcgan.Discriminator((6, 32, 32), norm="batch")
    assert not LabelPlanes(mixing, 3).independent_samples
    assert not LabelPlanes(nn.Flatten(), 3).independent_samples  # says nothing of itself


def test_a_label_as_large_as_the_noise_is_refused() -> None:
    generator = mlp.Generator(CIFAR, latent_dim=8)
    with pytest.raises(ConfigError, match=r"label_dim=8: must be below .* latent_dim=8"):
        LabelBesideNoise(generator, num_classes=3, label_dim=8)
    assert LabelBesideNoise(generator, num_classes=3, label_dim=7).latent_dim == 1


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_wrapped_networks_keep_their_precision(dtype) -> None:
    label = torch.tensor([2, 0])
    generator = LabelBesideNoise(mlp.Generator(CIFAR, latent_dim=8).to(dtype), 3, 2)
    images = generator(torch.randn(2, 6, dtype=dtype), label)
    assert images.dtype == dtype
    discriminator = LabelPlanes(mlp.Discriminator((6, 32, 32)).to(dtype), 3)
    assert discriminator(images, label).dtype == dtype
