"""Styles pulled towards their mean."""

from __future__ import annotations

import pytest
import torch
from helpers import make_gan

from forger.conditions import Labels
from forger.errors import ConfigError
from forger.networks.stylegan2 import Generator
from forger.sampling.sampler import Sampler

SHAPE = (1, 8, 8)
SMALL = {"latent_dim": 6, "style_dim": 5, "mapping_layers": 2, "channel_base": 32}


@pytest.fixture
def sampler() -> Sampler:
    torch.manual_seed(0)
    return Sampler(Generator(SHAPE, **SMALL))


def test_1_is_the_identity_and_0_gives_one_image(sampler: Sampler) -> None:
    images = sampler.sample(5, seed=3)
    assert torch.equal(sampler.sample(5, seed=3, truncation=1), images)
    one = sampler.sample(5, seed=3, truncation=0)
    assert torch.equal(one, one[:1].expand_as(one))
    assert torch.equal(sampler.sample(5, seed=8, truncation=0), one)
    assert not torch.allclose(images[0], images[1])
    assert torch.equal(sampler.sample(5, seed=3), images)  # nothing is left behind


def test_between_styles_lie_on_the_line_to_their_mean(sampler: Sampler) -> None:
    generator = sampler.generator
    mean = generator.styles(torch.randn(200_000, 6))[:, 0].mean(0)
    styles = generator.styles(sampler.noise(4, seed=2))
    expected = generator.synthesize(mean + 0.7 * (styles - mean))
    found = sampler.sample(4, seed=2, truncation=0.7)
    assert torch.equal(found, sampler.sample(4, seed=2, truncation=0.7))
    spread = (sampler.sample(4, seed=2) - expected).abs().max()
    assert (found - expected).abs().max() < 0.1 * spread  # two means of thousands differ little


def test_it_goes_with_chunks_grids_and_classes() -> None:
    torch.manual_seed(0)
    generator = Generator(SHAPE, num_classes=3, **SMALL)
    sampler = Sampler(generator, "uniform", Labels(("cat", "dog", "ship")))
    near = sampler.truncated(0.2)
    assert isinstance(near, Sampler)
    assert torch.equal(near.sample(6, label="dog"), sampler.sample(6, truncation=0.2, label="dog"))
    assert near.grid(6).names == ("cat", "dog", "ship")
    far = sampler.grid(6).images
    assert near.grid(6).images.var(0).mean() < far.var(0).mean() / 4
    assert near.chunk(0, 3)["image"].shape == (3, *SHAPE)


@pytest.mark.parametrize(
    ("generator", "truncation", "message"),
    [
        (make_gan().generator, 0.5, r"truncation=0\.5: is for .* with styles, .* model=stylegan2"),
        (make_gan().generator, -1.0, r"truncation=-1\.0: must be a number of at least 0"),
    ],
)
def test_what_cannot_be_truncated_is_refused(generator, truncation, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Sampler(generator).sample(2, truncation=truncation)
