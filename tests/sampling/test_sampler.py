"""Sampling from a trained generator."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from helpers import SHAPE, make_dcgan, make_gan
from torch import Tensor, nn

from forger.conditions import Labels
from forger.errors import ConfigError, DataError
from forger.networks import mlp
from forger.pictures import to_pixels
from forger.sampling.sampler import CHUNK, Sampler, chunk_sizes, grid_places


@pytest.fixture
def sampler() -> Sampler:
    return Sampler(make_gan().generator, "normal")


def test_the_seed_decides_and_the_number_does_not(sampler: Sampler) -> None:
    many = sampler.noise(2 * CHUNK + 7, seed=3)
    assert many.shape == (2 * CHUNK + 7, 6)
    for n in (1, CHUNK, CHUNK + 1):
        assert torch.equal(sampler.noise(n, seed=3), many[:n])
    assert not torch.equal(sampler.noise(4, seed=4), many[:4])
    assert not torch.equal(many[CHUNK : CHUNK + 4], many[:4])  # chunks differ
    assert torch.equal(sampler.sample(5, seed=3), sampler.sample(5, seed=3))


def test_chunks_make_up_the_sample(sampler: Sampler) -> None:
    n = CHUNK + 10
    assert chunk_sizes(n) == [CHUNK, 10]
    assert chunk_sizes(CHUNK) == [CHUNK]
    chunks = [sampler.chunk(i, size, seed=1)["image"] for i, size in enumerate(chunk_sizes(n))]
    pixels = torch.cat(chunks)
    assert pixels.dtype == torch.uint8
    expected = ((sampler.sample(n, seed=1) + 1) * 127.5).round().to(torch.uint8)
    assert torch.equal(pixels, expected)


def test_it_is_a_copy_in_float32_and_eval_mode() -> None:
    generator = make_dcgan().generator.double().train()
    before = {name: value.clone() for name, value in generator.state_dict().items()}
    sampler = Sampler(generator, "normal").train()
    images = sampler.sample(3)
    assert images.dtype == torch.float32
    assert not any(module.training for module in sampler.modules())
    assert not any(p.requires_grad for p in sampler.parameters())
    assert generator.training
    assert all(torch.equal(value, before[name]) for name, value in generator.state_dict().items())


def test_what_a_generator_draws_by_itself_is_of_the_seed_too(sampler: Sampler) -> None:
    class Jitter(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return (x + 0.1 * torch.randn_like(x)).clamp(-1, 1)

    plain = sampler.sample(4)
    with torch.autocast("cpu", dtype=torch.bfloat16):  # does not reach it
        assert torch.equal(sampler.sample(4), plain)
    sampler.generator.layers.append(Jitter())
    torch.manual_seed(1)
    state = torch.get_rng_state()
    first = sampler.sample(4)
    sampler.noise(3)
    sampler.chunk(0, 3)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(2)
    assert torch.equal(sampler.sample(4), first)
    assert not torch.equal(first, plain)
    assert not torch.equal(sampler.sample(4, seed=1), first)


def test_gradients_reach_the_noise_and_what_is_made_of_samples(sampler: Sampler) -> None:
    """Tensors of inference mode could not be learned from."""
    noise = sampler.noise(2).requires_grad_()
    sampler(noise).sum().backward()
    assert noise.grad is not None
    assert noise.grad.abs().sum() > 0
    weight = torch.ones((), requires_grad=True)
    (sampler.sample(3) * weight).sum().backward()
    (sampler.chunk(0, 3)["image"] * weight).sum().backward()
    assert weight.grad is not None
    assert Sampler(sampler.generator, "uniform").noise(1000).abs().max() <= 1 < noise.abs().max()


def conditional(absent: int | None = None) -> Sampler:
    """Of three classes whose embeddings differ; one may have had no training image."""
    torch.manual_seed(0)
    generator = mlp.Generator(SHAPE, latent_dim=6, hidden=(8, 8), num_classes=3)
    for module in generator.modules():
        if isinstance(module, nn.Embedding):
            nn.init.normal_(module.weight)
    labels = Labels(["cat", "dog", "ship"])
    if absent is not None:
        labels.frequencies[absent] = 0
    return Sampler(generator, "normal", labels)


def test_a_class_changes_its_own_images_alone() -> None:
    sampler = conditional()
    cats, ships = sampler.sample(6, seed=1, label="cat"), sampler.sample(6, seed=1, label="ship")
    assert torch.equal(sampler.sample(6, seed=1, label=0), cats)
    assert not torch.isclose(cats, ships).flatten(1).all(1).any()
    in_turn = sampler.sample(6, seed=1, label=("cat", "ship"))
    assert torch.equal(in_turn, torch.stack([cats, ships], 1)[[0, 1, 2, 3, 4, 5], [0, 1] * 3])
    told = {"label": torch.tensor([0, 2] * 3)}
    assert torch.equal(sampler.chunk(0, 6, 1, told)["image"], to_pixels(in_turn))
    assert sampler.chunk(0, 6, 1, told)["label"].tolist() == [0, 2] * 3


def test_a_seed_draws_the_same_classes_whatever_the_number() -> None:
    sampler = conditional()
    many = sampler.given(CHUNK + 5, seed=3)["label"]
    assert torch.equal(sampler.given(7, seed=3)["label"], many[:7])
    assert set(many.tolist()) == {0, 1, 2}
    pictured = sampler.chunk(1, 5, seed=3)
    assert torch.equal(pictured["label"], many[CHUNK:])
    assert torch.equal(to_pixels(sampler.sample(CHUNK + 5, seed=3))[CHUNK:], pictured["image"])


def test_names_count_before_numbers_and_tensors_hold_numbers() -> None:
    sampler = conditional()
    cats, dogs = sampler.sample(3, label="cat"), sampler.sample(3, label="dog")
    sampler.condition.classes = ("1", "0", "ten")
    assert torch.equal(sampler.sample(3, label=1), cats)
    assert torch.equal(sampler.sample(3, label="0"), dogs)
    assert torch.equal(sampler.sample(3, label=torch.tensor([1])), dogs)
    with pytest.raises(ConfigError, match="label=2: there is no such class; allowed: 1, 0, ten"):
        sampler.sample(3, label=2)
    with pytest.raises(DataError, match="from 0 to 2"):
        sampler.sample(3, label=torch.tensor([3]))


@pytest.mark.parametrize(
    ("label", "message"),
    [
        ("car", "label=car: there is no such class; allowed: cat, dog, ship"),
        (["cat", 3], "label=3: there is no such class"),
        ("dog", "label=dog: no training image had this class"),
        ([], r"label=\[\]: names no class"),
    ],
)
def test_what_is_no_class_is_refused(label: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        conditional(absent=1).sample(4, label=label)
    with pytest.raises(ConfigError, match="label=7: the run was trained without labels; leave it"):
        Sampler(make_gan().generator, "normal").sample(4, label=7)


def test_a_grid_has_a_row_for_each_class_that_was_seen(sampler: Sampler) -> None:
    plain = sampler.grid(7, seed=2)
    assert (plain.columns, plain.names) == (None, ())
    assert torch.equal(plain.images, sampler.sample(7, seed=2))
    images, columns, names = conditional(absent=1).grid(9, seed=2)
    assert (columns, names) == (4, ("cat", "ship"))
    asked = ["cat"] * 4 + ["ship"] * 4
    assert torch.equal(images, conditional().sample(8, seed=2, label=asked))


@pytest.mark.parametrize(
    ("classes", "each", "most", "places", "columns"),
    [
        (0, 9, 4, [0, 1, 2, 3], None),
        (0, 3, 4, [0, 1, 2], None),
        (2, 9, 6, [0, 1, 2, 9, 10, 11], 3),
        (2, 2, 6, [0, 1, 2, 3], 2),
        (1, 9, 6, [0, 1, 2, 3, 4, 5], None),  # near-square
        (4, 9, 6, [0, 9, 18, 27], None),  # an image of each
        (4, 9, 3, [0, 9, 18], None),  # of the first three
    ],
)
def test_places_in_a_grid(
    classes: int, each: int, most: int, places: list[int], columns: int | None
) -> None:
    found, width = grid_places(classes, each, most)
    assert (found.tolist(), width) == (places, columns)
