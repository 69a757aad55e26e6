"""Images between classes, for every way in which a generator may be told its class."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import pytest
import torch
from helpers import SHAPE
from torch import Tensor, nn
from torch.nn.functional import one_hot

from forger.conditions import Labels
from forger.errors import ConfigError
from forger.networks import dcgan, mlp
from forger.networks.conditional import LabelBesideNoise
from forger.sampling.between_classes import generate_between, walk
from forger.sampling.sampler import Sampler


class Own(nn.Module):
    """A network of a user's: it adds the embedding, of labels that it reshapes, and positions."""

    latent_dim = 6

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.utils.parametrizations.spectral_norm(nn.Embedding(3, 6))
        self.positions = nn.Embedding(3, 6)

    def forward(self, noise: Tensor, label: Tensor) -> Tensor:
        places = self.positions(torch.arange(3, device=noise.device)).sum(0)
        return (noise + self.embedding(label.view(-1, 1))[:, 0] + places)[:, None, None].tanh()


WAYS: dict[str, Callable[[], nn.Module]] = {
    "batchnorm, mlp": lambda: mlp.Generator(SHAPE, latent_dim=6, hidden=(8, 8), num_classes=3),
    "batchnorm, dcgan": lambda: dcgan.Generator(SHAPE, latent_dim=6, width=4, num_classes=3),
    "concat": lambda: LabelBesideNoise(mlp.Generator(SHAPE, latent_dim=8, hidden=(8,)), 3, 2),
    "own": Own,
}


@pytest.fixture(params=WAYS)
def sampler(request: pytest.FixtureRequest) -> Sampler:
    torch.manual_seed(0)
    generator = WAYS[request.param]()
    for module in generator.modules():
        if isinstance(module, nn.Embedding) and not isinstance(generator, Own):
            nn.init.normal_(module.weight)
    return Sampler(generator, "normal", Labels(["cat", "dog", "ship"]))


def test_ends_are_the_classes_exactly_and_the_way_is_even(sampler: Sampler) -> None:
    noise = sampler.noise(4)
    cats, ships = torch.zeros(4, dtype=torch.int64), torch.full((4,), 2)
    before = {name: value.clone() for name, value in sampler.state_dict().items()}
    frames = [generate_between(sampler, noise, cats, ships, t) for t in (0.0, 0.25, 0.5, 0.75)]
    frames.append(sampler(noise, ships))
    assert torch.equal(frames[0], sampler(noise, cats))
    torch.testing.assert_close(generate_between(sampler, noise, cats, ships, 1.0), frames[-1])
    middle = generate_between(sampler, noise, ships, cats, 0.5)
    torch.testing.assert_close(middle, frames[2])
    steps = [(b - a).abs().mean() for a, b in pairwise(frames)]
    assert min(steps) > 0.1 * max(steps)
    assert all(torch.equal(value, before[name]) for name, value in sampler.state_dict().items())
    assert torch.equal(sampler(noise, cats), frames[0])  # nothing stays behind


def test_the_middle_is_the_class_of_the_mean_embedding() -> None:
    sampler = Sampler(WAYS["concat"](), "normal", Labels(["cat", "dog", "ship"]))
    table, noise = sampler.generator.embedding.weight, sampler.noise(4)
    start, end = torch.tensor([0, 1, 2, 0]), torch.tensor([1, 2, 0, 0])  # each in its own way
    found = generate_between(sampler, noise, start, end, 0.25)
    told = 0.75 * table[start] + 0.25 * table[end]
    torch.testing.assert_close(found, sampler.generator.generator(torch.cat([noise, told], 1)))


def test_a_walk_stops_at_every_class_and_closes(sampler: Sampler) -> None:
    noise = sampler.noise(4).expand(9, -1, -1)
    stops = torch.tensor([[0], [1], [2]]).expand(-1, 4)
    frames = list(walk(sampler, noise, stops))
    assert len(frames) == 9
    for stop, name in enumerate(["cat", "dog", "ship"]):
        assert torch.equal(frames[3 * stop], sampler.sample(4, label=name))
    last = generate_between(sampler, noise[0], stops[2], stops[0], 2 / 3)
    assert torch.equal(frames[-1], last)  # on the way back to the first frame


def test_a_walk_within_classes_moves_noise_alone(sampler: Sampler) -> None:
    noise = torch.stack([sampler.noise(3, seed) for seed in range(4)])
    frames = list(walk(sampler, noise, torch.tensor([[0, 2, 1]])))
    for seed, frame in enumerate(frames):
        expected = sampler.sample(3, seed, label=["cat", "ship", "dog"])
        torch.testing.assert_close(frame, expected)  # a batch elsewhere in memory may round so


def test_a_generator_without_embeddings_is_refused_between_classes_only() -> None:
    class OneHot(nn.Module):
        latent_dim = 6

        def __init__(self) -> None:
            super().__init__()
            self.layer, self.positions = nn.Linear(9, 4), nn.Embedding(5, 4)

        def forward(self, noise: Tensor, label: Tensor) -> Tensor:
            places = self.positions(torch.arange(5)).sum(0)
            images: Tensor = self.layer(torch.cat([noise, one_hot(label, 3)], 1)) + places
            return images[:, None, None]

    sampler = Sampler(OneHot(), "normal", Labels(["cat", "dog", "ship"]))
    noise = sampler.noise(2).expand(4, -1, -1)
    assert len(list(walk(sampler, noise, torch.tensor([[0, 1]])))) == 4
    with pytest.raises(ConfigError, match=r"OneHot looks labels up in no nn.Embedding"):
        list(walk(sampler, noise, torch.tensor([[0, 0], [1, 1]])))
