"""Our scores and torch-fidelity's, of the same images through the same Inception network."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from inception_weights import random_inception_weights
from labelled_bars import Bars
from torch import Tensor
from torch.utils.data import Dataset

from forger.metrics.extractor import Features
from forger.metrics.fidelity import Reference, fidelity_scores
from forger.metrics.inception import Inception
from forger.metrics.settings import ScoreSettings

COUNT = 500
SETTINGS = ScoreSettings(kid_subset_size=COUNT // 2, neighbour_images=COUNT)


class Images(Dataset):
    def __init__(self, images: Tensor) -> None:
        self.images = images

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Tensor:
        return self.images[index]


def structured(seed: int, contrast: float) -> Tensor:
    """Random images with detail at several scales, each in its own strength, uint8."""
    generator = torch.Generator().manual_seed(seed)
    images = torch.zeros(COUNT, 3, 32, 32)
    for size in (1, 2, 4, 8, 16, 32):
        strength = 2 * torch.rand(COUNT, 1, 1, 1, generator=generator) ** 2
        detail = strength * torch.randn(COUNT, 3, size, size, generator=generator)
        images += torch.nn.functional.interpolate(detail, size=32, mode="bilinear")
    return images.mul(contrast * 50).add(128).clamp(0, 255).to(torch.uint8)


def random_weights(path: Path) -> Path:
    """Saves seeded weights; random deep networks see little difference between images."""
    weights = torch.load(random_inception_weights(path), weights_only=True)
    weights["fc.weight"] *= 20
    torch.save(weights, path)
    return path


@pytest.mark.slow
def test_same_scores_as_torch_fidelity(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch_fidelity = pytest.importorskip("torch_fidelity")
    weights = random_weights(tmp_path / "weights.pth")
    fakes, reals = structured(0, contrast=0.8), structured(1, contrast=1.0)
    seen = recorded(monkeypatch)
    theirs = torch_fidelity.calculate_metrics(
        input1=Images(fakes),
        input2=Images(reals),
        feature_extractor="inception-v3-compat",
        feature_extractor_weights_path=str(weights),
        **{f"feature_layer_{score}": "192" for score in ("fid", "kid", "prc")},
        **dict.fromkeys(("fid", "kid", "isc", "prc"), True),
        **dict.fromkeys(("cuda", "cache", "verbose"), False),
        save_cpu_ram=True,
        kid_subsets=SETTINGS.kid_subsets,
        kid_subset_size=SETTINGS.kid_subset_size,
        isc_splits=SETTINGS.splits,
        prc_neighborhood=SETTINGS.precision_k,
    )
    of_fakes, of_reals = (
        Features(*(torch.cat(part)[rows] for part in zip(*seen, strict=True)))
        for rows in (slice(COUNT), slice(COUNT, None))
    )
    extractor = Inception(weights=weights, layer="192")
    extractor.prepare(Bars(), tmp_path)
    for found, expected in zip(extractor(reals[-8:]), of_reals, strict=True):
        torch.testing.assert_close(found, expected[-8:], rtol=1e-4, atol=1e-5)

    ours, _ = fidelity_scores(Reference(SETTINGS, [of_reals]), [of_fakes], COUNT, extractor)
    ours = {name.removeprefix(extractor.prefix): value for name, value in ours.items()}
    assert ours["fid"] == pytest.approx(theirs["frechet_inception_distance"], rel=1e-3)
    kid, kid_std = (theirs[f"kernel_inception_distance_{key}"] for key in ("mean", "std"))
    assert ours["kid"] == pytest.approx(kid, abs=3 * kid_std / math.sqrt(SETTINGS.kid_subsets))
    assert ours["kid_std"] == pytest.approx(kid_std, rel=0.3)
    score, score_std = (theirs[f"inception_score_{key}"] for key in ("mean", "std"))
    assert score > 1.05  # the comparison means something
    within = score_std / math.sqrt(SETTINGS.splits)
    assert ours["inception_score"] == pytest.approx(score, abs=within)
    for key in ("precision", "recall"):
        assert 0 < ours[key] < 1
        assert ours[key] == pytest.approx(theirs[key], abs=1e-6), key


def recorded(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Tensor, Tensor]]:
    """Returns a list that fills with the features and logits that torch-fidelity computes."""
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3 as Network

    seen: list[tuple[Tensor, Tensor]] = []
    forward = Network.forward

    def watched(self: Any, images: Tensor) -> tuple[Tensor, ...]:
        outputs = forward(self, images)
        by_name = dict(zip(self.features_list, outputs, strict=True))
        seen.append((by_name["192"], by_name["logits_unbiased"]))
        return outputs

    monkeypatch.setattr(Network, "forward", watched)
    return seen
