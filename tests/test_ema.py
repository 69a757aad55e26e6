"""The generator's moving average."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from forger.ema import EMA
from forger.errors import ConfigError


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3))


def move(module: nn.Module) -> None:
    with torch.no_grad():
        for tensor in module.state_dict().values():
            tensor.add_(torch.ones_like(tensor))


def test_averages_weights_and_batchnorm_statistics() -> None:
    source = network()
    ema = EMA(source, decay=0.9)
    start = {name: value.clone() for name, value in source.state_dict().items()}
    move(source)
    ema.update(source, iteration=1000)  # past the warm-up
    for name, value in ema.module.state_dict().items():
        expected = start[name] + 0.1 if value.is_floating_point() else start[name] + 1
        torch.testing.assert_close(value, expected)


def test_follows_buffers_that_are_replaced_and_weights_that_are_moved() -> None:
    source = network()
    ema = EMA(source, decay=0.0)
    ema.update(source, iteration=1)
    source[1].running_mean = torch.full((3,), 7.0)
    for module in (source, ema):
        module.double()  # puts other memory behind the same parameters
    move(source)
    ema.update(source, iteration=2)
    for name, value in source.state_dict().items():
        torch.testing.assert_close(ema.module.state_dict()[name], value)


def test_warm_up_forgets_the_initial_weights() -> None:
    source = network()
    ema = EMA(source, decay=0.999)
    before = ema.module[0].weight.clone()
    move(source)
    ema.update(source, iteration=1)
    torch.testing.assert_close(ema.module[0].weight, before + 9 / 11)


def test_no_averaging_is_an_exact_copy() -> None:
    source = network()
    ema = EMA(source, decay=0.0)
    move(source)
    ema.update(source, iteration=1)
    for average, value in zip(
        ema.module.state_dict().values(), source.state_dict().values(), strict=True
    ):
        assert torch.equal(average, value)


def test_stays_in_eval_mode_and_out_of_the_optimizer() -> None:
    ema = EMA(network(), decay=0.9)
    nn.ModuleList([ema]).train()
    assert not any(module.training for module in ema.modules())
    assert not any(p.requires_grad for p in ema.parameters())


def test_leaves_the_source_alone() -> None:
    source = network()
    bits = {name: value.clone() for name, value in source.state_dict().items()}
    EMA(source, decay=0.9).update(source, iteration=5)
    assert all(torch.equal(value, bits[name]) for name, value in source.state_dict().items())
    assert source.training
    assert source[0].weight.requires_grad


@pytest.mark.parametrize("decay", [1.0, -0.1, float("nan"), True])
def test_refuses_a_decay_out_of_range(decay) -> None:
    with pytest.raises(ConfigError, match=r"model.ema_decay"):
        EMA(network(), decay)
