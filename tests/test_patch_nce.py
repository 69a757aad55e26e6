"""The contrast of patches, patch by patch."""

from __future__ import annotations

import math

import pytest
import torch

from forger.patch_nce import patch_nce


def test_equals_an_explicit_loop() -> None:
    random = torch.Generator().manual_seed(0)
    queries, keys = (torch.randn(3, 5, 4, generator=random, dtype=torch.float64) for _ in range(2))
    losses = []
    for outputs, sources in zip(queries, keys, strict=True):
        for place, query in enumerate(outputs):
            likeness = [
                math.exp(float(query @ key / query.norm() / key.norm()) / 0.07) for key in sources
            ]
            losses.append(-math.log(likeness[place] / sum(likeness)))
    expected = sum(losses) / len(losses)
    assert patch_nce(queries, keys).item() == pytest.approx(expected, rel=1e-9)


def test_is_none_where_patches_are_told_apart_and_log_p_where_they_are_alike() -> None:
    apart = torch.eye(6)[None]
    assert patch_nce(7 * apart, apart).item() == pytest.approx(0, abs=1e-5)
    assert patch_nce(torch.ones(2, 6, 3), torch.ones(2, 6, 3)).item() == pytest.approx(math.log(6))
