"""Scores against a reference: closed forms, properties and memory."""

from __future__ import annotations

import io
import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm
from torch import Tensor

from forger.errors import ConfigError
from forger.metrics.extractor import Features
from forger.metrics.fidelity import FidelityScores, Reference, kernel_distance
from forger.metrics.settings import ScoreSettings

DIM = 16
SETTINGS = ScoreSettings(kid_subsets=20, kid_subset_size=200, neighbour_images=500)


def drawn(count: int, seed: int, dim: int = DIM, shift: float = 0.0) -> Features:
    """Correlated features that are not centred, as a network's are, and ten classes."""
    mixing = torch.randn(dim, dim, generator=torch.Generator().manual_seed(99))
    generator = torch.Generator().manual_seed(seed)
    features = (torch.randn(count, dim, generator=generator) @ mixing).relu() + shift
    return Features(features, 3 * torch.randn(count, 10, generator=generator))


def reference(images: Features, settings: ScoreSettings = SETTINGS, batch: int = 128) -> Reference:
    real = Reference(settings)
    for features, logits in zip(*(part.split(batch) for part in images), strict=True):
        real.update(Features(features, logits))
    return real


def extractor(has_classes: bool = False) -> Any:
    classes = tuple("abcdefghij") if has_classes else None
    return SimpleNamespace(prefix="", score_name="classifier_score", classes=classes)


def scored(
    real: Reference, images: Features, batch: int = 128, has_classes: bool = True
) -> FidelityScores:
    scores = FidelityScores(real, len(images.features), extractor(has_classes))
    for features, logits in zip(*(part.split(batch) for part in images), strict=True):
        scores.update(Features(features, logits))
    return scores


def frechet(real: Tensor, fake: Tensor) -> float:
    a, b = real.double().numpy(), fake.double().numpy()
    ca, cb = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    return float(((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(ca + cb - 2 * sqrtm(ca @ cb).real))


@pytest.mark.parametrize(("count", "dim"), [(600, 16), (100, 192)])
def test_a_set_against_itself(count, dim) -> None:
    """The second has fewer images than features: its covariance is singular."""
    images = drawn(count, 0, dim)
    scores = scored(reference(images), images).compute()
    trace = float(np.trace(np.cov(images.features.numpy(), rowvar=False)))
    assert 0 <= scores["fid"] < 1e-6 * trace
    assert (scores["precision"], scores["recall"], scores["coverage"]) == (1, 1, 1)


@pytest.mark.parametrize("kept", [10, 500])
def test_fid_is_the_distance_of_the_moments_of_all_images(kept: int) -> None:
    real, fake = drawn(700, 0), drawn(400, 1, shift=0.3)
    settings = ScoreSettings(neighbour_images=kept, kid_subsets=1)
    found = scored(reference(real, settings), fake).compute()["fid"]
    assert found == pytest.approx(frechet(real.features, fake.features), rel=1e-9)


def test_worse_images_score_worse() -> None:
    real = reference(drawn(500, 0))
    scores = [scored(real, drawn(500, 1, shift=shift)).compute() for shift in (0.0, 1.0, 2.0)]
    for key, sign in {"fid": 1, "kid": 1, "precision": -1, "coverage": -1}.items():
        assert sign * scores[0][key] < sign * scores[1][key] < sign * scores[2][key], key


def test_kid_of_one_distribution_is_zero_on_average() -> None:
    values = [
        kernel_distance(
            torch.randn(100, DIM), torch.randn(150, DIM), subsets=5, subset_size=50, seed=seed
        )[0]
        for seed in range(60)
    ]
    assert np.mean(values) == pytest.approx(0, abs=4 * np.std(values) / math.sqrt(60))
    assert min(values) < 0  # unbiased: it may not be clamped


def test_kid_by_hand_on_one_subset() -> None:
    """Subsets as large as the sets are the sets: mean over pairs of the cubic kernel."""
    real, fake = drawn(30, 0).features.double(), drawn(30, 1, shift=0.4).features.double()
    xx, yy, xy = ((a @ b.T / DIM + 1) ** 3 for a, b in ((real, real), (fake, fake), (real, fake)))
    within = sum((k.sum() - k.trace()) / (30 * 29) for k in (xx, yy))
    mean, deviation = kernel_distance(real, fake, subsets=3, subset_size=1000, seed=0)
    assert mean == pytest.approx((within - 2 * xy.mean()).item(), rel=1e-9)
    assert deviation == pytest.approx(0, abs=1e-9)


def test_kid_depends_on_its_seed_alone_and_leaves_the_global_stream() -> None:
    real, fake = drawn(300, 0), drawn(300, 1)
    found = []
    for seed in (0, 1234):
        torch.manual_seed(seed)
        before = torch.get_rng_state()
        found.append(scored(reference(real), fake).compute())
        assert torch.equal(torch.get_rng_state(), before)
    assert found[0] == found[1]
    other = reference(real, ScoreSettings(kid_subsets=20, kid_subset_size=200, seed=1))
    assert scored(other, fake).compute()["kid"] != found[0]["kid"]


def test_one_reference_serves_many_and_stays_as_it_is() -> None:
    real, floor, fake = reference(drawn(400, 0)), drawn(400, 1), drawn(300, 2, shift=0.2)
    first = scored(real, fake).compute()
    scored(real, floor).compute()
    again = scored(real, fake).compute()
    assert first == again == scored(reference(drawn(400, 0)), fake).compute()


def test_the_keys() -> None:
    real, fake = reference(drawn(200, 0)), drawn(200, 1)
    common = ["fid", "kid", "kid_std", "precision", "recall", "density", "coverage"]
    common += ["classifier_score", "classifier_score_std"]
    scores = scored(real, fake).compute()
    assert list(scores) == [*common, "class_entropy", "classes_reached"]
    assert all(type(value) is float for value in scores.values())
    assert list(scored(real, fake, has_classes=False).compute()) == common


def test_mode_collapse_in_classes() -> None:
    real, fake = drawn(400, 0), drawn(400, 1)
    fake.logits[:, :7] -= 100
    scores = scored(reference(real), fake)
    values = scores.compute()
    assert values["classes_reached"] == 3
    assert values["class_entropy"] < math.log(3)
    assert scores.class_shares is not None
    assert scores.class_shares[:7] == [0] * 7
    assert sum(scores.class_shares) == pytest.approx(1)
    assert scored(reference(real), fake, has_classes=False).class_shares is None


def held(real: Reference, scores: FidelityScores) -> int:
    """Bytes of all that both refer to; a tensor counts with the whole memory it is a view of."""
    buffer = io.BytesIO()
    torch.save((real, scores), buffer)
    return buffer.tell()


def test_memory_does_not_grow_with_the_number_of_images() -> None:
    sizes = []
    for count in (10_000, 50_000):
        real, fake = reference(drawn(count, 0), batch=900), drawn(count, 1)
        scores = scored(real, fake, batch=900)
        scores.compute()
        sizes.append(held(real, scores))
    kept = 2 * SETTINGS.neighbour_images * DIM * 4
    assert sizes[1] == pytest.approx(sizes[0], abs=64)
    assert sizes[0] > kept


@pytest.mark.parametrize(("real", "fake"), [(5, 100), (100, 3), (0, 100), (100, 0)])
def test_too_few_images_for_k(real, fake) -> None:
    known = reference(drawn(real, 0)) if real else Reference(SETTINGS)
    name = "coverage_k=5" if real == 5 else "precision_k=3"
    text = rf"^metrics\.{name}: must be below the number of .*, {min(real, fake)}(; write|$)"
    with pytest.raises(ConfigError, match=text):
        FidelityScores(known, fake, extractor())
