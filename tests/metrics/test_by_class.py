"""Scores of images that were asked to be of a class, on images whose shade is their class."""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm
from thread_group import Group
from torch import Tensor, nn

from forger.conditions import Condition, Labels
from forger.data import ImageDataModule
from forger.errors import DataError
from forger.metrics import by_class, evaluator, sharing
from forger.metrics.by_class import ByClass, ClassSums, check_labels, count_seen
from forger.metrics.evaluator import Evaluation, Evaluator
from forger.metrics.extractor import FeatureExtractor, Features
from forger.metrics.pixels import Pixels
from forger.metrics.settings import ScoreSettings
from forger.sampling.sampler import Sampler
from forger.tasks import FromNoise

CLASSES = ("dark", "grey", "bright")
SHADES = torch.tensor([40, 120, 200])
SETTINGS = ScoreSettings(precision_k=2, coverage_k=2, kid_subsets=2, kid_subset_size=20, splits=1)


class Shades(ImageDataModule):
    """Noisy images of three shades; some labels of the test split are wrong."""

    native_shape = (1, 4, 4)
    classes = CLASSES
    counts = {"train": 90, "test": 60}  # noqa: RUF012
    mistaken = 6  # test images whose label is the next class

    def read(self, split: str) -> dict[str, Tensor]:
        generator = torch.Generator().manual_seed(len(split))
        count = self.counts[split]
        labels = torch.arange(count) % 3
        noise = torch.randint(0, 30, (count, 1, 4, 4), generator=generator)
        images = (SHADES[labels].view(-1, 1, 1, 1) + noise).to(torch.uint8)
        if split == "test":
            labels[: self.mistaken] = (labels[: self.mistaken] + 1) % 3
        return {"image": images, "label": labels}


class Reader(FeatureExtractor):
    """Names the shade rightly; the features are rows of pixels."""

    name = "reader"
    score_name = "reader_score"
    classes = CLASSES
    num_features = 4
    fingerprint = "0"

    def prepare(self, data: Any, cache_dir: Path) -> None:
        pass

    def forward(self, images: Tensor) -> Features:
        shades = images.float()
        distances = (shades.mean((1, 2, 3)).unsqueeze(1) - 15 - SHADES).abs()
        return Features(shades.mean((1, 3)) / 10, -distances)


class Painter(nn.Module):
    """Paints the class that it is asked for, or another one in its place."""

    latent_dim = 16

    def __init__(self, painted: tuple[int, ...] = (0, 1, 2)) -> None:
        super().__init__()
        self.painted = painted
        self.weight = nn.Parameter(torch.zeros(()))

    def forward(self, noise: Tensor, *given: Tensor) -> Tensor:
        label = given[0] if given else torch.arange(len(noise)) % 3
        shades = SHADES[torch.tensor(self.painted)[label]].view(-1, 1, 1, 1)
        pixels = shades + (15 + 4 * noise.view(-1, 1, 4, 4)).clamp(0, 29)
        return pixels / 127.5 - 1


class Knower(nn.Module):
    """A discriminator that believes what has the shade of its label; without one, everything."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(()))

    def forward(self, images: Tensor, *given: Tensor) -> Tensor:
        shades = (images.mean((1, 2, 3)) + 1) * 127.5 - 15
        near = (shades - SHADES[given[0]]).abs() < 30 if given else shades > 0
        return 2 * near.float() - 1


def make(folder: Path, extractor: Any = None, data: Any = None, **arguments: Any) -> Evaluator:
    data, extractor = data or Shades(), extractor or Reader()
    extractor.prepare(data, folder)
    cpu = torch.device("cpu")
    return Evaluator(extractor, data, SETTINGS, cache_dir=folder, device=cpu, **arguments)


def task_of(generator: nn.Module, conditional: bool = True) -> FromNoise:
    condition = Labels(CLASSES) if conditional else Condition()
    return FromNoise(generator, Knower(), condition=condition)


def evaluate(of: Evaluator, painted: tuple[int, ...] = (0, 1, 2), n: int = 300) -> Evaluation:
    generator = Painter(painted)
    task = task_of(generator)
    return of.evaluate(task.sampler(generator), task, num_fake=n)


def asked(n: int) -> Tensor:
    labels: Tensor = Sampler(Painter(), "normal", Labels(CLASSES)).given(n)["label"]
    return labels


def frechet(real: Tensor, fake: Tensor) -> float:
    a, b = real.double().numpy(), fake.double().numpy()
    ca, cb = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    return float(((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(ca + cb - 2 * sqrtm(ca @ cb).real))


def test_what_is_painted_as_asked_is_seen_so(tmp_path: Path) -> None:
    found = evaluate(make(tmp_path, data=exact()))
    counts = torch.bincount(asked(300)).tolist()
    assert found.by_class is not None
    assert found.by_class.seen == [[counts[0], 0, 0], [0, counts[1], 0], [0, 0, counts[2]]]
    assert found.scores["label_accuracy"] == 1
    assert found.scores["reader_intra_fid"] < 2
    assert found.by_class.of_each["label_accuracy"] == [1, 1, 1]


def exact() -> Shades:
    data = Shades()
    data.mistaken = 0
    return data


def test_what_is_painted_otherwise_is_told_by_its_row(tmp_path: Path) -> None:
    found = evaluate(make(tmp_path, data=exact()), painted=(1, 1, 0))
    counts = torch.bincount(asked(300)).tolist()
    assert found.by_class is not None
    assert found.by_class.seen == [[0, counts[0], 0], [0, counts[1], 0], [counts[2], 0, 0]]
    assert found.scores["label_accuracy"] == counts[1] / 300
    assert found.by_class.of_each["label_accuracy"] == [0, 1, 0]
    fids = found.by_class.fids
    assert fids is not None
    assert fids[1] is not None
    for wrong in (fids[0], fids[2]):
        assert wrong is not None
        assert wrong > 100 * fids[1]


@pytest.mark.parametrize("reference", ["train", "test"])
def test_intra_fid_is_the_mean_of_the_fids_of_the_classes(reference: Any, tmp_path: Path) -> None:
    """By another implementation, on the images of each class alone."""
    of = make(tmp_path, reference=reference)
    found = evaluate(of, painted=(0, 2, 1))
    sampler = Sampler(Painter((0, 2, 1)), "normal", Labels(CLASSES))
    chunks = [sampler.chunk(0, 250), sampler.chunk(1, 50)]
    labels = torch.cat([chunk["label"] for chunk in chunks])
    fake = torch.cat([of.extractor(chunk["image"]).features for chunk in chunks])
    data = Shades()
    images, real_labels = (data.train_images, data.train_labels)
    if reference == "test":
        images, real_labels = data.test_images, data.test_labels
    real = of.extractor(images).features
    expected = [frechet(real[real_labels == c], fake[labels == c]) for c in range(3)]
    assert found.by_class is not None
    assert found.by_class.fids == pytest.approx(expected, rel=1e-6)
    assert found.scores["reader_intra_fid"] == pytest.approx(sum(expected) / 3, rel=1e-6)
    assert found.fid != pytest.approx(found.scores["reader_intra_fid"], rel=0.1)


@pytest.mark.parametrize("reference", ["train", "test"])
def test_the_floor_of_the_accuracy_is_that_of_real_test_images(
    reference: Any, tmp_path: Path
) -> None:
    """Six of 60 have a wrong label; an extractor may know the training images by heart."""
    floor = make(tmp_path, reference=reference).evaluate_floor(30, CLASSES)
    assert floor.scores["label_accuracy"] == 54 / 60
    assert floor.by_class is not None
    assert floor.by_class.seen == [[18, 0, 2], [2, 18, 0], [0, 2, 18]]
    assert floor.scores["reader_intra_fid"] > 0
    assert len(floor.by_class.fids or ()) == 3


def test_without_a_condition_nothing_is_added(tmp_path: Path) -> None:
    of, generator = make(tmp_path), Painter()
    task = task_of(generator, conditional=False)
    found = of.evaluate(task.sampler(generator), task, num_fake=60)
    floor = of.evaluate_floor(60)
    both = evaluate(of, n=60).scores.keys()
    assert both - found.scores.keys() == {"label_accuracy", "reader_intra_fid"}
    assert (found.by_class, floor.by_class) == (None, None)
    assert not {name for name in floor.scores if "intra" in name or "label" in name}


def test_an_extractor_that_knows_no_classes_has_the_distances_alone(tmp_path: Path) -> None:
    of = make(tmp_path, Pixels())
    found, floor = evaluate(of), of.evaluate_floor(60, CLASSES)
    for one in (found, floor):
        assert "label_accuracy" not in one.scores
        assert one.scores["pixels_intra_fid"] > 0
        assert one.by_class is not None
        assert list(one.by_class.of_each) == ["intra_fid"]


def test_what_takes_too_much_memory_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert by_class.keeps_moments(16, 2048)  # Inception
    assert not by_class.keeps_moments(17, 2048)
    monkeypatch.setattr(by_class, "MOST_PRODUCTS", 3 * 4 * 4 - 1)
    found = evaluate(make(tmp_path))
    assert found.scores["label_accuracy"] == 1
    assert "reader_intra_fid" not in found.scores
    assert found.by_class is not None
    assert (found.by_class.fids, found.by_class.left_out) == (None, [])


def sums(rows: list[list[float]], labels: list[int]) -> ClassSums:
    extractor: Any = SimpleNamespace(classes=None, num_features=2)
    found = Features(torch.tensor(rows), torch.zeros(len(rows), 1))
    return ClassSums(CLASSES, extractor, [(found, torch.tensor(labels))])


def test_classes_with_too_few_images_on_a_side_are_left_out_of_the_mean() -> None:
    """One fake of the first, none real of the last; the second is moved by 3 and 4."""
    square = [[0.0, 0.0], [2.0, 0.0], [0.0, 2.0], [2.0, 2.0]]
    moved = [[x + 3, y + 4] for x, y in square]
    real = sums([*square, *square], [0, 0, 0, 0, 1, 1, 1, 1])
    fake = sums([square[0], *moved, *square], [0, 1, 1, 1, 1, 2, 2, 2, 2])
    found = fake.compare(real)
    assert found.fids == [None, pytest.approx(25), None]
    assert found.left_out == ["dark", "bright"]
    assert found.scores("x_") == {"x_intra_fid": pytest.approx(25)}
    none = sums(square, [0, 0, 0, 0]).compare(sums(square, [1, 1, 1, 1]))
    assert math.isnan(none.scores("")["intra_fid"])


def test_what_is_seen_is_counted_by_what_was_asked() -> None:
    logits = torch.tensor([[0.0, 1.0], [1.0, 0.0], [0.0, 1.0], [0.0, 1.0]])
    seen = count_seen(logits, torch.tensor([0, 0, 2, 2]), 3).tolist()
    assert seen == [[1, 1, 0], [0, 0, 0], [0, 2, 0]]
    wide = count_seen(torch.eye(2), torch.tensor([1, 2]), 3)  # the classifier knows two of three
    assert wide.tolist() == [[0, 0, 0], [1, 0, 0], [0, 1, 0]]
    found = ByClass(CLASSES, [[3, 1, 0], [0, 0, 0], [1, 1, 2]], None)
    assert found.scores("x_") == {"label_accuracy": 5 / 8}
    assert found.of_each == {"label_accuracy": [3 / 4, None, 2 / 4]}


def test_all_that_is_scored_is_shared_out_among_processes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that computes no chunk itself, and is given the others' results, finds the same."""
    of, results = make(tmp_path), []

    def kept(produce: Any, sizes: list[int]) -> Any:
        for number, size in enumerate(sizes):
            results.append(produce(number, size))
            yield results[-1]

    monkeypatch.setattr(evaluator, "in_order", kept)
    alone = evaluate(of, painted=(1, 1, 0))
    monkeypatch.setattr(evaluator, "in_order", lambda _, sizes: [results.pop(0) for _ in sizes])
    assert evaluate(of, painted=(1, 1, 0)) == alone


def test_processes_that_share_the_work_find_the_same_scores(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Intra-FID, label accuracy and all others, in bits; threads stand for processes."""
    alone = evaluate(make(tmp_path), painted=(1, 1, 0), n=900)
    group, computed = Group(2), list[int]()
    monkeypatch.setattr(sharing, "distributed", group)

    def process(rank: int) -> Evaluation:
        group.own.rank = rank
        of = make(tmp_path)
        read = of.extractor.forward
        of.extractor.forward = lambda images: computed.append(rank) or read(images)
        return evaluate(of, painted=(1, 1, 0), n=900)

    with ThreadPoolExecutor(2) as pool:
        both = list(pool.map(process, range(2)))
    assert alone.scores["reader_intra_fid"] > 0
    assert 0 < alone.scores["label_accuracy"] < 1
    for found in both:
        assert found.scores == alone.scores
        assert found.by_class.of_each == alone.by_class.of_each
    assert 0 < computed.count(0) <= 1 + computed.count(1) <= 2 + computed.count(0)


def test_the_discriminator_is_told_the_labels_of_real_images_and_of_fakes(tmp_path: Path) -> None:
    scores = evaluate(make(tmp_path), painted=(1, 1, 0)).scores
    assert scores["d_tpr"] == 54 / 60  # of test images with their own labels
    assert scores["d_train_logit"] == 1
    right = float((asked(300) == 1).float().mean())
    assert scores["d_tnr"] == pytest.approx(1 - right)


class Unlabelled(Shades):
    without = "test"

    def read(self, split: str) -> dict[str, Tensor]:
        found = super().read(split)
        return {"image": found["image"]} if split == self.without else found


class Shifted(Shades):
    def read(self, split: str) -> dict[str, Tensor]:
        found = super().read(split)
        return found | {"label": found["label"] + (split == "test")}


def test_labels_that_are_missing_or_unknown_are_told() -> None:
    check_labels(Shades(), Labels(CLASSES))
    check_labels(Unlabelled(), Condition())
    with pytest.raises(DataError, match=r"Unlabelled: has no labels of test .*metrics=none"):
        check_labels(Unlabelled(), Labels(CLASSES))
    with pytest.raises(DataError, match=r"from 0 to 2, .* from 1 to 3; subtract 1"):
        check_labels(Shifted(), Labels(CLASSES))
