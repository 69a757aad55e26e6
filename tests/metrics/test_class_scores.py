"""The streamed Inception score against its formula and torch-fidelity's; classes by hand."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import Tensor

from forger.metrics.class_scores import (
    InceptionScore,
    class_counts,
    class_entropy,
    class_shares,
    classes_reached,
)


def random_logits(count: int, classes: int = 10) -> Tensor:
    return 3 * torch.randn(count, classes, generator=torch.Generator().manual_seed(0))


def score(logits: Tensor, splits: int, batch: int = 64) -> tuple[float, float]:
    streamed = InceptionScore(len(logits), splits)
    for part in logits.split(batch):
        streamed.update(part)
    return streamed.compute()


def naive(logits: Tensor, splits: int) -> tuple[float, float]:
    p = np.exp(logits.double().numpy())
    p /= p.sum(1, keepdims=True)
    bounds = [i * len(p) // splits for i in range(splits + 1)]
    values = []
    for begin, end in pairwise(bounds):
        part = p[begin:end]
        values.append(np.exp((part * np.log(part / part.mean(0))).sum(1).mean()))
    return float(np.mean(values)), float(np.std(values))


@pytest.mark.parametrize(
    ("count", "splits", "batch"),
    [(500, 10, 64), (503, 10, 1), (7, 7, 3), (50, 1, 40), (23, 4, 1000)],
)
def test_against_the_formula(count: int, splits: int, batch: int) -> None:
    """Batches may cross splits."""
    logits = random_logits(count)
    assert score(logits, splits, batch) == pytest.approx(naive(logits, splits), rel=1e-12)


def test_as_torch_fidelity() -> None:
    isc = pytest.importorskip("torch_fidelity.metric_isc")
    logits = random_logits(503)
    theirs = isc.isc_features_to_metric(logits, splits=10, shuffle=False)
    assert score(logits, 10) == pytest.approx(tuple(theirs.values()), rel=1e-12)


def test_certainty_about_all_classes_and_about_none() -> None:
    """Also where a probability underflows to 0, whose logarithm is not finite."""
    logits = 1e5 * torch.eye(10).repeat(20, 1)
    assert score(logits, 2) == pytest.approx((10, 0), abs=1e-12)
    assert score(random_logits(1).repeat(100, 1), 4) == pytest.approx((1, 0), abs=1e-12)


def test_images_count_for_their_largest_logit() -> None:
    logits = torch.tensor([[0.1, -3, 0, -9], [2, 1, 9, 0], [5, 4, 4.9, 0], [1, 0, 0, 0]])
    counts = class_counts(logits)
    assert counts.tolist() == [3, 0, 1, 0]
    assert class_shares(counts).tolist() == [0.75, 0, 0.25, 0]


@pytest.mark.parametrize(
    ("counts", "nats"),
    [([7] * 10, math.log(10)), ([0, 5], 0.0), ([1, 3], math.log(4) - 0.75 * math.log(3))],
)
def test_entropy(counts: list[int], nats: float) -> None:
    assert class_entropy(torch.tensor(counts)) == pytest.approx(nats, abs=1e-15)


@pytest.mark.parametrize(
    ("counts", "reached"),
    [
        ([1000, 0, 0], 1),
        ([951, 30, 19], 2),
        ([950, 30, 20], 3),  # both exactly a tenth
        ([95, 3, 2], 3),  # whatever the count
    ],
)
def test_a_class_is_reached_from_a_tenth_of_its_share_on(counts: list[int], reached: int) -> None:
    assert classes_reached(torch.tensor(counts), torch.tensor([500, 300, 200])) == reached
    lacking = torch.tensor([*counts, 500]), torch.tensor([500, 300, 200, 0])
    assert classes_reached(*lacking) <= reached  # what the reference lacks does not count
