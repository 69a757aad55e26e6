"""Networks: sizes as published, every image size, every normalisation."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from forger.errors import ConfigError
from forger.networks import dcgan, mlp, subpixel

SHAPE = (1, 28, 28)
SQUARES = [(channels, side, side) for channels in (1, 3) for side in (8, 28, 32, 40, 48, 64)]


def count(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


@pytest.mark.parametrize(
    ("module", "shape", "generator", "discriminator"),
    [
        (mlp, SHAPE, 1_510_032, 533_505),
        (dcgan, (3, 64, 64), 3_576_704, 2_765_568),
        (dcgan, (3, 32, 32), 1_068_928, 663_296),
        (dcgan, (1, 32, 32), 1_066_880, 661_248),
        (subpixel, SHAPE, 1_714_500, 837_345),
    ],
)
def test_parameter_counts_as_published(module, shape, generator, discriminator) -> None:
    assert count(module.Generator(shape)) == generator
    assert count(module.Discriminator(shape)) == discriminator


@pytest.mark.parametrize(
    ("module", "shapes"),
    [
        (mlp, [*SQUARES, (3, 12, 20)]),
        (dcgan, SQUARES),
        (subpixel, [*SQUARES, (1, 4, 4), (3, 12, 20)]),
    ],
)
def test_shapes_and_ranges(module, shapes) -> None:
    for shape in shapes:
        generator = module.Generator(shape, latent_dim=7)
        images = generator(torch.randn(3, 7))
        assert images.shape == (3, *shape)
        assert 0 < images.abs().max() <= 1
        assert module.Discriminator(shape)(images).shape == (3,)
        assert (generator.latent_dim, generator.image_shape) == (7, shape)


@pytest.mark.parametrize("module", [mlp, dcgan, subpixel])
def test_logits_are_not_squashed_and_every_weight_and_pixel_counts(module) -> None:
    generator, discriminator = module.Generator(SHAPE), module.Discriminator(SHAPE)
    logits = discriminator(100 * torch.randn(64, 1, 28, 28))
    assert logits.min() < 0 < logits.max()  # no sigmoid
    images = generator(torch.randn(4, generator.latent_dim))
    images.retain_grad()
    discriminator(images).sum().backward()
    for network in (generator, discriminator):
        assert all(p.grad is not None and p.grad.any() for p in network.parameters())
    assert (images.grad != 0).any(0).all()


def test_dcgan_weights_and_layers_follow_the_paper() -> None:
    torch.manual_seed(0)
    generator, discriminator = dcgan.Generator((3, 64, 64)), dcgan.Discriminator((3, 64, 64))
    for network in (generator, discriminator):
        for module in network.modules():
            if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)):
                assert module.bias is None
                if module.weight.numel() > 10_000:
                    assert module.weight.std().item() == pytest.approx(0.02, rel=0.05)
            if isinstance(module, nn.BatchNorm2d):
                assert module.eps == 1e-5
                assert module.weight.mean().item() == pytest.approx(1, abs=0.02)
                assert module.bias.abs().max() == 0
    assert not isinstance(discriminator.layers[1], nn.BatchNorm2d)
    assert isinstance(generator.layers[-1], nn.Tanh)
    assert not isinstance(generator.layers[-2], nn.BatchNorm2d)


@pytest.mark.parametrize("module", [mlp, dcgan])
def test_spectral_norm_bounds_each_layer(module) -> None:
    torch.manual_seed(0)
    discriminator = module.Discriminator(SHAPE, norm="spectral")
    for _ in range(30):  # power iterations
        discriminator(torch.randn(4, 1, 28, 28))
    discriminator.eval()
    layers = [m for m in discriminator.modules() if isinstance(m, (nn.Linear, nn.Conv2d))]
    assert len(layers) == 3
    for layer in layers:
        largest = torch.linalg.matrix_norm(layer.weight.flatten(1), 2)
        assert largest.item() == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize("module", [mlp, dcgan])
def test_a_generator_without_norm_makes_each_image_from_its_own_noise(module) -> None:
    torch.manual_seed(0)
    generator = module.Generator(SHAPE, norm="none")
    noise = torch.randn(4, 100)
    alone = torch.cat([generator(one[None]) for one in noise])
    torch.testing.assert_close(generator(noise), alone, rtol=1e-4, atol=1e-5)
    assert not any("running" in name for name in generator.state_dict())
    mixed = module.Generator(SHAPE)
    assert not torch.allclose(mixed(noise[:2]), mixed(noise)[:2], atol=1e-4)


@pytest.mark.parametrize(
    ("norm", "layer"),
    [
        ("auto", nn.BatchNorm2d),
        ("batch", nn.BatchNorm2d),
        ("layer", nn.GroupNorm),
        ("instance", nn.InstanceNorm2d),
        ("spectral", None),
        ("none", None),
    ],
)
def test_every_norm_of_dcgan(norm, layer) -> None:
    """Only BatchNorm makes a logit depend on other images."""
    torch.manual_seed(0)
    discriminator = dcgan.Discriminator(SHAPE, norm=norm)
    discriminator(torch.randn(4, *SHAPE)).sum().backward()
    assert all(p.grad is not None for p in discriminator.parameters())
    norms = (nn.BatchNorm2d, nn.GroupNorm, nn.InstanceNorm2d)
    found = [type(m) for m in discriminator.modules() if isinstance(m, norms)]
    assert found == ([] if layer is None else [layer])
    assert discriminator.independent_samples == (layer is not nn.BatchNorm2d)
    if discriminator.independent_samples:
        assert_images_apart(discriminator)


def test_logits_of_subpixel_depend_on_their_own_image_alone() -> None:
    torch.manual_seed(0)
    assert_images_apart(subpixel.Discriminator(SHAPE))


def assert_images_apart(discriminator) -> None:
    assert discriminator.eval().independent_samples
    images = torch.randn(4, *SHAPE)
    alone = torch.cat([discriminator(image[None]) for image in images])
    torch.testing.assert_close(discriminator(images), alone, rtol=1e-4, atol=1e-5)


def test_auto_is_batchnorm_and_layernorm_under_a_penalty() -> None:
    assert dcgan.Discriminator(SHAPE).norm == "batch"
    assert dcgan.Discriminator(SHAPE, gradient_penalty=True).norm == "layer"
    assert mlp.Discriminator(SHAPE, gradient_penalty=True).norm == "none"


NEAREST = r"nearest: data.image_size=\d+\|\d+\|\d+"


@pytest.mark.parametrize(
    ("network", "shape", "settings", "message"),
    [
        (dcgan.Generator, (1, 33, 33), {}, NEAREST),
        (dcgan.Discriminator, (1, 4, 4), {}, NEAREST),
        (dcgan.Generator, (1, 28, 32), {}, NEAREST),
        (dcgan.Discriminator, (1, 2, 2), {}, NEAREST),
        (subpixel.Generator, (1, 30, 28), {}, r"data.image_size=28\|32"),
        (subpixel.Discriminator, (1, 2, 2), {}, r"data.image_size=4\|8"),
        (mlp.Generator, SHAPE, {"latent_dim": 0}, r"model\.generator\.latent_dim=0"),
        (mlp.Discriminator, SHAPE, {"hidden": [8, 0]}, r"model\.discriminator\.hidden=0"),
        (dcgan.Generator, SHAPE, {"width": 0}, r"model\.generator\.width=0"),
        (subpixel.Discriminator, SHAPE, {"hidden": 1.5}, r"model\.discriminator\.hidden=1\.5"),
        (mlp.Generator, SHAPE, {"norm": "layer"}, r"generator.norm=layer: .* one of batch, none"),
        (dcgan.Discriminator, SHAPE, {"norm": "group"}, "norm=group: must be one of auto, batch"),
        (mlp.Discriminator, SHAPE, {"norm": "instance"}, "an MLP has no pixels"),
        (
            dcgan.Discriminator,
            SHAPE,
            {"norm": "batch", "gradient_penalty": True},
            r"norm=batch: .* allowed: auto \(LayerNorm here\)",
        ),
    ],
)
def test_what_cannot_be_made_names_key_value_and_what_is_allowed(
    network, shape, settings, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        network(shape, **settings)
