"""LeCam's term and its anchors by hand."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from forger.lecam import LeCam


def logits(*values: float) -> Tensor:
    return torch.tensor(values)


def test_the_term_and_the_anchors_by_hand() -> None:
    lecam = LeCam(weight=0.5, decay=0.75, start=2)
    assert lecam.terms(logits(3.0, 5.0), logits(-1.0, -3.0), 1) == {}
    lecam.adapt()  # anchors 4 and -2
    assert lecam.terms(logits(8.0, 8.0), logits(2.0, 2.0), 2) == {}
    lecam.adapt()  # a quarter of the way: 5 and -1
    real = logits(1.0, -2.0).requires_grad_()
    term = lecam.terms(real, logits(4.0, 7.0), 3)["lecam"]
    assert term.item() == pytest.approx(0.5 * ((2**2 + 0) / 2 + (1**2 + 0) / 2))
    (slope,) = torch.autograd.grad(term, real)
    assert slope.tolist() == pytest.approx([0.5 * 2, 0])
    assert not lecam.anchors.requires_grad
    assert lecam.anchors.tolist() == [5, -1]


def test_all_batches_of_an_update_count_and_maps_too() -> None:
    lecam = LeCam(weight=1.0, decay=0.9, start=0)
    lecam.terms(torch.full((2, 3), 1.0), logits(0.0), 1)
    lecam.terms(logits(3.0), torch.full((2, 3), 2.0), 1)
    lecam.adapt()
    assert lecam.anchors.tolist() == [2, 1]


def test_anchors_stay_wide_and_move_in_16_bits() -> None:
    lecam = LeCam(weight=1.0, decay=0.999, start=0).bfloat16()
    assert lecam.anchors.dtype == torch.float32
    assert lecam.double().anchors.dtype == torch.float64
    lecam = LeCam(weight=1.0, decay=0.999, start=0).bfloat16()
    for update in range(1, 4):
        lecam.terms(logits(1.0 if update == 1 else 2.0), logits(0.0), update)
        lecam.adapt()
    assert lecam.anchors[0].item() == pytest.approx(1.001999, abs=1e-6)
