"""What training draws, as a function of (seed, purpose, iteration, place in the global batch)."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from forger.noise import PRIORS, Draws, normal
from forger.seeds import Purpose


def drawn(draws: Draws, iteration: int, batch: int = 6, prior: Any = normal) -> torch.Tensor:
    draws.start(iteration)
    return draws.rows(Purpose.TRAINING_NOISE, prior, batch, 5)


def test_depends_on_seed_purpose_and_iteration_alone() -> None:
    one, same = Draws(seed=3), Draws(seed=3)
    first = drawn(one, 1)
    again = one.rows(Purpose.TRAINING_NOISE, normal, 6, 5)
    assert not torch.equal(again, first)  # fresh within an iteration
    torch.manual_seed(7)
    state = torch.get_rng_state()
    same.start(2)
    other = same.rows(Purpose.OWN_TASK, normal, 6, 5)  # moves no other purpose's numbers
    expected = drawn(one, 2)
    assert torch.equal(same.rows(Purpose.TRAINING_NOISE, normal, 6, 5), expected)
    assert not torch.equal(other, expected)
    assert torch.equal(state, torch.get_rng_state())
    assert not torch.equal(drawn(one, 1), drawn(one, 2))
    assert not torch.equal(drawn(one, 1), drawn(Draws(seed=4), 1))


def test_processes_share_one_global_batch() -> None:
    whole = drawn(Draws(seed=0), 9, batch=6)
    shares = [drawn(Draws(0, rank, 2), 9, batch=3) for rank in (0, 1)]
    assert torch.equal(torch.stack(shares, 1).flatten(0, 1), whole)


@pytest.mark.parametrize(("prior", "low", "high"), [("normal", -6, 6), ("uniform", -1, 1)])
def test_priors_have_their_moments(prior: str, low: float, high: float) -> None:
    values = drawn(Draws(seed=0), 1, batch=20_000, prior=PRIORS[prior])
    assert low <= values.min() <= values.max() <= high
    assert values.mean().item() == pytest.approx(0, abs=0.02)
    spread = {"normal": 1.0, "uniform": (1 / 3) ** 0.5}[prior]
    assert values.std().item() == pytest.approx(spread, abs=0.02)
    uniform = Draws(seed=0).uniform(20_000, 1, 1)  # for penalties
    assert uniform.shape == (20_000, 1, 1)
    assert 0 <= uniform.min() <= uniform.max() < 1
