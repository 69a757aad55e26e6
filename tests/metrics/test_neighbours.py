"""Scores by nearest neighbours against the papers' formulas, written naively."""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from forger.metrics import neighbours
from forger.metrics.neighbours import Balls, nearest, neighbour_scores


def scores_of(real: Tensor, k: int, fake: Tensor) -> dict[str, float]:
    return neighbour_scores(Balls(real, k), fake, precision_k=k, coverage_k=k)


def normal(count: int, dim: int = 6, seed: int = 0) -> Tensor:
    return torch.randn(count, dim, generator=torch.Generator().manual_seed(seed))


def naive(real: np.ndarray, fake: np.ndarray, k: int) -> dict[str, float]:
    def distance(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return np.sqrt(((a[:, None] - b[None]) ** 2).sum(-1))

    def radii(points: np.ndarray) -> list[float]:
        return [np.sort(np.delete(row, i))[k - 1] for i, row in enumerate(distance(points, points))]

    between = distance(fake, real)
    in_real = between <= np.array(radii(real))[None, :]
    in_fake = between <= np.array(radii(fake))[:, None]
    return {
        "precision": in_real.any(1).mean(),
        "recall": in_fake.any(0).mean(),
        "density": in_real.sum() / (k * len(fake)),
        "coverage": in_real.any(0).mean(),
    }


@pytest.mark.parametrize("k", [1, 3, 5, 20])
@pytest.mark.parametrize("offset", [0.0, 1000.0])
def test_against_the_formulas(k: int, offset: float) -> None:
    """Far from the origin too, where distances from products of float32 features are noise."""
    real = normal(150) + offset
    fake = (0.6 * normal(130, seed=1) + 0.5) + offset
    expected = naive(real.double().numpy(), fake.double().numpy(), k)
    assert 0 < expected["recall"] < 1
    assert scores_of(real, k, fake) == pytest.approx(expected, abs=1e-12)


def test_precision_and_coverage_have_a_k_of_their_own() -> None:
    real, fake = normal(150), 0.6 * normal(130, seed=1) + 0.5
    found = neighbour_scores(Balls(real, 3, 5), fake, precision_k=3, coverage_k=5)
    three, five = (naive(real.double().numpy(), fake.double().numpy(), k) for k in (3, 5))
    expected = {name: three[name] for name in ("precision", "recall")}
    expected |= {name: five[name] for name in ("density", "coverage")}
    assert found == pytest.approx(expected, abs=1e-12)
    assert three["precision"] != five["precision"]


@pytest.mark.parametrize("k", [1, 5])
def test_a_set_against_itself(k: int) -> None:
    features = normal(300, 64) * 100 + 1000
    scores = scores_of(features, k, features[torch.randperm(300)])
    assert scores == {"precision": 1, "recall": 1, "density": (k + 1) / k, "coverage": 1}
    copies = features[:20].repeat(4, 1)  # balls without extent
    scores = scores_of(copies, 3, copies)
    assert (scores["precision"], scores["recall"], scores["coverage"]) == (1, 1, 1)


@pytest.mark.parametrize("block", [1, 700])
def test_no_more_than_a_block_of_distances_is_held(
    block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, fake, computed, cdist = normal(100), normal(90, seed=1), [], torch.cdist
    expected = scores_of(real, 5, fake)

    def watched(*args: Any, **kwargs: Any) -> Tensor:
        computed.append(cdist(*args, **kwargs).numel())
        return cdist(*args, **kwargs)

    monkeypatch.setattr(neighbours, "_BLOCK", block)
    monkeypatch.setattr(torch, "cdist", watched)
    assert scores_of(real, 5, fake) == expected
    assert max(computed) <= max(block, 100)  # at least a row


@pytest.mark.parametrize("batch", [1, 7, 1000])
def test_nearest_in_a_database_of_batches(batch: int) -> None:
    database, queries = normal(50), normal(4, seed=1)
    indices, found = nearest(queries, database.split(batch), k=3)
    distances = (queries[:, None] - database[None]).double().norm(dim=-1).sort(dim=1)
    assert indices.tolist() == distances.indices[:, :3].tolist()
    torch.testing.assert_close(found, distances.values[:, :3], rtol=1e-6, atol=0)


def test_copies_are_found_at_no_distance_the_first_first_and_no_batch_is_held() -> None:
    database = normal(10, seed=2).repeat(3, 1) + 1e4
    alive: list[int] = []

    def batches() -> Iterator[Tensor]:
        references: list[weakref.ref[Tensor]] = []
        for part in database.split(4):
            batch = part.clone()
            references.append(weakref.ref(batch))
            yield batch
            del batch
            alive.append(sum(reference() is not None for reference in references))

    indices, distances = nearest(database[[4, 7]], batches(), k=3)
    assert indices.tolist() == [[4, 14, 24], [7, 17, 27]]
    assert distances.eq(0).all()
    assert max(alive) <= 1  # the one at hand
