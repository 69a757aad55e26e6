"""What is compared with what: counts, splits, repeatability, and work divided among processes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import Squares, make_gan
from projection import Projection
from torch import Tensor, nn

from forger.errors import ConfigError
from forger.metrics.evaluator import Evaluator
from forger.metrics.pixels import Pixels
from forger.metrics.settings import ScoreSettings, check_counts, usual_count
from forger.sampling.sampler import Sampler

SETTINGS = ScoreSettings(precision_k=3, coverage_k=3, kid_subsets=5, kid_subset_size=50, splits=2)


class Many(Squares):
    count = 600


class Few(Many):
    """A held-out split of four images."""

    def read(self, split: str) -> dict[str, Tensor]:
        images = super().read(split)["image"]
        return {"image": images[: 4 if split == "test" else None]}


def make(folder: Path, data: Squares | None = None, extractor: Any = None, **arguments: Any) -> Any:
    data, extractor = data or Many(batch_size=8), extractor or Projection()
    extractor.prepare(data, folder)
    cpu = torch.device("cpu")
    return Evaluator(extractor, data, SETTINGS, cache_dir=folder, device=cpu, **arguments)


def evaluate(evaluator: Evaluator, n: int = 300, seed: int = 0) -> Any:
    gan = make_gan()
    sampler = Sampler(gan.ema_generator.module, "normal")
    return evaluator.evaluate(sampler, gan.task, num_fake=n, seed=seed)


def test_the_floor_lies_below_an_untrained_generator_and_scoring_repeats_in_bits(
    tmp_path: Path,
) -> None:
    evaluator = make(tmp_path)
    torch.manual_seed(5)
    first = evaluate(evaluator)
    torch.manual_seed(6)
    floor, found = evaluator.evaluate_floor(300).scores, first.scores
    assert floor["projection_fid"] < found["projection_fid"] / 10
    assert floor["projection_kid"] < found["projection_kid"]
    assert floor["projection_coverage"] > found["projection_coverage"]
    assert evaluate(evaluator) == first == evaluate(make(tmp_path))
    assert evaluate(evaluator, seed=1) != first


def test_pixels_need_no_labels_and_have_names_of_their_own(tmp_path: Path) -> None:
    evaluator = make(tmp_path, Squares(batch_size=8), Pixels())
    found = evaluate(evaluator, 64)
    names = ("fid", "kid", "kid_std", "precision", "recall", "density", "coverage")
    by_features = {name for name in found.scores if not name.startswith("d_")}
    assert by_features == {f"pixels_{name}" for name in names}
    assert found.class_shares is None
    assert found.fid > 2 * evaluator.evaluate_floor(64).fid


def test_the_training_split_as_reference_is_sampled_from_all_of_it(tmp_path: Path) -> None:
    """A folder lies sorted by class: the first images of it would be those of one class."""
    data = Many(batch_size=8)
    generator = torch.Generator().manual_seed(0)
    noise = torch.randint(0, 256, data.train_images.shape, dtype=torch.uint8, generator=generator)
    data._splits["train"] = {"image": noise}
    evaluator = make(tmp_path, data, reference="train", num_real=100)
    assert evaluator.protocol["reference"] == {"split": "train", "count": 100}
    assert (evaluator.floor_split, evaluator.floor_count(50_000)) == ("test", 600)
    assert evaluator.reference.num_images == 100
    everything = evaluator.real("train").features.tolist()
    places = [everything.index(row) for row in evaluator.reference.kept.tolist()]
    assert len(set(places)) == 100
    assert max(places) > 500


def test_the_discriminator_is_judged_on_images_that_it_was_trained_on(tmp_path: Path) -> None:
    evaluator = make(tmp_path, Many(batch_size=8, train_limit=3))
    seen: list[int] = []

    class Watching:
        discriminator = nn.Flatten()

        def judge(self, discriminator: nn.Module, batch: Any) -> Tensor:
            seen.extend(((batch["image"][:, 0, 0, 0] + 1) * 127.5).round().int().tolist())
            return torch.zeros(len(batch["image"]))

    found = evaluator._real_logits(Watching(), "train", 600)
    expected = evaluator.data.train_images[[0, 200, 400], 0, 0, 0].tolist()
    assert (len(found), sorted(seen)) == (3, sorted(expected))


@pytest.mark.parametrize(
    ("settings", "counts", "message"),
    [
        ({"coverage_k": 4}, {}, "coverage_k=4: .* real images to compare with .*, 4; write .*=3"),
        ({"coverage_k": 3}, {"num_real": 2}, "coverage_k=3: .* real images to compare with .*, 2"),
        ({"precision_k": 3}, {"num_fake": 3}, r"precision_k=3: .* images to score .*, 3; write"),
        ({}, {"num_fake": 8}, "splits=10: must be at most the number of images to score .*, 8"),
        ({}, {"num_real": 5}, "num_real=5: the test split has 4 images"),
        ({}, {"num_fake": 601, "floor": True}, "num_fake=601: .* train split has 600"),
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


def test_as_many_images_as_the_floor_has_are_enough() -> None:
    assert usual_count(Many(), "test") == 600
    for reference, num_fake in (("test", 600), ("train", 50_000)):  # the test split is what it is
        sizes: Any = {"reference": reference, "num_real": None, "num_fake": num_fake}
        check_counts(Many(), SETTINGS, floor=True, **sizes)


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("kid_subset_size", 1, "must be a whole number of at least 2$"),
        ("splits", 2.5, "must be a whole number of at least 1$"),
        ("neighbour_images", 5, r"must be below .*neighbour_images\), 5"),
    ],
)
def test_a_senseless_setting_is_named(name: str, value: Any, reason: str) -> None:
    key = "coverage_k=5" if value == 5 else f"{name}={value}"
    with pytest.raises(ConfigError, match=rf"^metrics\.{key}: {reason}"):
        ScoreSettings(**{name: value})
