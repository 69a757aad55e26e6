"""StackGAN-v2's networks against the authors' sizes, and how a code is drawn."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from forger.errors import ConfigError
from forger.networks.settings import Norm
from forger.networks.stackgan import Discriminator, Generator


def count(network: nn.Module) -> int:
    return sum(one.numel() for one in network.parameters())


def small(shape: tuple[int, int, int] = (3, 16, 16), **settings: Any) -> Generator:
    torch.manual_seed(0)
    sizes: dict[str, Any] = {"latent_dim": 5, "code_dim": 4, "width": 4, "stages": 2, "text_dim": 3}
    return Generator(shape, **(sizes | settings))


def test_numbers_of_parameters_are_those_of_the_authors_code() -> None:
    """Of birds at 256x256: D is told the code of 128 numbers there, G the embedding of 1024."""
    with torch.device("meta"):
        generator = Generator((3, 256, 256), text_dim=1024)
        discriminator = Discriminator((3, 256, 256), text_dim=128)
    w, code = 64, 128
    top = 16 * w  # channels of the smallest map

    def gated(inputs: int, outputs: int) -> int:
        return 9 * inputs * 2 * outputs + 4 * outputs  # conv3, and gain and bias of BatchNorm

    def stage(width: int) -> int:
        residual = gated(width, width) + 9 * width**2 + 2 * width
        return gated(width + code, width) + 2 * residual + gated(width, width // 2)

    expected = 1024 * 4 * code + 4 * code  # conditioning
    expected += (100 + code) * 2 * top * 16 + 2 * 2 * top * 16
    expected += sum(gated(top // 2**k, top // 2 ** (k + 1)) for k in range(4))
    expected += stage(w) + stage(w // 2) + 27 * (w + w // 2 + w // 4)
    assert count(generator) == expected == 21_239_696
    encoder = 16 * (3 * w + 2 * w**2 + 8 * w**2 + 32 * w**2) + 2 * (2 + 4 + 8) * w
    heads = 9 * (8 * w + code) * 8 * w + 2 * 8 * w + 2 * (16 * 8 * w + 1)
    assert count(discriminator.judges[0]) == encoder + heads == 5_723_906
    # one more halving, and the convolution that takes its channels back
    further = 16 * 8 * 16 * w**2 + 2 * 16 * w + 9 * 16 * 8 * w**2 + 2 * 8 * w
    assert count(discriminator.judges[1]) == encoder + heads + further
    assert [one.features[-3].out_channels for one in discriminator.judges] == [8 * w] * 3


@pytest.mark.parametrize(
    ("side", "stages", "sides"),
    [(32, 2, (16, 32)), (28, 2, (14, 28)), (64, 3, (16, 32, 64)), (8, 1, (8,))],
)
def test_each_stage_makes_images_of_twice_the_side(
    side: int, stages: int, sides: tuple[int, ...]
) -> None:
    shape = (2, side, side)
    generator = small(shape, stages=stages)
    discriminator = Discriminator(shape, width=4, stages=stages, text_dim=3)
    images, mean, log_variance = generator(
        torch.randn(3, 5), torch.randn(3, 3), torch.randn(3, 4), all_stages=True
    )
    assert generator.stage_sides == discriminator.stage_sides == sides
    assert [tuple(one.shape) for one in images] == [(3, 2, s, s) for s in sides]
    assert all(0 < one.abs().max() <= 1 for one in images)
    assert mean.shape == log_variance.shape == (3, 4)
    assert all(discriminator(one, torch.randn(3, 3)).shape == (3, 2, 1, 1) for one in images)


def test_codes_are_normal_around_their_means_and_these_without_noise_of_their_own() -> None:
    generator = small().eval()
    noise, text, extra = torch.randn(2, 5), torch.randn(2, 3), torch.randn(2, 4)
    mean, log_variance = generator.conditioning(text)
    drawn: Tensor = generator(noise, text, extra)
    code = mean + log_variance.exp().sqrt() * extra
    torch.testing.assert_close(drawn, generator.stages(noise, code)[-1])
    without = generator(noise, text)
    torch.testing.assert_close(without, generator.stages(noise, mean)[-1])
    assert not torch.allclose(drawn, without)


def test_the_second_logit_is_told_no_text() -> None:
    torch.manual_seed(0)
    discriminator = Discriminator((3, 8, 8), width=4, stages=1, text_dim=3).eval()
    images = torch.randn(2, 3, 8, 8)
    one, other = (discriminator(images, torch.randn(2, 3)).flatten(1) for _ in range(2))
    assert torch.equal(one[:, 1], other[:, 1])
    assert not torch.allclose(one[:, 0], other[:, 0])


@pytest.mark.parametrize("norm", ["auto", "layer", "instance", "spectral", "none"])
def test_without_batch_statistics_each_pair_is_judged_by_itself(norm: Norm) -> None:
    torch.manual_seed(0)
    discriminator = Discriminator(
        (3, 16, 16), 4, stages=2, norm=norm, gradient_penalty=norm == "auto", text_dim=3
    ).eval()
    assert discriminator.independent_samples
    assert discriminator.norm == ("layer" if norm == "auto" else norm)
    images, texts = torch.randn(4, 3, 16, 16), torch.randn(6, 3)
    logits = discriminator(images, texts)
    again = torch.cat([images, images[:2]])
    for row in range(6):
        alone = discriminator(again[row : row + 1], texts[row : row + 1])
        torch.testing.assert_close(logits[row : row + 1], alone)


def test_batch_norm_under_a_penalty_is_refused() -> None:
    assert not Discriminator((3, 8, 8), 4, stages=1, text_dim=3).independent_samples
    with pytest.raises(ConfigError, match=r"norm=batch: this loss penalises gradients per sample"):
        Discriminator((3, 8, 8), 4, 1, norm="batch", gradient_penalty=True, text_dim=3)


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        (
            {"text_dim": 0},
            r"model\.generator: StackGAN makes images of texts; write condition=text",
        ),
        ({"stages": 3}, r"generator\.stages=3: images of side 16 are made in at most 2; write"),
        ({"stages": 0}, r"model\.generator\.stages=0: must be"),
        ({"shape": (3, 18, 18)}, r"side of 4, 5, 6 or 7 times a power of two, not 18x18"),
    ],
)
def test_what_it_cannot_make_is_refused(settings: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        small(**settings)
