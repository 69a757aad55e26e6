from __future__ import annotations

import contextlib
from typing import Any

import pytest
import torch

from forger.metrics.float32 import float32_only

CPU = torch.device("cpu")


def test_switches_are_restored_after_an_error() -> None:
    cudnn = torch.backends.cudnn
    before = (cudnn.allow_tf32, cudnn.benchmark, cudnn.deterministic, torch.get_default_dtype())
    inside = None
    with contextlib.suppress(RuntimeError), float32_only(CPU):
        inside = cudnn.allow_tf32
        raise RuntimeError
    assert inside is False
    after = (cudnn.allow_tf32, cudnn.benchmark, cudnn.deterministic, torch.get_default_dtype())
    assert after == before


def test_products_are_exact_under_medium_precision() -> None:
    left, right = torch.randn(64, 64), torch.randn(64, 64)
    exact = left @ right
    before = torch.get_float32_matmul_precision()
    try:
        torch.set_float32_matmul_precision("medium")
        with float32_only(CPU), torch.no_grad():
            assert torch.equal(left @ right, exact)
    finally:
        torch.set_float32_matmul_precision(before)


@pytest.mark.skipif(not hasattr(torch.backends, "fp32_precision"), reason="torch below 2.9")
def test_torchs_newer_switches_are_heeded_too() -> None:
    backends: Any = torch.backends
    before = backends.cuda.matmul.fp32_precision
    try:
        backends.cuda.matmul.fp32_precision = "tf32"
        with float32_only(CPU):
            assert backends.cuda.matmul.fp32_precision == "ieee"
        assert backends.cuda.matmul.fp32_precision == "tf32"
    finally:
        backends.cuda.matmul.fp32_precision = before
    torch.get_float32_matmul_precision()  # raises where the two kinds of switches disagree
