"""The streamed Inception score against its formula and torch-fidelity's."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import Tensor

from forger.errors import ConfigError
from forger.metrics.inception_score import InceptionScore


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


@pytest.mark.parametrize(("count", "splits"), [(500, 10), (503, 10), (7, 7), (50, 1), (23, 4)])
def test_against_the_formula(count, splits) -> None:
    logits = random_logits(count)
    assert score(logits, splits) == pytest.approx(naive(logits, splits), rel=1e-12)


@pytest.mark.parametrize("batch", [1, 3, 40, 1000])
def test_batches_may_cross_splits(batch) -> None:
    logits = random_logits(103)
    assert score(logits, 10, batch) == pytest.approx(naive(logits, 10), rel=1e-12)


def test_as_torch_fidelity() -> None:
    isc = pytest.importorskip("torch_fidelity.metric_isc")
    logits = random_logits(503)
    theirs = isc.isc_features_to_metric(logits, splits=10, shuffle=False)
    assert score(logits, 10) == pytest.approx(tuple(theirs.values()), rel=1e-12)


def test_all_classes_with_certainty_score_their_number() -> None:
    """Also where a probability underflows to 0, whose logarithm is not finite."""
    logits = 1e5 * torch.eye(10).repeat(20, 1)
    assert score(logits, 2) == pytest.approx((10, 0), abs=1e-12)


def test_the_same_answer_to_all_images_scores_one() -> None:
    assert score(random_logits(1).repeat(100, 1), 4) == pytest.approx((1, 0), abs=1e-12)


def test_more_splits_than_images() -> None:
    with pytest.raises(ConfigError, match=r"^metrics\.splits=10: must be at most .* to score, 9$"):
        InceptionScore(9, 10)
