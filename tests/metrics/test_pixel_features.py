"""Pixels as features: no training, no labels, names of their own."""

from __future__ import annotations

from pathlib import Path

import torch
from helpers import Squares, make_gan

from forger.metrics.pixels import Pixels
from forger.metrics.scorer import Scorer
from forger.metrics.settings import ScoreSettings
from forger.sampling.sampler import Sampler


def prepared(images: torch.Tensor, folder: Path) -> Pixels:
    data = Squares()
    data._splits["train"] = images, None
    extractor = Pixels()
    extractor.prepare(data, folder)
    return extractor


def test_each_feature_is_the_mean_of_an_area(tmp_path: Path) -> None:
    images = torch.randint(0, 256, (5, 3, 32, 64), dtype=torch.uint8)
    extractor = prepared(images, tmp_path)
    features = extractor(images).features
    assert features.shape == (5, extractor.num_features) == (5, 3 * 16 * 16)
    first = images[:, 0, :2, :4].double().mean(dim=(1, 2)) / 127.5 - 1
    torch.testing.assert_close(features[:, 0].double(), first, rtol=1e-6, atol=1e-6)


def test_small_images_stay_as_they_are(tmp_path: Path) -> None:
    images = torch.randint(0, 256, (5, 1, 8, 12), dtype=torch.uint8)
    assert torch.equal(
        prepared(images, tmp_path)(images).features, images.flatten(1).float() / 127.5 - 1
    )


def test_scores_of_data_without_labels_have_names_of_their_own(tmp_path: Path) -> None:
    data, gan = Squares(batch_size=8), make_gan()
    assert data.train_labels is None
    extractor = Pixels()
    assert extractor.to_do(data, tmp_path) is None
    extractor.prepare(data, tmp_path)
    settings = ScoreSettings(kid_subsets=2, kid_subset_size=20)
    scorer = Scorer(extractor, data, settings, cache_dir=tmp_path, device=torch.device("cpu"))
    sampler = Sampler(gan.ema_generator.module, "normal")
    scored = scorer.score(sampler, gan.discriminator, num_fake=64)
    by_features = {name for name in scored.scores if not name.startswith("d_")}
    names = ("fid", "kid", "kid_std", "precision", "recall", "density", "coverage")
    assert by_features == {f"pixels_{name}" for name in names}
    assert scored.class_shares is None
    assert scored.fid > 2 * scorer.floor(64).fid
