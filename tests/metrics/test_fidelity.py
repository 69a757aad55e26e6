"""Scores against a reference: closed forms, properties, second implementations and memory."""

from __future__ import annotations

import math
import weakref
from collections.abc import Iterator
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm
from torch import Tensor

from forger.errors import ConfigError
from forger.metrics.extractor import Features
from forger.metrics.fidelity import (
    InceptionScore,
    Reference,
    classes_reached,
    fidelity_scores,
    kernel_distance,
)
from forger.metrics.settings import ScoreSettings

DIM = 16
SETTINGS = ScoreSettings(kid_subsets=20, kid_subset_size=200, neighbour_images=500)


def drawn(count: int, seed: int, dim: int = DIM, shift: float = 0.0) -> Features:
    """Correlated features that are not centred, as a network's are, and ten classes."""
    mixing = torch.randn(dim, dim, generator=torch.Generator().manual_seed(99))
    generator = torch.Generator().manual_seed(seed)
    features = (torch.randn(count, dim, generator=generator) @ mixing).relu() + shift
    return Features(features, 3 * torch.randn(count, 10, generator=generator))


def batches(images: Features, size: int = 128) -> Iterator[Features]:
    for features, logits in zip(*(part.split(size) for part in images), strict=True):
        yield Features(features, logits)


def reference(images: Features, settings: ScoreSettings = SETTINGS) -> Reference:
    return Reference(settings, batches(images))


def scored(real: Reference, images: Features) -> dict[str, float]:
    return shared(real, images)[0]


def shared(real: Reference, images: Features, has_classes: bool = True) -> Any:
    classes = tuple("abcdefghij") if has_classes else None
    extractor: Any = SimpleNamespace(
        prefix="", score_name="classifier_score", classes=classes, counts_modes=False
    )
    return fidelity_scores(real, batches(images), len(images.features), extractor)


def frechet(real: Tensor, fake: Tensor) -> float:
    a, b = real.double().numpy(), fake.double().numpy()
    ca, cb = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    return float(((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(ca + cb - 2 * sqrtm(ca @ cb).real))


@pytest.mark.parametrize(("count", "dim"), [(600, 16), (100, 192)])
def test_a_set_against_itself(count: int, dim: int) -> None:
    """The second has fewer images than features: its covariance is singular."""
    images = drawn(count, 0, dim)
    scores = scored(reference(images), images)
    trace = float(np.trace(np.cov(images.features.numpy(), rowvar=False)))
    assert 0 <= scores["fid"] < 1e-6 * trace
    assert (scores["precision"], scores["recall"], scores["coverage"]) == (1, 1, 1)


@pytest.mark.parametrize("kept", [10, 500])
def test_fid_is_the_distance_of_the_moments_of_all_images(kept: int) -> None:
    real, fake = drawn(700, 0), drawn(400, 1, shift=0.3)
    found = scored(reference(real, ScoreSettings(neighbour_images=kept, kid_subsets=1)), fake)
    assert found["fid"] == pytest.approx(frechet(real.features, fake.features), rel=1e-9)


def test_same_scores_as_torch_fidelity() -> None:
    """Subsets as large as the sets: the same images whatever is drawn."""
    pytest.importorskip("torch_fidelity.metric_prc")  # from 0.4 on
    from torch_fidelity import metric_fid, metric_isc, metric_kid, metric_prc

    real, fake = (
        Features(*(part.double() for part in drawn(400, seed, shift=0.3 * seed))) for seed in (0, 1)
    )
    settings = {"kid_subsets": 3, "kid_subset_size": 400, "verbose": False, "prc_neighborhood": 3}
    statistics = [metric_fid.fid_features_to_statistics(x.features) for x in (fake, real)]
    theirs = metric_fid.fid_statistics_to_metric(*statistics, verbose=False)
    theirs |= metric_kid.kid_features_to_metric(fake.features, real.features, **settings)
    theirs |= metric_isc.isc_features_to_metric(fake.logits, splits=10, shuffle=False)
    theirs |= metric_prc.prc_features_to_metric(
        fake.features, real.features, save_cpu_ram=False, **settings
    )
    ours = scored(reference(real, ScoreSettings(kid_subsets=3, kid_subset_size=400)), fake)
    names = {
        "fid": "frechet_inception_distance",
        "kid": "kernel_inception_distance_mean",
        "classifier_score": "inception_score_mean",
        "classifier_score_std": "inception_score_std",
        "precision": "precision",
        "recall": "recall",
    }
    for mine, other in names.items():
        assert ours[mine] == pytest.approx(theirs[other], rel=1e-6), mine
    assert 0 < ours["precision"] < 1
    assert 0 < ours["recall"] < 1


@pytest.mark.parametrize("shift", [0.0, 3.0])
def test_kid_by_hand_on_one_subset(shift: float) -> None:
    """Subsets as large as the sets are the sets: mean over pairs of the cubic kernel."""
    real, fake = drawn(30, 0).features.double(), drawn(30, 1, shift=shift).features.double()
    xx, yy, xy = ((a @ b.T / DIM + 1) ** 3 for a, b in ((real, real), (fake, fake), (real, fake)))
    within = sum((k.sum() - k.trace()) / (30 * 29) for k in (xx, yy))
    mean, deviation = kernel_distance(real, fake, ScoreSettings(kid_subsets=3))
    assert mean == pytest.approx((within - 2 * xy.mean()).item(), rel=1e-9)
    assert deviation == pytest.approx(0, abs=1e-9)
    assert (mean < 0) == (shift == 0)  # unbiased: it may not be clamped


def test_scores_depend_on_the_images_and_their_seed_alone() -> None:
    """One reference serves many, and the global stream is neither used nor moved."""
    images, fake = drawn(400, 0), drawn(300, 2, shift=0.2)
    real = reference(images)
    first = scored(real, fake)
    torch.manual_seed(1234)
    before = torch.get_rng_state()
    scored(real, drawn(400, 1))
    assert first == scored(real, fake) == scored(reference(images), fake)
    assert torch.equal(torch.get_rng_state(), before)
    other = reference(images, ScoreSettings(kid_subsets=20, kid_subset_size=200, seed=1))
    assert scored(other, fake)["kid"] != first["kid"]


def test_the_scores_have_names_and_see_mode_collapse_in_classes() -> None:
    real, fake = drawn(400, 0), drawn(400, 1)
    fake.logits[:, :7] -= 100
    common = ["fid", "kid", "kid_std", "precision", "recall", "density", "coverage"]
    common += ["classifier_score", "classifier_score_std"]
    values, shares = shared(reference(real), fake)
    assert list(values) == [*common, "class_entropy", "classes_reached"]
    assert all(type(value) is float for value in values.values())
    assert values["classes_reached"] == 3
    assert shares[:7] == [0] * 7
    assert sum(shares) == pytest.approx(1)
    nats = -sum(share * math.log(share) for share in shares if share)
    assert values["class_entropy"] == pytest.approx(nats, abs=1e-12)
    values, shares = shared(reference(real), fake, has_classes=False)
    assert (list(values), shares) == (common, None)


def test_no_batch_is_held_so_that_memory_does_not_grow() -> None:
    alive: list[int] = []

    def watched(count: int) -> Iterator[Features]:
        owners: list[Any] = []
        for seed in range(count):
            arrays = [part.numpy().copy() for part in drawn(100, seed)]
            owners += [weakref.ref(array) for array in arrays]
            batch = Features(*(torch.from_numpy(array) for array in arrays))
            del arrays
            yield batch
            del batch
            alive.append(sum(owner() is not None for owner in owners))

    extractor: Any = SimpleNamespace(prefix="", score_name="s", classes=None)
    real = Reference(SETTINGS, watched(20))
    fidelity_scores(real, watched(20), 2000, extractor)
    assert max(alive) <= 2  # features and logits of the batch at hand
    assert len(real.kept) == SETTINGS.neighbour_images


@pytest.mark.parametrize(("real", "fake"), [(5, 100), (100, 3), (100, 0)])
def test_too_few_images_for_k(real: int, fake: int) -> None:
    name = "coverage_k=5" if real == 5 else "precision_k=3"
    text = rf"^metrics\.{name}: must be below the number of .*, {min(real, fake)}(; write|$)"
    with pytest.raises(ConfigError, match=text):
        fidelity_scores(reference(drawn(real, 0)), [], fake, SimpleNamespace())  # type: ignore[arg-type]


def random_logits(count: int) -> Tensor:
    return 3 * torch.randn(count, 10, generator=torch.Generator().manual_seed(0))


def inception_score(logits: Tensor, splits: int, batch: int = 64) -> tuple[float, float]:
    streamed = InceptionScore(len(logits), splits)
    for part in logits.split(batch):
        streamed.update(part)
    return streamed.compute()


def naive(logits: Tensor, splits: int) -> tuple[float, float]:
    p = np.exp(logits.double().numpy())
    p /= p.sum(1, keepdims=True)
    bounds = [i * len(p) // splits for i in range(splits + 1)]
    parts = [p[begin:end] for begin, end in pairwise(bounds)]
    values = [np.exp((x * np.log(x / x.mean(0))).sum(1).mean()) for x in parts]
    return float(np.mean(values)), float(np.std(values))


@pytest.mark.parametrize(
    ("count", "splits", "batch"),
    [(500, 10, 64), (503, 10, 1), (7, 7, 3), (50, 1, 40), (23, 4, 1000)],
)
def test_inception_score_against_the_formula(count: int, splits: int, batch: int) -> None:
    """Batches may cross splits."""
    logits = random_logits(count)
    found = inception_score(logits, splits, batch)
    assert found == pytest.approx(naive(logits, splits), rel=1e-12)


def test_inception_score_of_certainty_about_all_classes_and_about_none() -> None:
    """Also where a probability underflows to 0, whose logarithm is not finite."""
    logits = 1e5 * torch.eye(10).repeat(20, 1)
    assert inception_score(logits, 2) == pytest.approx((10, 0), abs=1e-12)
    same = random_logits(1).repeat(100, 1)
    assert inception_score(same, 4) == pytest.approx((1, 0), abs=1e-12)


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
