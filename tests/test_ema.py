"""The generator's moving average."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest
import torch
from same import differences
from torch import nn
from torch.nn.utils import parametrizations

from forger.ema import EMA
from forger.errors import ConfigError
from forger.sampling.sampler import Sampler


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3))


def add_one(module: nn.Module) -> None:
    with torch.no_grad():
        for tensor in module.state_dict().values():
            tensor.add_(torch.ones_like(tensor))


def test_averages_weights_and_batchnorm_statistics_and_copies_other_buffers() -> None:
    source = network()
    source.register_buffer("anything", torch.zeros(2))
    ema = EMA(source, decay=0.9)
    start = {name: value.clone() for name, value in source.state_dict().items()}
    add_one(source)
    ema.update(source, iteration=1000)  # past the warm-up
    for name, value in ema.module.state_dict().items():
        averaged = name != "anything" and value.is_floating_point()
        torch.testing.assert_close(value, start[name] + (0.1 if averaged else 1))


def old_weight_norm(layer: nn.Linear) -> nn.Module:
    with pytest.warns(FutureWarning):
        return nn.utils.weight_norm(layer)


NORMS: dict[str, Callable[[nn.Linear], nn.Module]] = {
    "spectral": parametrizations.spectral_norm,
    "older spectral": nn.utils.spectral_norm,
    "weight": parametrizations.weight_norm,
    "older weight": old_weight_norm,
    "orthogonal": parametrizations.orthogonal,
}


@pytest.mark.parametrize("name", NORMS)
def test_every_reparametrisation_is_averaged_and_can_be_sampled(name: str) -> None:
    """After training weights far away, when older hooks keep one that autograd has computed."""
    torch.manual_seed(0)
    norm = NORMS[name]
    source = nn.Sequential(norm(nn.Linear(6, 8)), nn.ReLU(), norm(nn.Linear(8, 8)))
    source.latent_dim = 6  # type: ignore[assignment]
    ema = EMA(source, decay=0.99)
    optimizer = torch.optim.Adam(source.parameters(), lr=0.01)
    for iteration in range(1, 301):
        optimizer.zero_grad()
        (source(torch.randn(16, 6)) - torch.randn(16, 8)).square().mean().backward()
        optimizer.step()
        ema.update(source, iteration)
    noise = torch.randn(5, 6)
    for one in (source, ema.module):
        sampler = Sampler(one, "normal")
        torch.testing.assert_close(sampler(noise), one.eval()(noise))
    assert (ema(noise) - source(noise)).abs().mean() < 0.3
    if "spectral" in name:
        for layer in (sampler.generator[0], sampler.generator[2]):
            largest = torch.linalg.matrix_norm(layer.weight, ord=2).item()
            assert largest == pytest.approx(1, abs=0.05)


def test_what_cannot_be_copied_is_refused_with_its_reason() -> None:
    source = network()
    source.lock = threading.Lock()  # type: ignore[assignment]
    with pytest.raises(ConfigError, match=r"model\.generator: Sequential cannot be copied.*lock"):
        EMA(source, decay=0.9)


def test_stays_in_float32_beside_16_bits() -> None:
    """The step of an average is far below the resolution of bfloat16."""
    source = network()
    ema = EMA(source, decay=0.999)
    nn.ModuleList([source, ema]).bfloat16()
    start = ema.module[0].weight.clone()
    add_one(source)
    for _ in range(10):
        ema.update(source, iteration=100_000)
    assert {tensor.dtype for tensor in ema.module.parameters()} == {torch.float32}
    expected = start + (1 - 0.999**10) * (source[0].weight.float() - start)
    torch.testing.assert_close(ema.module[0].weight, expected)
    assert ema(torch.zeros(2, 3, dtype=torch.bfloat16)).dtype == torch.float32
    of_halves = EMA(source, decay=0.9)
    assert {tensor.dtype for tensor in of_halves.module.parameters()} == {torch.float32}
    assert source[0].weight.dtype == torch.bfloat16


@pytest.mark.parametrize(("earlier", "step"), [(0, 9 / 11), (100_000, 0.001)])
def test_the_warm_up_forgets_the_first_weights_and_counts_earlier_updates(
    earlier: int, step: float
) -> None:
    source = network()
    ema = EMA(source, decay=0.999)
    ema.earlier_updates = earlier
    start = ema.module[0].weight.clone()
    add_one(source)
    ema.update(source, iteration=1)
    torch.testing.assert_close(ema.module[0].weight, start + step)


def test_follows_buffers_that_are_replaced_and_weights_that_are_moved() -> None:
    source = network()
    ema = EMA(source, decay=0.0)
    ema.update(source, iteration=1)
    source[1].running_mean = torch.full((3,), 7.0)
    for module in (source, ema):
        module.double()  # puts other memory behind the same parameters
    add_one(source)
    ema.update(source, iteration=2)
    torch.testing.assert_close(ema.module.state_dict(), source.state_dict())


def test_stays_in_eval_mode_and_leaves_the_source_alone() -> None:
    source = network()
    bits = {name: value.clone() for name, value in source.state_dict().items()}
    ema = EMA(source, decay=0.9)
    nn.ModuleList([ema]).train()
    ema.update(source, iteration=5)
    assert not any(module.training for module in ema.modules())
    assert not any(p.requires_grad for p in ema.parameters())
    assert {name.partition(".")[0] for name in ema.state_dict()} == {"module"}
    assert not differences(bits, dict(source.state_dict()))
    assert source.training
    assert source[0].weight.requires_grad


@pytest.mark.parametrize(
    ("factor", "images", "left"),
    [(1.0, 100, 0.5), (0.5, 100, 0.25), (1.0, 25, 0.5**0.25), (0, 9, 0)],
)
def test_after_the_images_of_a_half_life_half_of_the_average_is_left(
    factor: float, images: int, left: float
) -> None:
    """From the first iteration on, without a warm-up."""
    source = network()
    ema = EMA(source, half_life=100)
    ema.factor = factor
    start = ema.module[0].weight.clone()
    add_one(source)
    ema.update(source, iteration=1, images=images)
    torch.testing.assert_close(ema.module[0].weight, start + 1 - left)
    if left == 0:
        assert torch.equal(ema.module[0].weight, source[0].weight)


def test_a_half_life_takes_the_place_of_a_decay() -> None:
    assert EMA(network(), half_life=5e6).describe() == "half-life 5,000,000 images"
    assert EMA(network()).describe() == "0.999"
    with pytest.raises(ConfigError, match=r"ema_decay=0.99: model.ema_half_life=9 takes its"):
        EMA(network(), 0.99, half_life=9)
    with pytest.raises(ConfigError, match=r"model.ema_half_life=0: must be a number above 0"):
        EMA(network(), half_life=0)


@pytest.mark.parametrize("decay", [1.0, -0.1, float("nan"), True])
def test_refuses_a_decay_out_of_range(decay) -> None:
    with pytest.raises(ConfigError, match=r"model.ema_decay"):
        EMA(network(), decay)
