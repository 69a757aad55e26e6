"""Networks from image to image: sizes as published, sides and channels of any kind, properties."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf
from torch import nn
from torch.nn.functional import conv2d, instance_norm, pad

from forger.errors import ConfigError
from forger.networks import patchgan, resnet_translator, simgan, unet

CONFIGS = Path(__file__).parents[2] / "configs" / "model"
MODELS = ("unet_patchgan", "resnet_patchgan", "simgan")
GREY, COLOUR = (1, 28, 28), (3, 32, 32)
WIDE = (3, 24, 40)
TRANSLATORS = [unet.Generator, resnet_translator.Generator, simgan.Generator]


def count(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


def rgb(side: int) -> dict[str, tuple[int, int, int]]:
    return dict.fromkeys(("image_shape", "source_shape"), (3, side, side))


def grey(*sides: int) -> dict[str, tuple[int, int, int]]:
    return dict.fromkeys(("image_shape", "source_shape"), (1, *sides))


@pytest.mark.parametrize(
    ("network", "settings", "published"),
    [
        (unet.Generator, rgb(256), 54_413_955),
        (unet.Generator, rgb(128), 41_828_995),
        (unet.Generator, rgb(32), 16_659_075),
        (unet.Generator, rgb(32) | {"width": 32}, 4_168_003),
        (resnet_translator.Generator, rgb(256), 11_378_179),
        (resnet_translator.Generator, rgb(256) | {"antialias": True}, 11_378_179),
        (resnet_translator.Generator, rgb(128) | {"blocks": 6}, 7_837_699),
        (resnet_translator.Generator, rgb(32) | {"blocks": 6, "width": 32}, 1_965_059),
        (patchgan.Discriminator, {"image_shape": (6, 256, 256)}, 2_768_705),
        (patchgan.Discriminator, {"image_shape": (3, 256, 256), "norm": "instance"}, 2_764_737),
        (patchgan.Discriminator, {"image_shape": (6, 32, 32), "layers": 1}, 139_585),
        (patchgan.Discriminator, {"image_shape": (6, 32, 32), "layers": 2}, 666_433),
        (simgan.Generator, grey(35, 55), 296_129),
        (simgan.Discriminator, {"image_shape": (1, 35, 55)}, 75_906),
    ],
)
def test_parameter_counts_as_published(network, settings, published: int) -> None:
    with torch.device("meta"):
        assert count(network(**settings)) == published


@pytest.mark.parametrize("model", MODELS)
def test_config_files_build_what_is_published(model: str) -> None:
    facts = {"image_shape": COLOUR, "source_shape": GREY[:1] + COLOUR[1:]}
    cfg = OmegaConf.load(CONFIGS / f"{model}.yaml")
    source = torch.randn(2, 1, 32, 32)
    generator = instantiate(cfg.generator, **facts)
    images = generator(source)
    assert images.shape == (2, *COLOUR)
    assert (generator.image_shape, generator.source_shape) == tuple(facts.values())
    discriminator = instantiate(cfg.discriminator, image_shape=COLOUR)
    assert discriminator(images).shape[:2] == (2, 1)
    assert count(type(generator)(**facts)) == count(generator)


@pytest.mark.parametrize("norm", ["batch", "instance", "none"])
@pytest.mark.parametrize(
    ("sides", "downs"),
    [((28, 28), None), ((24, 40), None), ((35, 55), None), ((17, 64), 2), ((9, 5), 1), ((2, 3), 1)],
)
def test_the_unet_takes_every_side_and_number_of_channels(sides, downs, norm: str) -> None:
    generator = unet.Generator((2, *sides), (5, *sides), width=4, downs=downs, norm=norm)
    images = generator(torch.randn(3, 5, *sides))
    assert images.shape == (3, 2, *sides)
    assert 0 < images.abs().max() <= 1
    images.sum().backward()
    assert all(p.grad is not None and p.grad.any() for p in generator.parameters() if p.ndim > 1)
    larger = [side * 2 + 1 for side in sides]
    assert generator(torch.randn(1, 5, *larger)).shape == (1, 2, *larger)


def test_the_unet_halves_down_to_one_pixel_and_drops_in_the_smallest_maps() -> None:
    generator = unet.Generator(**rgb(256), width=8)
    seen = []
    for up in generator.ups:
        up.register_forward_hook(lambda module, _, out: seen.append((module, out.shape[1:])))
    generator(torch.randn(1, 3, 256, 256))
    assert [shape[0] for _, shape in seen] == [64, 64, 64, 64, 32, 16, 8, 3]
    assert [shape[1] for _, shape in seen] == [2**k for k in range(1, 9)]
    dropping = [any(isinstance(m, nn.Dropout) for m in up.modules()) for up, _ in seen]
    assert dropping == [True] * 3 + [False] * 5
    assert len(unet.Generator(**grey(28, 28), width=4).ups) == 4
    assert len(unet.Generator(**grey(512, 512), width=1).ups) == 8


def test_dropout_is_the_only_noise_of_the_unet_and_ends_in_evaluation() -> None:
    torch.manual_seed(0)
    source = torch.randn(2, *GREY)
    for dropout, layers, noisy in ((0.5, 3, True), (0.5, 0, False), (0, 3, False)):
        arguments = {"width": 8, "dropout": dropout, "dropout_layers": layers}
        generator = unet.Generator(GREY, GREY, **arguments)
        assert torch.equal(generator(source), generator(source)) != noisy
        assert torch.equal(generator.eval()(source), generator(source))


def test_skips_carry_fine_detail_past_the_smallest_map() -> None:
    torch.manual_seed(0)
    generator = unet.Generator(**grey(16, 16), width=8, norm="none", init="xavier").eval()
    with torch.no_grad():
        for parameter in generator.ups[0].parameters():
            parameter.zero_()  # nothing comes from below
    source = torch.randn(1, 1, 16, 16, requires_grad=True)
    images = generator(source)
    (gradient,) = torch.autograd.grad(images[0, 0, 8, 8], source)
    assert gradient[0, 0, 6:11, 6:11].all()


@pytest.mark.parametrize("antialias", [False, True])
@pytest.mark.parametrize("norm", ["batch", "instance", "none"])
@pytest.mark.parametrize("padding", ["reflect", "replicate", "zeros"])
def test_the_residual_translator_takes_rectangles_and_any_channels(
    padding, norm, antialias
) -> None:
    arguments = {"norm": norm, "padding": padding, "antialias": antialias}
    for sides in ((8, 8), (12, 20)):
        facts = {"image_shape": (2, *sides), "source_shape": (5, *sides)}
        generator = resnet_translator.Generator(**facts, width=4, blocks=2, **arguments)
        images = generator(torch.randn(3, 5, *sides))
        assert images.shape == (3, 2, *sides)
        assert 0 < images.abs().max() <= 1
        images.sum().backward()
        weights = (p for p in generator.parameters() if p.ndim > 1)
        assert all(p.grad is not None and p.grad.any() for p in weights)


def test_a_block_is_the_formula() -> None:
    torch.manual_seed(0)
    block = resnet_translator.Block(4, nn.InstanceNorm2d, "reflect", 0, True).double()
    features = torch.randn(2, 4, 6, 7).double()
    first, second = (m for m in block.residual if isinstance(m, nn.Conv2d))
    hidden = conv2d(pad(features, (1, 1, 1, 1), "reflect"), first.weight, first.bias)
    hidden = instance_norm(hidden).relu()
    hidden = conv2d(pad(hidden, (1, 1, 1, 1), "reflect"), second.weight, second.bias)
    torch.testing.assert_close(block(features), features + instance_norm(hidden))


def test_reflection_keeps_flat_images_flat_up_to_the_border() -> None:
    torch.manual_seed(0)
    for padding, flat in (("reflect", True), ("replicate", True), ("zeros", False)):
        layers = resnet_translator.Generator(COLOUR, COLOUR, 8, 1, padding=padding).layers
        first = layers[:2](torch.ones(1, 3, 16, 16))
        spread = (first.amax((2, 3)) - first.amin((2, 3))).max().item()
        assert (spread < 1e-5) == flat


@pytest.mark.parametrize("antialias", [False, True])
def test_features_are_the_outputs_of_numbered_layers(antialias: bool) -> None:
    torch.manual_seed(0)
    generator = resnet_translator.Generator(COLOUR, COLOUR, 4, 6, antialias=antialias)
    source = torch.randn(2, *COLOUR)
    found = generator.features(source, [0, 4, 8, 12, 16])
    side = 32 if antialias else 16
    assert [tuple(one.shape[1:]) for one in found] == [
        *((3, 38, 38), (8, side, side), (16, side // 2, side // 2), (16, 8, 8), (16, 8, 8))
    ]
    assert torch.equal(found[0], pad(source, (3, 3, 3, 3), "reflect"))
    assert [isinstance(generator.layers[n], nn.Conv2d) for n in (4, 8, 12)] == [True, True, False]
    (last,) = generator.features(source, [len(generator.layers) - 1])
    assert torch.equal(last, generator(source))
    again = generator.features(source, [16, 0])
    assert torch.equal(again[0], found[4])
    assert torch.equal(again[1], found[0])
    reached = []
    generator.layers[17].register_forward_hook(lambda *_: reached.append(17))
    generator.features(source, [16])
    assert not reached
    with pytest.raises(ConfigError, match=r"layers=\[99\]: must be numbers from 0 to"):
        generator.features(source, [99])


def test_features_stay_what_they_were_without_a_norm() -> None:
    torch.manual_seed(0)
    generator = resnet_translator.Generator(COLOUR, COLOUR, 4, 1, norm="none")
    (convolved,) = generator.features(torch.randn(1, *COLOUR), [1])
    kept, _ = generator.features(torch.randn(1, *COLOUR), [1, 3])
    assert convolved.min() < 0  # no activation has changed it in place
    assert kept.min() < 0


def field(network: nn.Module, sides: tuple[int, int], channels: int = 1) -> tuple[int, int]:
    """Returns how many rows and columns the middle output depends on, measured by gradients."""
    images = torch.randn(1, channels, *sides).requires_grad_()
    outputs = network(images)
    outputs[0, 0, outputs.shape[2] // 2, outputs.shape[3] // 2].backward()
    seen = images.grad[0].abs().sum(0) > 0
    return int(seen.any(1).sum()), int(seen.any(0).sum())


@pytest.mark.parametrize(("layers", "pixels"), [(1, 16), (2, 34), (3, 70)])
def test_receptive_field_of_the_patchgan(layers: int, pixels: int) -> None:
    torch.manual_seed(0)
    sides = (144, 160)
    discriminator = patchgan.Discriminator((2, *sides), 4, layers, norm="none")
    assert field(discriminator, sides, 2) == (pixels, pixels)


def test_receptive_fields_of_simgan() -> None:
    torch.manual_seed(0)
    discriminator = simgan.Discriminator((1, 64, 64))
    reach = [field(discriminator, (64, 64)) for _ in range(20)]  # the max-pool lets some through
    assert max(max(one) for one in reach) == 23
    assert field(simgan.Generator(**grey(40, 41), width=16), (40, 41)) == (19, 19)


@pytest.mark.parametrize("sides", [(24, 24), (28, 28), (35, 55), (64, 32)])
@pytest.mark.parametrize("layers", [1, 2, 3])
def test_sides_of_the_patchgans_logits(layers: int, sides) -> None:
    discriminator = patchgan.Discriminator((4, *sides), 4, layers)
    logits = discriminator(100 * torch.randn(8, 4, *sides))
    assert logits.shape == (8, 1, *(side // 2**layers - 2 for side in sides))
    assert logits.min() < 0 < logits.max()  # no sigmoid


@pytest.mark.parametrize("sides", [(1, 1), (9, 14), (35, 55)])
def test_the_refiner_keeps_sides_and_its_critic_judges_places(sides) -> None:
    refined = simgan.Generator((2, *sides), (3, *sides), 8, 2)(torch.randn(4, 3, *sides))
    assert refined.shape == (4, 2, *sides)
    assert 0 < refined.abs().max() <= 1
    logits = simgan.Discriminator((2, *sides), 4)(refined)
    assert logits.shape == (4, 1, *(math.ceil(side / 4) for side in sides))
    logits.sum().backward()


def test_a_logit_of_simgan_is_the_log_odds_of_its_two_outputs() -> None:
    torch.manual_seed(0)
    discriminator = simgan.Discriminator(GREY)
    images = torch.randn(2, *GREY)
    odds = discriminator.layers(images).softmax(1)
    torch.testing.assert_close(discriminator(images).sigmoid(), odds[:, :1])


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
def test_every_norm_of_the_patchgan(norm: str, layer) -> None:
    """Only BatchNorm makes a logit depend on other images."""
    torch.manual_seed(0)
    discriminator = patchgan.Discriminator(COLOUR, 4, norm=norm)
    kinds = (nn.BatchNorm2d, nn.GroupNorm, nn.InstanceNorm2d)
    assert {type(m) for m in discriminator.modules() if isinstance(m, kinds)} == {layer} - {None}
    assert discriminator.independent_samples == (layer is not nn.BatchNorm2d)
    images = torch.randn(4, *COLOUR)
    discriminator(images).sum().backward()
    discriminator.requires_grad_(False)
    if norm == "spectral":
        discriminator.eval()  # else each forward is a step of the power iteration
    alone = torch.cat([discriminator(image[None]) for image in images])
    together = discriminator(images)
    assert torch.allclose(together, alone, 1e-4, 1e-5) == discriminator.independent_samples


def test_auto_is_layernorm_under_a_gradient_penalty() -> None:
    assert patchgan.Discriminator(COLOUR, 4, gradient_penalty=True).norm == "layer"
    kept = patchgan.Discriminator(COLOUR, 4, norm="instance", gradient_penalty=True)
    assert kept.norm == "instance"


@pytest.mark.parametrize("translator", TRANSLATORS)
def test_only_batchnorm_mixes_sources(translator) -> None:
    torch.manual_seed(0)
    sources = torch.randn(3, *COLOUR)
    norms = ("instance", "none", "batch") if translator is not simgan.Generator else (None,)
    for norm in norms:
        settings = {"norm": norm} if norm else {}
        settings |= {"dropout": 0} if norm else {}
        generator = translator(COLOUR, COLOUR, 8, init="xavier", **settings)
        alone = torch.cat([generator(source[None]) for source in sources])
        assert torch.allclose(generator(sources), alone, 1e-3, 1e-4) == (norm != "batch")


@pytest.mark.parametrize("init", ["normal", "xavier"])
def test_first_weights(init: str) -> None:
    torch.manual_seed(0)
    networks = [
        unet.Generator(COLOUR, COLOUR, 32, init=init),
        resnet_translator.Generator(COLOUR, COLOUR, 32, 2, init=init),
        patchgan.Discriminator(COLOUR, 32, init=init),
        simgan.Generator(COLOUR, COLOUR, init=init),
        simgan.Discriminator(COLOUR, init=init),
    ]
    for module in (m for network in networks for m in network.modules()):
        if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)):
            assert module.bias is None or not module.bias.any()
            fans = (module.weight[0].numel() + module.weight[:, 0].numel()) / 2
            expected = 0.02 if init == "normal" else fans**-0.5
            if module.weight.numel() > 10_000:
                assert module.weight.std().item() == pytest.approx(expected, rel=0.05)
        if isinstance(module, nn.BatchNorm2d):
            assert module.weight.mean().item() == pytest.approx(1, abs=0.02)
            assert module.weight.std() > 0


@pytest.mark.parametrize(
    ("network", "settings", "message"),
    [
        (unet.Generator, grey(28, 28) | {"downs": 5}, r"downs=5: .*downs=4, or .*image_size=32"),
        (unet.Generator, grey(1, 28), r"sides of at least 2, .*image_size=\[2,28\]"),
        (unet.Generator, grey(28, 28) | {"downs": 0}, r"model\.generator\.downs=0"),
        (unet.Generator, grey(28, 28) | {"dropout": 1}, r"model\.generator\.dropout=1"),
        (unet.Generator, grey(28, 28) | {"dropout_layers": -1}, r"generator\.dropout_layers=-1"),
        (unet.Generator, grey(28, 28) | {"norm": "layer"}, "norm=layer: must be one of batch,"),
        (resnet_translator.Generator, grey(30, 30), r"multiples of 4, .*image_size=28\|32$"),
        (
            resnet_translator.Generator,
            grey(28, 30),
            r"multiples of 4, not 28x30; nearest: data\.image_size=28\|\[28,32\]$",
        ),
        (resnet_translator.Generator, grey(4, 4), r"at least 8 .*data\.image_size=8$"),
        (resnet_translator.Generator, grey(8, 8) | {"blocks": 0}, r"model\.generator\.blocks=0"),
        (resnet_translator.Generator, grey(8, 8) | {"padding": "same"}, "padding=same: must be"),
        (patchgan.Discriminator, {"image_shape": (1, 16, 16)}, r"layers=3: .*at least 24, .*=24$"),
        (patchgan.Discriminator, {"image_shape": GREY, "layers": 0}, r"discriminator\.layers=0"),
        (
            patchgan.Discriminator,
            {"image_shape": GREY, "norm": "batch", "gradient_penalty": True},
            "norm=batch: .* allowed: auto",
        ),
        (simgan.Discriminator, {"image_shape": GREY, "width": 0}, r"discriminator\.width=0"),
        (simgan.Discriminator, {"image_shape": GREY, "init": "he"}, "init=he: must be one of"),
    ],
)
def test_what_is_refused(network, settings, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        network(**settings)


@pytest.mark.parametrize("translator", TRANSLATORS)
def test_sources_of_other_sides_are_refused(translator) -> None:
    with pytest.raises(ConfigError, match="as large as their sources, not 32x32 of 28x28"):
        translator(COLOUR, GREY)
