"""Modes that are reached, by hand, and the classifier of channels that are looked at one by one."""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from labelled_bars import Bars
from torch import Tensor

from forger.metrics import classifier
from forger.metrics.classifier import Classifier, combined_logits
from forger.metrics.classifier_training import Recipe
from forger.metrics.evaluator import Evaluator
from forger.metrics.extractor import Features
from forger.metrics.fidelity import Reference, fidelity_scores, mode_scores
from forger.metrics.settings import ScoreSettings, usual_count

SETTINGS = ScoreSettings(precision_k=3, coverage_k=3, kid_subsets=5, kid_subset_size=50, splits=2)


class Pairs(Bars):
    """Two bars, one in each channel: nine classes."""

    native_shape = (2, 12, 12)
    classes = tuple(f"{first}{second}" for first in Bars.classes for second in Bars.classes)
    num_fake = 60

    @property
    def channels_from(self) -> Bars:
        return Bars(min_accuracy=0.5)

    def read(self, split: str) -> dict[str, Tensor]:
        bars = super().read(split)
        images, labels = bars["image"], bars["label"]
        order = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))
        both = torch.cat([images, images[order]], 1)
        return {"image": both, "label": 3 * labels + labels[order]}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> tuple[Classifier, Pairs, Path]:
    """A classifier of the pairs, which has learnt what bars are."""
    data, cache_dir, extractor = Pairs(), tmp_path_factory.mktemp("cache"), Classifier()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(classifier, "RECIPE", Recipe(batch_size=30, least_updates=60))
        assert extractor.to_do(data, cache_dir) is not None
        assert extractor.num_features == 2 * 128  # known before anything is trained
        extractor.prepare(data, cache_dir)
        assert Classifier().to_do(Bars(min_accuracy=0.5), cache_dir) is None  # it is that of bars
    return extractor, data, cache_dir


@pytest.mark.parametrize(
    ("counts", "reached", "divergence"),
    [
        ([5, 5, 5, 5], 4, 0.0),
        ([8, 4, 4, 0], 3, 0.5 * math.log(2)),  # p ln 4p: 1/2 ln 2 + 2 (1/4 ln 1)
        ([0, 0, 7, 0], 1, math.log(4)),
        ([97, 1, 1, 1], 4, 0.97 * math.log(3.88) + 0.03 * math.log(0.04)),
    ],
)
def test_modes_by_hand(counts: list[int], reached: int, divergence: float) -> None:
    found = mode_scores(torch.tensor(counts))
    assert found == {"modes_reached": reached, "kl_to_uniform": pytest.approx(divergence)}


def test_equal_modes_leave_the_divergence_that_is_expected_of_so_many_images() -> None:
    drawn = torch.randint(1000, (25_600,), generator=torch.Generator().manual_seed(0))
    found = mode_scores(torch.bincount(drawn, minlength=1000))
    assert found["modes_reached"] == 1000
    assert found["kl_to_uniform"] == pytest.approx(999 / 51_200, rel=0.1)


def test_modes_are_scored_where_the_classes_are_modes_alone() -> None:
    labels = torch.tensor([0, 0, 1, 1, 2, 2, 2, 2])
    logits = torch.nn.functional.one_hot(labels, 4).float()
    seen = Features(torch.randn(8, 4, generator=torch.Generator().manual_seed(0)), logits)
    for counts_modes in (True, False):
        extractor: Any = SimpleNamespace(
            prefix="", score_name=None, classes=tuple("abcd"), counts_modes=counts_modes
        )
        scores, _ = fidelity_scores(Reference(SETTINGS, [seen]), [seen], 8, extractor)
        assert ("modes_reached" in scores) == counts_modes
        if counts_modes:
            assert scores["modes_reached"] == 3
            assert scores["kl_to_uniform"] == pytest.approx(0.5 * math.log(2))


def test_combined_logits_are_those_of_independent_channels() -> None:
    logits = torch.randn(5, 3, 4, generator=torch.Generator().manual_seed(0))
    first, second, third = logits.softmax(2).unbind(1)
    product = torch.einsum("bi,bj,bk->bijk", first, second, third).flatten(1)
    torch.testing.assert_close(combined_logits(logits).softmax(1), product)


def test_each_channel_is_seen_as_the_classifier_of_bars_sees_it(
    prepared: tuple[Classifier, Pairs, Path],
) -> None:
    extractor, data, _ = prepared
    assert extractor.counts_modes
    assert extractor.classes == data.classes
    images, labels = data.test_images, data.test_labels
    assert labels is not None
    seen = extractor(images)
    assert (seen.features.shape, seen.logits.shape) == ((30, 256), (30, 9))
    assert extractor.network is not None
    for channel, label in enumerate((labels // 3, labels % 3)):
        alone = extractor.network(images[:, channel : channel + 1])
        own = slice(128 * channel, 128 * (channel + 1))
        torch.testing.assert_close(seen.features[:, own], alone.features)
        assert (alone.logits.argmax(1) == label).float().mean() > 0.8
    assert (seen.logits.argmax(1) == labels).float().mean() > 0.7


def test_the_floor_counts_modes_in_test_images(
    prepared: tuple[Classifier, Pairs, Path],
) -> None:
    extractor, data, cache_dir = prepared
    cpu = torch.device("cpu")
    evaluator = Evaluator(extractor, data, SETTINGS, cache_dir=cache_dir, device=cpu)
    num_fake = usual_count(data, "test")
    assert num_fake == 60
    assert (evaluator.floor_count(num_fake), evaluator.test_count(num_fake)) == (60, 30)
    counts = torch.bincount(extractor(data.test_images).logits.argmax(1), minlength=9)
    floor = evaluator.evaluate_floor(num_fake).scores
    assert {name: floor[name] for name in mode_scores(counts)} == mode_scores(counts)
