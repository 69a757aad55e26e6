"""Networks: sizes as published, every image size, every normalisation."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from forger.errors import ConfigError
from forger.networks import dcgan, mlp, subpixel

NORMS = ("auto", "batch", "layer", "instance", "spectral", "none")
SQUARES = [(channels, side, side) for channels in (1, 3) for side in (8, 28, 32, 40, 48, 64)]


def count(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


@pytest.mark.parametrize(
    ("module", "shape", "generator", "discriminator"),
    [
        (mlp, (1, 28, 28), 1_510_032, 533_505),
        (dcgan, (3, 64, 64), 3_576_704, 2_765_568),
        (dcgan, (3, 32, 32), 1_068_928, 663_296),
        (dcgan, (1, 32, 32), 1_066_880, 661_248),
        (subpixel, (1, 28, 28), 1_714_500, 837_345),
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
    generator, discriminator = module.Generator((1, 28, 28)), module.Discriminator((1, 28, 28))
    logits = discriminator(100 * torch.randn(64, 1, 28, 28))
    assert logits.min() < 0 < logits.max()  # no sigmoid
    images = generator(torch.randn(4, generator.latent_dim))
    images.retain_grad()
    discriminator(images).sum().backward()
    for network in (generator, discriminator):
        assert all(p.grad is not None and p.grad.any() for p in network.parameters())
    assert (images.grad != 0).any(0).all()


@pytest.mark.parametrize(
    ("module", "shape", "words"),
    [
        (dcgan, (1, 33, 33), r"data.image_size=\d+\|\d+\|\d+"),
        (dcgan, (3, 31, 31), r"data.image_size=\d+\|\d+\|\d+"),
        (dcgan, (1, 4, 4), r"data.image_size=\d+\|\d+\|\d+"),
        (dcgan, (1, 28, 32), r"data.image_size=\d+\|\d+\|\d+"),
        (dcgan, (1, 2, 2), r"data.image_size=\d+\|\d+\|\d+"),
        (subpixel, (1, 30, 28), r"data.image_size=28\|32"),
        (subpixel, (1, 2, 2), r"data.image_size=4\|8"),
    ],
)
def test_sizes_that_cannot_be_made_name_the_nearest(module, shape, words: str) -> None:
    for network in (module.Generator, module.Discriminator):
        with pytest.raises(ConfigError, match=f"nearest: {words}"):
            network(shape)


@pytest.mark.parametrize("module", [mlp, dcgan, subpixel])
@pytest.mark.parametrize("size", ["latent_dim", "width", "hidden"])
def test_sizes_below_one_are_named(module, size: str) -> None:
    for name in ("Generator", "Discriminator"):
        network, value = getattr(module, name), [0] if module is mlp and size == "hidden" else 0
        if size in network.__init__.__code__.co_varnames[: network.__init__.__code__.co_argcount]:
            with pytest.raises(ConfigError, match=rf"model.{name.lower()}.{size}=0"):
                network((1, 28, 28), **{size: value})


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


def test_images_of_subpixel_start_neither_flat_nor_saturated() -> None:
    torch.manual_seed(0)
    images = subpixel.Generator((1, 28, 28))(torch.randn(64, 64))
    assert 0.1 < images.std() < 0.5


@pytest.mark.parametrize("norm", NORMS)
def test_every_norm_of_dcgan(norm) -> None:
    discriminator = dcgan.Discriminator((1, 28, 28), norm=norm)
    discriminator(torch.randn(4, 1, 28, 28)).sum().backward()
    assert all(p.grad is not None for p in discriminator.parameters())
    kinds = {
        "batch": nn.BatchNorm2d,
        "auto": nn.BatchNorm2d,
        "layer": nn.GroupNorm,
        "instance": nn.InstanceNorm2d,
    }
    found = [m for m in discriminator.modules() if isinstance(m, tuple(kinds.values()))]
    assert [type(m) for m in found] == ([kinds[norm]] if norm in kinds else [])


@pytest.mark.parametrize("module", [mlp, dcgan])
def test_spectral_norm_bounds_each_layer(module) -> None:
    torch.manual_seed(0)
    discriminator = module.Discriminator((1, 28, 28), norm="spectral")
    for _ in range(30):  # power iterations
        discriminator(torch.randn(4, 1, 28, 28))
    discriminator.eval()
    layers = [m for m in discriminator.modules() if isinstance(m, (nn.Linear, nn.Conv2d))]
    assert len(layers) == 3
    for layer in layers:
        largest = torch.linalg.matrix_norm(layer.weight.flatten(1), 2)
        assert largest.item() == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize("norm", ["layer", "instance", "spectral", "none", "subpixel"])
def test_logits_depend_on_their_own_image_alone(norm) -> None:
    torch.manual_seed(0)
    own = norm == "subpixel"
    make = subpixel.Discriminator if own else lambda shape: dcgan.Discriminator(shape, norm=norm)
    discriminator = make((1, 28, 28)).eval()
    assert discriminator.independent_samples
    images = torch.randn(4, 1, 28, 28)
    alone = torch.cat([discriminator(image[None]) for image in images])
    torch.testing.assert_close(discriminator(images), alone, rtol=1e-4, atol=1e-5)


def test_auto_is_batchnorm_and_layernorm_under_a_penalty() -> None:
    assert dcgan.Discriminator((1, 28, 28)).norm == "batch"
    assert dcgan.Discriminator((1, 28, 28), gradient_penalty=True).norm == "layer"
    assert mlp.Discriminator((1, 28, 28), gradient_penalty=True).norm == "none"


@pytest.mark.parametrize("module", [mlp, dcgan])
def test_a_generator_without_norm_makes_each_image_from_its_own_noise(module) -> None:
    torch.manual_seed(0)
    generator = module.Generator((1, 28, 28), norm="none")
    noise = torch.randn(4, 100)
    alone = torch.cat([generator(one[None]) for one in noise])
    torch.testing.assert_close(generator(noise), alone, rtol=1e-4, atol=1e-5)
    assert not any("running" in name for name in generator.state_dict())
    mixed = module.Generator((1, 28, 28))
    assert not torch.allclose(mixed(noise[:2]), mixed(noise)[:2], atol=1e-4)


def test_refused_norms_say_what_is_allowed() -> None:
    for module in (mlp, dcgan):
        with pytest.raises(ConfigError, match=r"generator.norm=layer: must be one of batch, none"):
            module.Generator((1, 28, 28), norm="layer")
    with pytest.raises(ConfigError, match=r"norm=batch: .* allowed: auto \(LayerNorm here\)"):
        dcgan.Discriminator((1, 28, 28), norm="batch", gradient_penalty=True)
    with pytest.raises(ConfigError, match="norm=group: must be one of auto, batch"):
        dcgan.Discriminator((1, 28, 28), norm="group")
    with pytest.raises(ConfigError, match="an MLP has no pixels"):
        mlp.Discriminator((1, 28, 28), norm="instance")
