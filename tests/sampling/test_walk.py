"""Walks through latent space."""

from __future__ import annotations

import math

import pytest
import torch

from forger.noise import PRIORS
from forger.sampling.walk import loop, slerp


def drawn(prior: str, *shape: int) -> torch.Tensor:
    return PRIORS[prior](shape, torch.Generator().manual_seed(0), torch.float32)


def test_a_quarter_circle() -> None:
    start, end = torch.tensor([1.0, 0.0]), torch.tensor([0.0, 3.0])
    third = slerp(start, end, torch.tensor([1 / 3]))
    length = 1 + 2 / 3
    expected = [[length * math.cos(math.pi / 6), length * math.sin(math.pi / 6)]]
    torch.testing.assert_close(third, torch.tensor(expected))


def test_ends_are_exact() -> None:
    start, end = drawn("normal", 2, 16, 100)
    path = slerp(start, end, torch.tensor([0.0, 0.5, 1.0]))
    assert path.shape == (3, 16, 100)
    assert path.dtype == torch.float32
    assert torch.equal(path[0], start)
    assert torch.equal(path[2], end)


@pytest.mark.parametrize(
    ("start", "end", "middle"),
    [
        ([1.0, 2.0], [2.0, 4.0], [1.5, 3.0]),  # parallel
        ([1.0, 2.0], [-3.0, -6.0], [-1.0, -2.0]),  # opposite
        ([0.0, 0.0], [2.0, 4.0], [1.0, 2.0]),
        ([0.0, 0.0], [0.0, 0.0], [0.0, 0.0]),
        ([1.0, 2.0], [1.0, 2.0], [1.0, 2.0]),
    ],
)
def test_vectors_without_one_circle_go_straight(
    start: list[float], end: list[float], middle: list[float]
) -> None:
    found = slerp(torch.tensor(start), torch.tensor(end), torch.tensor([0.5]))
    torch.testing.assert_close(found, torch.tensor([middle]))


@pytest.mark.parametrize("prior", ["normal", "uniform"])
def test_a_loop_visits_every_stop_and_closes(prior: str) -> None:
    stops = drawn(prior, 5, 3, 100)
    path = loop(stops, 8, prior)
    assert path.shape == (40, 3, 100)
    assert torch.equal(path[::8], stops)
    assert torch.equal(path[:, 1], loop(stops[:, 1], 8, prior))  # walkers do not depend on others
    steps = (path.roll(-1, 0) - path).norm(dim=-1)  # the last one leads back to the first frame
    assert steps.max() < 2 * steps.min()


def test_uniform_walks_stay_in_the_cube_and_uniform() -> None:
    edge = torch.tensor([[-1.0, 0.5], [1.0, -0.2], [0.0, 0.0]])
    path = loop(edge, 4, "uniform")
    assert path.isfinite().all()
    assert torch.equal(path[::4], edge)
    stops = drawn("uniform", 6, 200, 100)
    circle = loop(stops, 2, "normal")[1::2]
    assert circle.abs().max() > 1  # why the prior matters
    halfway = loop(stops, 2, "uniform")[1::2]
    assert halfway.abs().max() <= 1
    counts = torch.histc(halfway, 10, -1, 1) / halfway.numel()
    torch.testing.assert_close(counts, torch.full((10,), 0.1), atol=0.01, rtol=0)
