"""Directions along which images change: SeFa by hand, styles, activations, and what is refused."""

from __future__ import annotations

import pytest
import torch
from helpers import SHAPE
from torch import Tensor, nn

from forger.conditions import Labels
from forger.errors import ConfigError
from forger.networks import biggan, dcgan, mlp, stylegan2
from forger.networks.conditional import LabelBesideNoise
from forger.sampling.sampler import Sampler

K = 3


class Stretched(nn.Module):
    """Images `A z`: along axis i of the noise they change `scales[i]` as much."""

    latent_dim = 4

    def __init__(self, scales: list[float]) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 256, bias=False)
        q = torch.linalg.qr(torch.randn(256, 4)).Q
        with torch.no_grad():
            self.layer.weight.copy_(q * torch.tensor(scales))

    def forward(self, noise: Tensor) -> Tensor:
        return self.layer(noise).view(-1, *SHAPE)


class Normalised(Stretched):
    """The same of noise that is scaled first, so that it does not enter as it is."""

    def forward(self, noise: Tensor) -> Tensor:
        return super().forward(noise * 0.5)


@pytest.mark.parametrize(("network", "method"), [(Stretched, "sefa"), (Normalised, "pca")])
def test_the_axes_that_stretch_most_come_first(network: type[Stretched], method: str) -> None:
    torch.manual_seed(0)
    found = Sampler(network([1.0, 3.0, 0.1, 2.0])).directions(K)
    assert found.method == method
    aligned = found.vectors.abs() / found.vectors.norm(dim=1, keepdim=True)
    assert aligned.argmax(1).tolist() == [1, 3, 0]
    assert (aligned.amax(1) > 0.9).all()
    lengths = found.vectors.norm(dim=1)
    torch.testing.assert_close(lengths, torch.ones(K), atol=0.05, rtol=0)  # deviations of N(0, 1)


def test_noise_enters_a_transposed_convolution_and_stands_before_a_label() -> None:
    torch.manual_seed(0)
    generator = dcgan.Generator(SHAPE, latent_dim=6, width=4)
    weight = generator.layers[0].weight.detach()  # (latent_dim, C, H, W)
    _, vectors = torch.linalg.eigh(weight.flatten(1) @ weight.flatten(1).T)
    best = Sampler(generator).directions(1).vectors[0]
    cosine = torch.cosine_similarity(best, vectors[:, -1], 0).abs()
    torch.testing.assert_close(cosine, torch.tensor(1.0))

    beside = LabelBesideNoise(mlp.Generator(SHAPE, latent_dim=8, hidden=(8,)), 3, 2)
    found = Sampler(beside, "uniform", Labels(["a", "b", "c"])).directions(K)
    assert found.method == "sefa"
    assert found.vectors.shape == (K, 6)
    torch.testing.assert_close(
        found.vectors.norm(dim=1), torch.full((K,), 3**-0.5), atol=0.02, rtol=0
    )


def test_styles_move_by_their_principal_components() -> None:
    torch.manual_seed(0)
    sizes = {"latent_dim": 6, "style_dim": 8, "mapping_layers": 1, "channel_base": 64}
    generator = stylegan2.Generator(SHAPE, **sizes, channel_max=4)
    sampler = Sampler(generator)
    found = sampler.directions(K)
    assert found.of_styles
    noise = sampler.noise(1_000)
    along = generator.styles(noise)[:, 0].detach() @ torch.nn.functional.normalize(found.vectors).T
    torch.testing.assert_close(along.std(0), found.vectors.norm(dim=1), atol=0, rtol=0.02)
    still = found.images(sampler, torch.zeros(K), noise[:2])
    torch.testing.assert_close(still, sampler(noise[:2]))
    assert (found.images(sampler, torch.ones(K), noise[:2]) - still).abs().max() > 1e-4


def test_of_a_network_that_splits_its_noise() -> None:
    torch.manual_seed(0)
    sampler = Sampler(biggan.Generator((1, 28, 28), latent_dim=12, width=4))
    found = sampler.directions(K)
    assert found.method == "pca"
    assert found.vectors.shape == (K, 12)


def test_a_sweep_has_the_image_in_its_middle_and_repeats() -> None:
    torch.manual_seed(0)
    generator = mlp.Generator(SHAPE, latent_dim=6, hidden=(8,), num_classes=3)
    sampler = Sampler(generator, "normal", Labels(["a", "b", "c"]))
    noise, label = sampler.noise(1)[0], torch.tensor(2)
    frames = sampler.directions(K).sweep(sampler, noise, 2.0, 5, label)
    assert frames.shape == (K, 5, *SHAPE)
    own = sampler(noise[None], label[None])[0]
    for middle in frames[:, 2]:
        torch.testing.assert_close(middle, own)
    assert torch.equal(frames, sampler.directions(K).sweep(sampler, noise, 2.0, 5, label))


def test_more_directions_than_there_are_is_refused() -> None:
    with pytest.raises(ConfigError, match="directions=5: the latent space has 4 of them"):
        Sampler(Stretched([1.0] * 4)).directions(5)
    with pytest.raises(ConfigError, match="directions=0: must be"):
        Sampler(Stretched([1.0] * 4)).directions(0)
