"""Images are found again in the latent space: the image itself, its class, whatever the batch."""

from __future__ import annotations

import pytest
import torch
from helpers import SHAPE
from torch import nn

from forger.conditions import Labels
from forger.errors import ConfigError
from forger.networks import dcgan, mlp
from forger.networks.unet import Generator as UNet
from forger.pictures import to_pixels
from forger.sampling.sampler import Sampler
from forger.sampling.translator import Translator


@pytest.fixture(scope="module")
def sampler() -> Sampler:
    torch.manual_seed(0)
    generator = mlp.Generator(SHAPE, latent_dim=4, hidden=(32, 32), num_classes=3)
    for module in generator.modules():
        if isinstance(module, nn.Embedding):
            nn.init.normal_(module.weight)
    return Sampler(generator, "normal", Labels(["cat", "dog", "ship"]))


def test_images_of_the_generator_are_found_again_with_their_class(sampler: Sampler) -> None:
    labels = torch.tensor([0, 1, 2, 2])
    images = sampler.sample(4, seed=5, label=labels)
    found = sampler.project(images, prior_weight=0.0)
    assert found.label is not None
    assert found.label.tolist() == labels.tolist()
    assert (found.distance < 0.02).all()
    assert (found.distance < found.random_distance / 5).all()
    torch.testing.assert_close(found.images, sampler(found.noise, found.label))
    apart = (found.images - images).square().mean((1, 2, 3)).sqrt()
    torch.testing.assert_close(found.distance, apart)


def test_it_is_a_function_of_seed_and_image_alone(sampler: Sampler) -> None:
    images = sampler.sample(3, seed=6)
    steps: list[tuple[int, int]] = []
    told = sampler.project(
        images, steps=5, seed=1, on_step=lambda done, total: steps.append((done, total))
    )
    assert steps == [(k, 5) for k in range(1, 6)]
    torch.randn(3)  # the global random state plays no part
    again = sampler.project(to_pixels(images), steps=5, seed=1)
    torch.testing.assert_close(told.noise, again.noise, atol=0.02, rtol=0)  # pixels were rounded
    assert torch.equal(told.noise, sampler.project(images, steps=5, seed=1).noise)
    assert not torch.equal(told.noise, sampler.project(images, steps=5, seed=2).noise)
    for features in (None, lambda x: torch.stack([x[:, 0, 0].sum(1), x[:, 0, :, 0].sum(1)], 1)):
        beside, alone = (
            sampler.project(chosen, steps=5, seed=1, features=features)
            for chosen in (torch.cat([images, torch.full_like(images[:1], 0.5)]), images[1:2])
        )
        torch.testing.assert_close(beside.noise[1:2], alone.noise, atol=1e-3, rtol=0)


def test_a_class_that_is_given_stays(sampler: Sampler) -> None:
    images = sampler.sample(2, label="cat")
    found = sampler.project(images, label="ship", steps=3)
    assert found.label is not None
    assert found.label.tolist() == [2, 2]
    with pytest.raises(ConfigError, match="label=bird: there is no such class"):
        sampler.project(images, label="bird")


def test_nothing_is_worse_than_where_it_began_and_features_count() -> None:
    """Uniform noise stays inside its cube; features see what they are asked about."""
    torch.manual_seed(1)
    sampler = Sampler(dcgan.Generator(SHAPE, latent_dim=6, width=4), "uniform")
    images = sampler.sample(2, seed=9)
    begun = sampler.project(images, steps=0, starts=1)
    torch.testing.assert_close(begun.distance, begun.random_distance, atol=1e-5, rtol=0)
    found = sampler.project(images, steps=20)
    assert (found.distance <= begun.distance).all()
    assert found.noise.abs().max() <= 1
    corner = sampler.project(images, steps=20, features=lambda x: 100 * x[:, 0, :4, :4].flatten(1))

    def error(part: torch.Tensor) -> torch.Tensor:
        return (part - images)[:, :, :4, :4].square().mean()

    assert error(corner.images) < error(found.images)


def test_what_cannot_be_projected_is_refused(sampler: Sampler) -> None:
    with pytest.raises(ConfigError, match=r"images \(1, 1, 8, 8\): must be \(N, 1, 16, 16\)"):
        sampler.project(torch.zeros(1, 1, 8, 8))
    with pytest.raises(ConfigError, match="starts=0: must be"):
        sampler.project(torch.zeros(1, *SHAPE), starts=0)
    shape = (1, 16, 16)
    pictures = torch.zeros(2, *shape, dtype=torch.uint8)
    translator = Translator(UNet(shape, source_shape=shape, width=4), pictures, pictures)
    with pytest.raises(ConfigError, match="takes no noise"):
        translator.project(torch.zeros(1, *shape))
