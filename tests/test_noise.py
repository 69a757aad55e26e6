"""Noise as a function of (seed, iteration, place in the global batch)."""

from __future__ import annotations

import pytest
import torch

from forger.noise import NoiseSource


def drawn(source: NoiseSource, iteration: int, batch: int = 6) -> torch.Tensor:
    source.start(iteration)
    return source.prior(batch, 5)


def test_depends_on_seed_and_iteration_alone() -> None:
    one, same = NoiseSource("normal", seed=3), NoiseSource("normal", seed=3)
    first = drawn(one, 1)
    assert not torch.equal(one.prior(6, 5), first)  # fresh within an iteration
    torch.manual_seed(7)
    state = torch.get_rng_state()
    assert torch.equal(drawn(one, 2), drawn(same, 2))
    assert torch.equal(state, torch.get_rng_state())
    assert not torch.equal(drawn(one, 1), drawn(one, 2))
    assert not torch.equal(drawn(one, 1), drawn(NoiseSource("normal", seed=4), 1))


def test_processes_share_one_global_batch() -> None:
    whole = drawn(NoiseSource("normal", seed=0), 9, batch=6)
    shares = [drawn(NoiseSource("normal", 0, rank, 2), 9, batch=3) for rank in (0, 1)]
    assert torch.equal(torch.stack(shares, 1).flatten(0, 1), whole)


@pytest.mark.parametrize(("prior", "low", "high"), [("normal", -6, 6), ("uniform", -1, 1)])
def test_priors_have_their_moments(prior, low: float, high: float) -> None:
    values = drawn(NoiseSource(prior, seed=0), 1, batch=20_000)
    assert low <= values.min() <= values.max() <= high
    assert values.mean().item() == pytest.approx(0, abs=0.02)
    spread = {"normal": 1.0, "uniform": (1 / 3) ** 0.5}[prior]
    assert values.std().item() == pytest.approx(spread, abs=0.02)
    uniform = NoiseSource(prior, seed=0).uniform(20_000, 1, 1)  # for penalties
    assert uniform.shape == (20_000, 1, 1)
    assert 0 <= uniform.min() <= uniform.max() < 1
