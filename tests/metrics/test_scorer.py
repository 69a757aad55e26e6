from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import Squares, make_gan
from projection import Projection
from torch import Tensor

from forger.errors import ConfigError
from forger.metrics.scorer import Scorer, Split, check_counts, usual_count
from forger.metrics.settings import ScoreSettings
from forger.sampling.sampler import Sampler

SETTINGS = ScoreSettings(precision_k=3, coverage_k=3, kid_subsets=5, kid_subset_size=50, splits=2)
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
    assert floor["projection_fid"] == pytest.approx(0, abs=1e-6)
    assert [floor[f"projection_{name}"] for name in ("coverage", "precision", "recall")] == [
        1,
        1,
        1,
    ]


def test_the_floor_lies_below_an_untrained_generator(tmp_path: Path) -> None:
    scorer = make_scorer(tmp_path)
    floor, found = scorer.floor(300).scores, score(scorer)
    assert floor["projection_fid"] < found["projection_fid"] / 10
    assert floor["projection_kid"] < found["projection_kid"]
    assert floor["projection_coverage"] > found["projection_coverage"]


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
    def check(num_fake: int, reference: Split = "test") -> None:
        sizes: Any = {"reference": reference, "num_real": None, "num_fake": num_fake}
        check_counts(Many(), SETTINGS, floor=True, **sizes)

    assert usual_count(Many(), "test") == 600
    check(600)
    check(50_000, "train")  # the test split is what it is
    with pytest.raises(ConfigError, match=r"metrics.num_fake=601: .* train split has 600"):
        check(601)


class Few(Many):
    """A held-out split of four images."""

    def read(self, split: str) -> tuple[Tensor, None]:
        images, _ = super().read(split)
        return images[: 4 if split == "test" else None], None


@pytest.mark.parametrize(
    ("settings", "counts", "message"),
    [
        ({"coverage_k": 4}, {}, "coverage_k=4: .* real images to compare with .*, 4; write .*=3"),
        ({"coverage_k": 3}, {"num_real": 2}, "coverage_k=3: .* real images to compare with .*, 2"),
        ({"precision_k": 3}, {"num_fake": 3}, r"precision_k=3: .* images to score .*, 3; write"),
        ({}, {"num_fake": 8}, "splits=10: must be at most the number of images to score .*, 8"),
        ({}, {"num_real": 5}, "num_real=5: the test split has 4 images"),
        (
            {"precision_k": 5},
            {"reference": "train", "floor": True},
            "precision_k=5: .* score .*, 4",
        ),
    ],
)
def test_too_few_images_are_told_without_features(
    settings: dict[str, int], counts: dict[str, Any], message: str
) -> None:
    chosen = ScoreSettings(**({"precision_k": 1, "coverage_k": 1} | settings))
    sizes: dict[str, Any] = {"reference": "test", "num_real": None, "num_fake": 100}
    with pytest.raises(ConfigError, match=f"^metrics.{message}"):
        check_counts(Few(), chosen, **(sizes | counts))


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
