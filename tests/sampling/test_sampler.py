"""Sampling from a trained generator."""

from __future__ import annotations

import pytest
import torch
from helpers import make_dcgan, make_gan
from torch import Tensor, nn

from forger.sampling.sampler import CHUNK, Sampler, chunk_sizes


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
    chunks = [sampler.chunk(i, size, seed=1) for i, size in enumerate(chunk_sizes(n))]
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
    (sampler.chunk(0, 3) * weight).sum().backward()
    assert weight.grad is not None
    assert Sampler(sampler.generator, "uniform").noise(1000).abs().max() <= 1 < noise.abs().max()
