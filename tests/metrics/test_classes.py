"""Classes of images against counts done by hand."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn.functional import one_hot

from forger.metrics.classes import class_counts, class_entropy, class_shares, classes_reached


def test_images_count_for_their_largest_logit() -> None:
    logits = torch.tensor([[0.1, -3.0, 0.0], [2.0, 1.0, 9.0], [5.0, 4.0, 4.9]])
    assert class_counts(logits).tolist() == [2, 0, 1]


def test_a_class_that_no_image_shows_is_counted_too() -> None:
    assert class_counts(one_hot(torch.tensor([1, 1]), 4).float()).tolist() == [0, 2, 0, 0]


def test_shares_sum_to_one() -> None:
    assert class_shares(torch.tensor([1, 0, 3])).tolist() == [0.25, 0.0, 0.75]


@pytest.mark.parametrize(
    ("counts", "nats"),
    [
        ([7] * 10, math.log(10)),
        ([0, 5, 0], 0.0),
        ([1, 3], math.log(4) - 0.75 * math.log(3)),
    ],
)
def test_entropy(counts, nats) -> None:
    assert class_entropy(torch.tensor(counts)) == pytest.approx(nats, abs=1e-15)


def test_a_class_is_reached_from_a_tenth_of_its_share_in_the_reference_on() -> None:
    reference = torch.tensor([500, 300, 200])
    assert classes_reached(torch.tensor([1000, 0, 0]), reference) == 1
    assert classes_reached(torch.tensor([951, 30, 19]), reference) == 2
    assert classes_reached(torch.tensor([950, 30, 20]), reference) == 3  # both exactly a tenth
    assert classes_reached(torch.tensor([95, 3, 2]), reference) == 3  # whatever the count


def test_a_class_that_the_reference_lacks_does_not_count() -> None:
    assert classes_reached(torch.tensor([5, 5, 0]), torch.tensor([10, 0, 0])) == 1
