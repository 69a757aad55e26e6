"""Whether a run scores itself, and what it cannot score, is known before it trains."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from captioned import CaptionedSquares, make_stages
from helpers import SHAPE, Squares, conditional, fit, make_gan, make_trainer
from omegaconf import DictConfig
from torch import Tensor
from translating import Dark, Named, Unpaired

from forger import losses as L
from forger.app.config.rules import LOGGED, LOGGED_BY_SOME
from forger.app.run.scoring import check_awaited, columns_of, plan_scores
from forger.augment import ADA
from forger.conditions import Condition, Labels
from forger.errors import ConfigError, DataError
from forger.gan import GAN
from forger.metrics.classifier import Classifier
from forger.networks import stylegan2
from forger.schedules import Linear


class Labelled(Squares):
    """Squares in two classes."""

    classes = ("left", "right")
    held_out = 64

    def read(self, split: str) -> dict[str, Tensor]:
        images = super().read(split)["image"]
        if split == "test" and not self.held_out:
            raise DataError("has no test images")
        images = images[: self.held_out] if split == "test" else images
        return {"image": images, "label": torch.arange(len(images)) % 2}


class Favourite(Labelled):
    scores_by_default = True


class Few(Labelled):
    held_out = 4


class HalfLabelled(Labelled):
    """No labels of held-out images."""

    def read(self, split: str) -> dict[str, Tensor]:
        found = super().read(split)
        return {"image": found["image"]} if split == "test" else found


class Nothing(Labelled):
    held_out = 0


@pytest.fixture
def planned(composed: Any, tmp_path: Path) -> Any:
    def plan(
        data: Squares,
        *words: str,
        condition: Condition | None = None,
        translates: bool = False,
    ) -> Any:
        cfg = composed("data=mnist_sample", f"paths.cache_dir={tmp_path}", *words)
        found = plan_scores(cfg, data, condition, translates)
        check_awaited(cfg, found, make_gan(loss=L.NonSaturating(r1_gamma=1.0)))
        return found

    return plan


TRAINED = "a classifier has to be trained on 64 images first"


@pytest.mark.parametrize(
    ("data", "words", "line"),
    [
        (Labelled(), ["metrics=none"], "none: metrics=none"),
        (Labelled(), [], f"none: {TRAINED}; metrics=quick does that"),
        (
            Favourite(),
            [],
            "every 1,000 iterations, 2,000 ema images against 64 test images, classifier features;"
            f" {TRAINED}",
        ),
        (
            Squares(),
            ["metrics/features=pixels"],
            "every 1,000 iterations, 2,000 ema images against 64 test images, pixels features",
        ),
        (Few(), [], "none: metrics.coverage_k=5: must be below the number of real images to"),
        (Nothing(), [], "none: has no test images"),
    ],
)
def test_one_line_says_what_will_happen(
    data: Squares, words: list[str], line: str, planned: Any
) -> None:
    found = planned(data, *words)
    assert found.line.startswith(line)
    assert (found.columns == ()) == line.startswith("none")


@pytest.mark.parametrize("data", [Dark(), Unpaired(), Named()])
def test_translations_are_as_many_as_sources_and_pairs_have_more_columns(
    data: Dark, planned: Any
) -> None:
    words = "metrics/features=pixels", "metrics.num_fake=2000"
    plain, found = planned(data, *words), planned(data, *words, translates=True)
    assert "2,000 ema images" in plain.line
    assert "96 ema images" in found.line
    assert found.line.endswith("without label_accuracy") == isinstance(data, Named)
    more = ["val/pixels_intra_fid"] if isinstance(data, Named) else []
    pairs = ["val/psnr", "val/ssim", "val/l1", "val/pixels_feature_distance"]
    assert [*found.columns] == [*plain.columns, *more, *(pairs if data.paired else [])]


def test_with_its_classifier_in_the_cache_a_run_scores_itself(planned: Any, tmp_path: Path) -> None:
    Classifier(min_accuracy=0.0).prepare(Labelled(), tmp_path)
    found = planned(Labelled(), "metrics.min_accuracy=0")
    assert found.line.endswith("classifier features")
    assert found.columns[0] == "val/classifier_fid"


@pytest.mark.parametrize(
    ("data", "words", "message"),
    [
        (Squares(), [], "no labels to train a classifier on; write metrics/features=pixels"),
        (Few(), [], r"metrics.coverage_k=5: .* real images to compare with .*, 4; write"),
        (Labelled(), ["metrics.num_fake=12", "metrics.splits=13"], "metrics.splits=13: must be"),
        (Labelled(), ["metrics.num_real=65"], "num_real=65: the test split has 64 images"),
        (Nothing(), ["metrics.reference=train"], "has no test images"),  # D is judged by them
    ],
)
def test_scores_that_were_asked_for_are_refused_before_training(
    data: Squares, words: list[str], message: str, planned: Any, tmp_path: Path
) -> None:
    with pytest.raises((ConfigError, DataError), match=message):
        planned(data, "metrics=quick", *words)
    assert list(tmp_path.iterdir()) == []  # and before a classifier


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["objective=val/classifier_fid"], f"does not score itself: {TRAINED}"),
        (["callbacks=early_stopping"], r"early_stopping.metric=null: .*does not score itself"),
        (["callbacks.checkpoint.keep=3"], rf"keep=3: .* itself: {TRAINED}; .*checkpoint.keep=all"),
        (["metrics=quick", "objective=val/fid"], "did you mean 'val/classifier_fid'"),
        (["objective=train/relative_tpr"], "will not be logged; did you mean 'train/tpr'"),
        (["objective=val/fid", "metrics=none"], "does not score itself: metrics=none"),
        (
            ["objective=train/penalty_r2"],
            "penalty_r2: will not be logged; did you mean 'train/penalty_r1'",
        ),
        (["objective=train/augment_p"], "train/augment_p: will not be logged"),
        (["objective=train/lecam"], "train/lecam: will not be logged"),
        (["metrics=quick", "objective=val/d_auc"], "did you mean 'val/d_auroc'"),
    ],
)
def test_what_waits_for_a_score_is_refused_where_there_is_none(
    words: list[str], message: str, planned: Any
) -> None:
    with pytest.raises(ConfigError, match=message):
        planned(Labelled(), *words)


STYLED: dict[str, Any] = {"channel_base": 64, "channel_max": 6}
SCHEDULED = ("penalty", "beta2", "ema", "augment", "instance_noise")
ON: dict[str, Any] = {
    **{"r1_gamma": 1.0, "r2_gamma": 1.0, "lecam": 0.1, "lecam_start": 1},
    **{"cr": 1.0, "cr_fake": 1.0, "zcr_d": 1.0, "zcr_g": 1.0},
}
GANS: dict[str, Callable[[], GAN]] = {
    "plain": lambda: make_gan(loss=L.Hinge()),
    "without a boundary": lambda: make_gan(loss=L.Wasserstein(gradient_penalty=10.0)),
    "classes and adaptive augmentation": lambda: make_gan(
        **conditional("auxiliary"), augment=ADA()
    ),
    "paths": lambda: make_gan(
        loss=L.NonSaturating(path_length=2.0, path_length_interval=1),
        generator=stylegan2.Generator(SHAPE, 6, 5, mapping_layers=2, **STYLED),
    ),
    "all that the loss adds, and all schedules": lambda: make_gan(
        loss=L.NonSaturating(**ON),
        augment=ADA(0.5),
        instance_noise=0.1,
        ema_half_life=10.0,
        schedules=dict.fromkeys(SCHEDULED, Linear(iterations=4)),
    ),
}


def test_what_training_logs_is_what_may_be_waited_for(tmp_path: Path) -> None:
    seen = set[str]()
    for name, make in GANS.items():
        gan = make()
        columns = {one for one in columns_of(gan) if one.startswith("train/")}
        shown = fit(gan, tmp_path, max_steps=2).callback_metrics
        assert {one for one in shown if one.startswith("train/")} == columns, name
        seen |= columns
    captioned = CaptionedSquares(batch_size=8)
    gan = GAN(make_stages(captioned))
    trainer = make_trainer(tmp_path, max_steps=2)
    trainer.fit(gan, datamodule=captioned)
    columns = {one for one in columns_of(gan) if one.startswith("train/")}
    assert {one for one in trainer.callback_metrics if one.startswith("train/")} == columns
    seen |= columns
    penalties = {one for one in seen if one.startswith("train/penalty_")}
    assert seen - penalties == {*LOGGED, *LOGGED_BY_SOME} - {"train/penalty_factor"}
    assert len(penalties) == 5  # r1, r2, of interpolates, of paths, and their factor


@pytest.mark.parametrize("part", ["task", "condition", "augment"])
def test_parts_of_the_users_own_may_log_more(part: str, planned: Any) -> None:
    words = ["metrics=none", "objective=train/mine"]
    with pytest.raises(ConfigError, match="train/mine: will not be logged"):
        planned(Labelled(), *words)
    planned(Labelled(), *words, f"{part}._target_=mine.Own")


def test_what_waits_for_a_score_that_is_taken(planned: Any) -> None:
    words = ["metrics=quick", "callbacks=early_stopping", "objective=val/d_auroc"]
    assert "val/classifier_fid" in planned(Labelled(), *words).columns
    for name in ("loss_g", "penalty_r1"):
        assert planned(Labelled(), "metrics=none", f"objective=train/{name}").columns == ()


def test_data_of_another_kind_is_not_scored(planned: Any) -> None:
    other: Any = DictConfig({})
    assert "derived from forger.data.ImageDataModule" in planned(other).line
    with pytest.raises(ConfigError, match=r"ImageDataModule; write metrics=none"):
        planned(other, "metrics=quick")


PIXELS = "metrics/features=pixels"


def test_a_run_with_classes_waits_for_scores_by_class(planned: Any) -> None:
    labels = Labels(Labelled.classes)
    for name in ("label_accuracy", "classifier_intra_fid"):
        words = ["metrics=quick", f"objective=val/{name}"]
        assert f"val/{name}" in planned(Labelled(), *words, condition=labels).columns
    found = planned(Labelled(), "metrics=quick", PIXELS, condition=labels)
    assert "val/pixels_intra_fid" in found.columns
    assert found.line.endswith("pixels features; without label_accuracy")
    columns = planned(Labelled(), "metrics=quick").columns
    assert not [name for name in columns if "intra" in name or "label" in name]


@pytest.mark.parametrize(
    ("words", "classes", "reason"),
    [
        (["objective=val/label_accuracy"], (), "the run has no classes; choose condition=label"),
        (["objective=val/classifier_intra_fid"], (), "the run has no classes"),
        (
            ["objective=val/label_accuracy", PIXELS],
            Labelled.classes,
            "pixels features know no classes of the data; write metrics/features=classifier",
        ),
        (["objective=val/intra_fid"], Labelled.classes, "mean 'val/classifier_intra_fid'"),
    ],
)
def test_why_there_is_no_score_by_class_is_told(
    words: list[str], classes: tuple[str, ...], reason: str, planned: Any
) -> None:
    condition = Labels(classes) if classes else None
    with pytest.raises(ConfigError, match=f"will not be logged.*{reason}"):
        planned(Labelled(), "metrics=quick", *words, condition=condition)


def test_a_run_with_classes_needs_labels_of_held_out_images(planned: Any) -> None:
    labels = Labels(Labelled.classes)
    with pytest.raises(DataError, match="has no labels of test images"):
        planned(HalfLabelled(), "metrics=quick", PIXELS, condition=labels)
    assert planned(HalfLabelled(), "metrics=quick", PIXELS).columns
    assert "none: HalfLabelled: has no labels" in planned(HalfLabelled(), condition=labels).line
