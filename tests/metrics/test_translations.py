"""Scores of translations: nearness to the right images, class kept, held-out sources once each."""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from projection import Projection
from thread_group import Group
from torch import Tensor, nn
from translating import Dark, Unpaired, make_task

from forger.data import ImageDataModule
from forger.errors import DataError
from forger.metrics import judging, sharing
from forger.metrics.evaluator import Evaluation, Evaluator
from forger.metrics.extractor import FeatureExtractor, Features
from forger.metrics.settings import ScoreSettings
from forger.metrics.translations import HeldOutSources, classes_kept, pair_names, pair_scores
from forger.sampling.translator import Translator
from forger.tasks import Task

SETTINGS = ScoreSettings(precision_k=2, coverage_k=2, kid_subsets=2, kid_subset_size=20, splits=1)
PAIRS = {"psnr", "ssim", "l1", "projection_feature_distance"}


class Of(nn.Module):
    """Translates by a formula."""

    def __init__(self, formula: Any) -> None:
        super().__init__()
        self.weight, self.formula = nn.Parameter(torch.ones(())), formula

    def forward(self, source: Tensor) -> Tensor:
        made: Tensor = self.formula(source)
        return made


RIGHT = Of(lambda source: ((source + 1) * 127.5 - 40).mul(-2 / 127.5) + 1)  # of `Dark`
SAME = Of(lambda source: source)


def make(folder: Path, data: Any = None, extractor: FeatureExtractor | None = None) -> Evaluator:
    data, extractor = data or Dark(batch_size=8), extractor or Projection()
    extractor.prepare(data, folder)
    cpu = torch.device("cpu")
    return Evaluator(extractor, data, SETTINGS, cache_dir=folder, device=cpu)


def evaluate(
    of: Evaluator, network: nn.Module, task: str | Task = "paired", n: int = 1000
) -> Evaluation:
    sampler = Translator(network, of.data.test_sources[:8], of.data.test_images[:8])
    return of.evaluate(sampler, make_task(task) if isinstance(task, str) else task, num_fake=n)


def test_the_distances_of_pixels_equal_their_formulas() -> None:
    right = torch.full((3, 2, 12, 12), 100, dtype=torch.uint8)
    made = right.clone()
    made[0] += 51  # a fifth of 255
    made[1, 0, 0, 0] += 1
    psnr, ssim, l1 = pair_scores(made, right).unbind(1)
    one = 10 * math.log10(255**2 * 2 * 12 * 12)  # a value off by 1; and none, which counts the same
    torch.testing.assert_close(psnr, torch.tensor([10 * math.log10(25), one, one]))
    torch.testing.assert_close(l1, torch.tensor([0.2, 1 / 255 / 288, 0]))
    # even images: only the means enter, (2 a b + c) / (a^2 + b^2 + c)
    a, b, c = 100 / 255, 151 / 255, 0.01**2
    assert float(ssim[0]) == pytest.approx((2 * a * b + c) / (a * a + b * b + c), abs=1e-5)
    assert float(ssim[2]) == pytest.approx(1)


def test_small_images_have_no_windows_of_structure() -> None:
    small = torch.zeros(2, 3, 10, 20, dtype=torch.uint8)
    assert pair_scores(small, small).shape == (2, 2)
    assert pair_names(small.shape) == ("psnr", "l1", "feature_distance")


def test_each_held_out_source_comes_once_in_random_order() -> None:
    sources = HeldOutSources(Dark(), "")
    assert sorted(sources.order.tolist()) == list(range(96))
    rows = sources.rows(0, 10)
    assert rows.tolist() != list(range(10))
    expected = Dark().test_sources[rows] / 127.5 - 1
    assert torch.equal(sources.given(0, 10)["source"], expected)
    assert torch.equal(HeldOutSources(Dark(), "").order, sources.order)


def test_what_becomes_the_right_image_is_best_and_the_source_itself_is_the_floor(
    tmp_path: Path,
) -> None:
    of = make(tmp_path)
    right, same = (evaluate(of, network).scores for network in (RIGHT, SAME))
    assert right.keys() >= PAIRS
    assert right["l1"] < 0.005 < same["l1"]  # dimmed sources lost a bit
    assert right["projection_feature_distance"] < same["projection_feature_distance"] / 50
    assert right["psnr"] > 45
    assert right["projection_fid"] < same["projection_fid"] / 50
    sources = of.sources_of(Translator(SAME, of.data.test_sources, of.data.test_images))
    floor = of.evaluate_floor(1000, (), sources).scores
    assert {name: floor[name] for name in PAIRS} == {name: same[name] for name in PAIRS}
    assert not PAIRS & of.evaluate_floor(1000).scores.keys()


def test_without_pairs_nothing_is_compared_one_by_one(tmp_path: Path) -> None:
    of = make(tmp_path, Unpaired(batch_size=8))
    assert not PAIRS & evaluate(of, RIGHT, "cycle").scores.keys()


class Shades(ImageDataModule):
    """Three shades of grey, which are classes; sources are of the next one, without pairs."""

    native_shape = native_source_shape = (1, 4, 4)
    classes = ("dark", "grey", "bright")
    paired = False
    count, unknown = 60, 0

    def read(self, split: str) -> dict[str, Tensor]:
        labels = torch.arange(self.count) % 3
        images = (labels * 80 + 20).to(torch.uint8).view(-1, 1, 1, 1).expand(-1, 1, 4, 4)
        noise = torch.arange(16).view(4, 4) % 7 + torch.arange(self.count).view(-1, 1, 1, 1) % 5
        given = {"source": images.clone(), "source_label": labels + self.unknown}
        return {"image": images + noise.to(torch.uint8), "label": labels, **given}


class Reader(FeatureExtractor):
    """Names the shade."""

    name, score_name, classes = "reader", "reader_score", Shades.classes
    num_features = 4
    fingerprint = "0"

    def prepare(self, data: Any, cache_dir: Path) -> None: ...

    def forward(self, images: Tensor) -> Features:
        shade = images.float().mean((1, 2, 3))
        centres = torch.tensor([25.0, 105.0, 185.0])
        return Features(images.float().mean((1, 3)), -(shade[:, None] - centres).abs())


def brightened(source: Tensor) -> Tensor:
    """Takes the dark ones for grey ones."""
    dark = source.mean((1, 2, 3), keepdim=True) < -0.7
    return torch.where(dark, source + 80 / 127.5, source)


def test_the_class_of_the_source_is_kept_or_not(tmp_path: Path) -> None:
    of = make(tmp_path, Shades(), Reader())
    task = "cycle"
    kept, lost = (evaluate(of, one, task) for one in (SAME, Of(brightened)))
    assert kept.scores["label_accuracy"] == 1
    assert lost.scores["label_accuracy"] == pytest.approx(2 / 3)
    assert lost.by_class is not None
    assert lost.by_class.seen == [[0, 20, 0], [0, 20, 0], [0, 0, 20]]
    assert kept.scores["reader_intra_fid"] < lost.scores["reader_intra_fid"]


def test_labels_of_sources_must_be_numbers_of_the_classes() -> None:
    data = Shades()
    data.unknown = 1
    with pytest.raises(DataError, match=r"labels of sources from 1 to 3; allowed: 0 to 2"):
        classes_kept(data)
    assert classes_kept(Unpaired()) == ()


def test_several_processes_score_as_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("forger.metrics.evaluator.chunk_sizes", lambda n: [20] * (n // 20))
    monkeypatch.setattr("forger.metrics.translations.CHUNK", 20)
    of, task = make(tmp_path), make_task("paired")  # made by threads, the draws would mix
    alone = evaluate(of, RIGHT, task, n=80)
    group = Group(2)
    monkeypatch.setattr(sharing, "distributed", group)

    def process(rank: int) -> Evaluation:
        group.own.rank = rank
        return evaluate(of, RIGHT, task, n=80)

    monkeypatch.setattr(judging, "copied", lambda module: module)  # threads share modules
    with ThreadPoolExecutor(2) as pool:
        assert all(found == alone for found in pool.map(process, range(2)))
