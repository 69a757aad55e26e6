"""What extractors have in common: plain float32, hashes of weights; and pixels, the simplest."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import Squares
from projection import Projection
from torch import Tensor

from forger.metrics.extractor import Features, float32_only, weights_hash
from forger.metrics.pixels import Pixels

CPU = torch.device("cpu")


def test_switches_are_restored_after_an_error() -> None:
    cudnn = torch.backends.cudnn

    def switches() -> tuple[Any, ...]:
        own = cudnn.allow_tf32, cudnn.benchmark, cudnn.deterministic
        return (*own, torch.get_default_dtype(), torch.get_float32_matmul_precision())

    default, inside = torch.get_float32_matmul_precision(), None
    torch.set_float32_matmul_precision("medium")
    before = switches()
    try:
        with contextlib.suppress(RuntimeError), float32_only(CPU):
            inside = switches()
            raise RuntimeError
        assert inside == (False, False, True, torch.float32, "highest")
        assert switches() == before
    finally:
        torch.set_float32_matmul_precision(default)


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


def test_the_hash_of_weights_is_of_values() -> None:
    weights = {"b": torch.randn(2, 3, 4, 4), "a": torch.tensor(3)}
    first = weights_hash(weights, "net", 1)
    strided = {name: tensor.clone() for name, tensor in reversed(weights.items())}
    strided["b"] = strided["b"].to(memory_format=torch.channels_last)
    assert weights_hash(strided, "net", 1) == first
    assert weights_hash(weights, "net", 2) != first
    strided["b"][0, 0, 0, 0] *= 1 + 1e-6
    assert weights_hash(strided, "net", 1) != first


class Own(Projection):
    """With weights, a dropout and a product that autocast would round."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Sequential(torch.nn.Linear(16, 8), torch.nn.Dropout(0.5))

    def forward(self, images: Tensor) -> Features:
        found = self.layer(images.flatten(1).float())
        return Features(found, found)


def test_any_extractor_sees_in_float32_and_eval_mode_without_gradients() -> None:
    extractor, images = Own(), torch.randint(0, 256, (3, 1, 4, 4), dtype=torch.uint8)
    expected = extractor(images)
    extractor.train()
    with torch.enable_grad(), torch.autocast("cpu", torch.bfloat16):
        found = extractor(images)
    for a, b in zip(found, expected, strict=True):
        assert torch.equal(a, b)
        assert not a.requires_grad
    with pytest.raises(ValueError, match="must be uint8"):
        extractor(images.float())


@pytest.mark.parametrize("shape", [(5, 3, 32, 64), (5, 1, 8, 12)])
def test_features_of_pixels_are_means_of_areas(shape: tuple[int, ...], tmp_path: Path) -> None:
    data = Squares()
    images = torch.randint(0, 256, shape, dtype=torch.uint8)
    data._splits["train"] = {"image": images}
    extractor = Pixels()
    extractor.prepare(data, tmp_path)
    features = extractor(images).features
    rows, columns = min(shape[2], 16), min(shape[3], 16)
    areas = images.double().view(5, shape[1], rows, shape[2] // rows, columns, -1)
    expected = areas.mean(dim=(3, 5)).flatten(1) / 127.5 - 1
    assert features.shape == (5, extractor.num_features)
    torch.testing.assert_close(features.double(), expected, rtol=1e-6, atol=1e-6)
