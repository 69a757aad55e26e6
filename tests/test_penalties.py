"""Gradient penalties against their analytic values."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from forger.penalties import R1, R2, AroundReal, Interpolates, Penalty

SHAPE = (2, 3, 3)


def uniform(batch: int, *shape: int) -> Tensor:
    return torch.rand((batch, *shape), dtype=torch.float64)


@pytest.fixture
def images() -> tuple[Tensor, Tensor]:
    torch.manual_seed(0)
    return torch.randn(5, *SHAPE, dtype=torch.float64), torch.randn(5, *SHAPE, dtype=torch.float64)


def quadratic(images: Tensor) -> Tensor:
    """D(x) = |x|^2 / 2, whose gradient at x is x."""
    return images.flatten(1).square().sum(1) / 2


def test_r1_looks_at_real_images_and_r2_at_fake_ones(images) -> None:
    real, fake = images
    for penalty, seen in ((R1(1.0), real), (R2(1.0), fake)):
        expected = seen.flatten(1).square().sum(1).mean() / 2
        torch.testing.assert_close(penalty(quadratic, real, fake, uniform), expected)


def test_one_epsilon_per_sample_between_real_and_fake(images) -> None:
    real, fake = images
    epsilon = torch.linspace(0, 1, 5, dtype=torch.float64).view(5, 1, 1, 1)
    between = epsilon * real + (1 - epsilon) * fake
    expected = (between.flatten(1).norm(dim=1) - 1).square().mean()
    found = Interpolates(1.0)(quadratic, real, fake, lambda batch, *shape: epsilon)
    torch.testing.assert_close(found, expected)


def test_dragan_perturbs_by_the_batch_deviation(images) -> None:
    real, fake = images
    alpha = torch.linspace(0, 1, 5, dtype=torch.float64).view(5, 1, 1, 1)
    u = torch.rand_like(real)
    nearby = real + alpha * (real.std() / 2) * u
    expected = (nearby.flatten(1).norm(dim=1) - 1).square().mean()

    def given(batch: int, *shape: int) -> Tensor:
        assert batch == 5
        return alpha if shape == (1, 1, 1) else u

    torch.testing.assert_close(AroundReal(1.0)(quadratic, real, fake, given), expected)


@pytest.mark.parametrize("penalty", [R1(1.0), R2(1.0), Interpolates(1.0), AroundReal(1.0)])
def test_gradient_reaches_the_weights_and_not_the_images(penalty: Penalty, images) -> None:
    torch.manual_seed(2)
    network = nn.Sequential(
        nn.Flatten(), nn.Linear(18, 8), nn.Softplus(), nn.Linear(8, 1), nn.Flatten(0)
    ).double()
    real, fake = images
    penalty(network, real, fake, uniform).backward()
    assert network[1].weight.grad is not None
    assert network[1].weight.grad.abs().sum() > 0
    assert real.grad is None
    assert not real.requires_grad


def test_a_flat_discriminator_has_a_finite_gradient(images) -> None:
    """The norm is not differentiable at 0; training must not turn to NaN there."""
    network = nn.Sequential(nn.Flatten(), nn.Linear(18, 1), nn.Flatten(0)).double()
    nn.init.zeros_(network[1].weight)
    Interpolates(1.0)(network, *images, uniform).backward()
    assert network[1].weight.grad.isfinite().all()
