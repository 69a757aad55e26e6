from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import Squares, make_gan
from projection import Projection
from torch import Tensor

from forger.errors import ConfigError
from forger.metrics.scorer import Scorer
from forger.metrics.settings import ScoreSettings
from forger.sampler import Sampler

SETTINGS = ScoreSettings(k=3, kid_subsets=5, kid_subset_size=50, splits=2)
CPU = torch.device("cpu")


class Many(Squares):
    count = 600


class Same(Many):
    """Both splits hold the same images."""

    def read(self, split: str) -> tuple[Tensor, None]:
        return super().read("train")


def make_scorer(folder: Path, data: Squares | None = None, **arguments: Any) -> Scorer:
    data = data or Many(batch_size=8)
    extractor = Projection()
    extractor.prepare(data, folder)
    return Scorer(extractor, data, SETTINGS, cache_dir=folder, device=CPU, **arguments)


def score(scorer: Scorer, n: int = 300, seed: int = 0) -> dict[str, float]:
    gan = make_gan()
    sampler = Sampler(gan.ema_generator.module, "normal")
    return scorer.score(sampler, gan.discriminator, num_fake=n, seed=seed).scores


def test_identical_sets_have_fid_0_and_coverage_1(tmp_path: Path) -> None:
    floor = make_scorer(tmp_path, Same(batch_size=8)).floor(600).scores
    assert floor["fid"] == pytest.approx(0, abs=1e-6)
    assert floor["coverage"] == floor["precision"] == floor["recall"] == 1


def test_the_floor_lies_below_an_untrained_generator(tmp_path: Path) -> None:
    scorer = make_scorer(tmp_path)
    floor, found = scorer.floor(300).scores, score(scorer)
    assert floor["fid"] < found["fid"] / 10
    assert floor["kid"] < found["kid"]
    assert floor["coverage"] > found["coverage"]


def test_scoring_twice_gives_the_same_bits(tmp_path: Path) -> None:
    scorer = make_scorer(tmp_path)
    torch.manual_seed(5)
    first = score(scorer)
    torch.manual_seed(6)
    scorer.floor(300)
    assert score(scorer) == first == score(make_scorer(tmp_path))
    assert score(scorer, seed=1) != first


def test_a_split_of_sorted_classes_is_sampled_from_all_of_it(tmp_path: Path) -> None:
    """A folder lies sorted by class: the first images of it would be those of one class."""
    chosen = make_scorer(tmp_path)._chosen("train", 100)
    assert len(set(chosen.tolist())) == 100
    assert chosen.max() > 500


def test_the_floor_takes_as_many_images_as_are_generated(tmp_path: Path) -> None:
    scorer = make_scorer(tmp_path)
    assert scorer.check_count(None) == 600
    assert scorer.check_count(50) == 50
    with pytest.raises(ConfigError, match=r"metrics.num_fake=601: .* train split has 600"):
        scorer.check_count(601)


def test_a_larger_reference_than_there_is(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"metrics.num_real=601: the test split has 600"):
        make_scorer(tmp_path, num_real=601)
    assert make_scorer(tmp_path, num_real=50).reference.num_images == 50


def test_the_training_split_as_reference(tmp_path: Path) -> None:
    scorer = make_scorer(tmp_path, reference="train")
    assert scorer.protocol["reference"] == {"split": "train", "count": 600}
    assert scorer.floor_split == "test"
    assert scorer.floor_count(50_000) == 600


def test_the_discriminator_is_left_as_it_was(tmp_path: Path) -> None:
    gan = make_gan()
    before = {name: value.clone() for name, value in gan.state_dict().items()}
    gan.train()
    make_scorer(tmp_path).score(
        Sampler(gan.ema_generator.module, "normal"), gan.discriminator, num_fake=20
    )
    assert gan.discriminator.training
    assert all(torch.equal(value, before[name]) for name, value in gan.state_dict().items())
