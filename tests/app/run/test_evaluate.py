"""Scores of finished runs, from whole trainings on real digits."""

from __future__ import annotations

import csv
import json
import math
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from composing import compose_config
from PIL import Image
from torch import Tensor, nn
from training import colour_folder, rows, run_folder, short

from forger.app.run.evaluate import evaluate
from forger.app.run.load import load_run
from forger.app.run.scoring import build_evaluator
from forger.app.run.train import train
from forger.data import MNISTSample
from forger.errors import ConfigError, DataError, UserError
from forger.metrics import classifier
from forger.sampling.sampler import Sampler

SMALL = ("metrics.num_fake=1000", "metrics.kid_subsets=20", "metrics.kid_subset_size=300")
VANILLA = ["model=vanilla", "data.batch_size=64", "trainer.max_steps=280", "model.ema_decay=0.9"]


def trained(folder: Path, cache: Path, *words: str) -> Path:
    train(compose_config("train", *short(folder, f"paths.cache_dir={cache}", *words)))
    return run_folder(folder)


def evaluated(*words: str, on_scored: Callable[[Path], Any] = str) -> list[dict[str, Any]]:
    return evaluate(compose_config("evaluate", *words), on_scored)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where runs lie; their classifier is trained on fewer images than usually."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(classifier, "RECIPE", classifier.Recipe(images=20_000))
        yield tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def vanilla(home: Path) -> Path:
    """A vanilla GAN after four epochs, which scored itself with a classifier trained for it."""
    words = [*SMALL, "metrics=quick", "metrics.every_n_steps=200"]
    return trained(home / "vanilla", home / "cache", *VANILLA, *words)


@pytest.fixture(scope="module")
def brief(home: Path, vanilla: Path) -> Path:
    """The same after few iterations; with the classifier cached it scores itself unasked."""
    return trained(home / "brief", home / "cache", *VANILLA, *SMALL, "trainer.max_steps=40")


@pytest.fixture(scope="module")
def record(vanilla: Path) -> dict[str, Any]:
    (found,) = evaluated(f"run={vanilla}", *SMALL)
    return found


class Noise(nn.Module):
    """Generates uniform noise from its latent noise: no better than an untrained network."""

    def __init__(self) -> None:
        super().__init__()
        self.latent_dim = 784
        self.weight = nn.Parameter(torch.zeros(()))

    def forward(self, noise: Tensor) -> Tensor:
        return torch.special.ndtr(noise).mul(2).sub(1).view(-1, 1, 28, 28)


def scores_of_noise(run: Path, cache: Path) -> dict[str, float]:
    metrics = compose_config("evaluate", "run=.", *SMALL).metrics
    evaluator = build_evaluator(metrics, MNISTSample(), cache, torch.device("cpu"))
    judge = load_run(run).gan.task
    return evaluator.evaluate(Sampler(Noise(), "normal"), judge, num_fake=1000).scores


def test_scores_rank_real_trained_untrained_and_noise(
    home: Path, record: dict[str, Any], brief: Path
) -> None:
    (of_brief,) = evaluated(f"run={brief}", *SMALL)
    ranking = [record["floor"], record["scores"], of_brief["scores"]]
    ranking.append(scores_of_noise(brief, home / "cache"))
    for name in ("classifier_fid", "classifier_kid"):
        values = [scores[name] for scores in ranking]
        assert values == sorted(values), name
        assert len(set(values)) == 4
    coverage = [scores["classifier_coverage"] for scores in ranking]
    # The last two cover next to nothing, and which of them less is chance.
    assert coverage[0] > 0.8 > coverage[1] > max(coverage[2:])
    assert max(coverage[2:]) < 0.1


def test_the_folder_holds_scores_floor_protocol_and_figures(
    vanilla: Path, record: dict[str, Any]
) -> None:
    content = json.loads((vanilla / "scores.json").read_text())
    assert content["scores"] == record["scores"]
    assert content["floor"].keys() <= content["scores"].keys()
    protocol = content["protocol"]
    assert protocol["extractor"]["accuracy"] > 0.95
    assert protocol["reference"] == {"split": "test", "count": 500}
    assert protocol["floor"] == {"split": "train", "count": 1000}
    assert content["images"] == {"generated": 1000, "reference": 500, "floor": 1000}
    assert protocol["generated"] == {
        **{"count": 1000, "weights": "ema", "seed": 0},
        **{"checkpoint": "last.ckpt", "iteration": 280},
    }
    assert sum(content["class_shares"]["generated"]) == pytest.approx(1)
    assert all(math.isfinite(value) for value in content["scores"].values())
    figures = ("nearest_neighbours", "classes", "class_histogram", "confusion_matrix")
    assert {path.name for path in (vanilla / "scores").iterdir()} == {f"{x}.png" for x in figures}
    for path in (vanilla / "scores").iterdir():
        with Image.open(path) as image:
            assert image.width > 300


def test_a_run_with_classes_is_scored_by_class_beside_others(
    home: Path, vanilla: Path, record: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    words = [*VANILLA, *SMALL, "condition=label", "trainer.max_steps=60"]
    run = trained(home / "conditional", home / "cache", *words)
    told: list[Path] = []
    found, plain = evaluated(f"run=[{run},{vanilla}]", *SMALL, on_scored=told.append)
    assert told == [run, vanilla]
    new = {"label_accuracy", "classifier_intra_fid"}
    for part in ("scores", "floor"):
        assert found[part].keys() - plain[part].keys() == new
    assert (plain, found.keys() - plain.keys()) == (record, {"class_scores"})
    assert found["floor"]["label_accuracy"] == found["protocol"]["extractor"]["accuracy"]
    assert found["protocol"]["floor"]["label_accuracy"] == {"split": "test", "count": 500}
    assert found["scores"]["classifier_fid"] > found["floor"]["classifier_intra_fid"]
    per_class = found["class_scores"]["generated"]
    assert sum(per_class["intra_fid"]) / 10 == pytest.approx(
        found["scores"]["classifier_intra_fid"]
    )
    assert (run / "scores" / "asked_classes.png").is_file()
    row = [row for row in rows(run) if row["val/label_accuracy"]][-1]
    assert float(row["val/label_accuracy"]) == found["scores"]["label_accuracy"]
    told, table = capsys.readouterr().out.split("comparison\n")
    assert told.count("label_accuracy") == told.count("classifier_intra_fid") == 1
    assert f"{found['scores']['label_accuracy']:.4g}" in table
    assert "label_accuracy" in table


def test_the_protocol_repeats_every_number(vanilla: Path, record: dict[str, Any]) -> None:
    torch.manual_seed(123)
    (again,) = evaluated(f"run={vanilla}", f"protocol={vanilla / 'scores.json'}")
    assert again == record


def test_another_protocol_is_refused(vanilla: Path, record: dict[str, Any], tmp_path: Path) -> None:
    changed = json.loads(json.dumps(record))
    changed["protocol"]["extractor"]["fingerprint"] = "0123"
    for content, message in (
        (json.dumps(changed), "its extractor has the fingerprint 0123"),
        (json.dumps(changed | {"format": 1}), r"another version .* cannot be repeated here"),
        ("[]", r"is not a scores\.json"),
    ):
        (tmp_path / "scores.json").write_text(content)
        with pytest.raises(UserError, match=message):
            evaluated(f"run={vanilla}", f"protocol={tmp_path / 'scores.json'}")


def test_training_scores_itself_as_evaluate_does(vanilla: Path, record: dict[str, Any]) -> None:
    """The scores of the last iteration are those of its checkpoint."""
    scored = [row for row in rows(vanilla) if row["val/classifier_fid"]]
    assert [row["step"] for row in scored] == ["200", "280"]
    for name, value in record["scores"].items():
        assert float(scored[-1][f"val/{name}"]) == value, name


def test_the_best_checkpoint_is_scored_where_asked(brief: Path) -> None:
    (best,) = evaluated(f"run={brief}", "checkpoint=best", *SMALL)
    scored = [float(row["val/classifier_fid"]) for row in rows(brief) if row["val/classifier_fid"]]
    assert best["scores"]["classifier_fid"] == min(scored)
    assert best["protocol"]["generated"]["checkpoint"] == "best.ckpt"


def test_without_a_cached_classifier_a_run_does_not_score_itself(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO"):
        run = trained(tmp_path, tmp_path / "cache")
    line = "none: a classifier has to be trained on 4,500 images first; metrics=quick does that"
    assert [line in message for message in caplog.messages].count(True) == 1
    assert "val/classifier_fid" not in rows(run)[0]
    assert not (run / "checkpoints" / "best.ckpt").exists()


def test_several_runs_are_compared(
    vanilla: Path, brief: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for run in (vanilla, brief):  # composed without Hydra's part, it has no choices
        (run / "environment.json").write_text(
            json.dumps({"choices": {"model": run.parents[2].name}})
        )
    records = evaluated(f"run=[{vanilla},{brief}]", *SMALL, "metrics.num_fake=500")
    table = capsys.readouterr().out.rpartition("comparison")[2]
    assert "NOT COMPARABLE" not in table
    folder = Path(os.path.commonpath([vanilla, brief]))
    page = (folder / "comparison.md").read_text()
    with (folder / "comparison.csv").open() as file:
        written = list(csv.DictReader(file))
    for run, row, record in zip((vanilla, brief), written, records, strict=True):
        fid = record["scores"]["classifier_fid"]
        assert (Path(row["run"]), float(row["classifier_fid"])) == (run, fid)
        assert (row["model"], row["seed"]) == (run.parents[2].name, "0")
        assert f"{fid:.4g}" in table
        assert f"| {row['model']} |" in page


def test_a_floor_of_fewer_images_says_so(vanilla: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Against the training split, as papers score, the floor has the held-out images alone."""
    (record,) = evaluated(f"run={vanilla}", *SMALL, "metrics.reference=train")
    assert record["images"] == {"generated": 1000, "reference": 4500, "floor": 500}
    told = capsys.readouterr().out
    assert "500 real" in told.partition("classifier_fid")[0]  # at the head of the column
    assert "fewer than the 1,000 generated" in told


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("metrics.num_fake=5000", r"metrics.num_fake=5000: .* train split has 4500"),
        ("data.root=x", r"data.root=x: .* has no such setting"),
    ],
)
def test_what_scoring_refuses_is_told_before_anything_is_made(
    override: str, message: str, vanilla: Path, tmp_path: Path
) -> None:
    """No classifier is trained, and nothing generated."""
    with pytest.raises(ConfigError, match=message):
        evaluated(f"run={vanilla}", override, f"paths.cache_dir={tmp_path}")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_without_labels_or_held_out_images(tmp_path: Path) -> None:
    images = colour_folder(tmp_path / "images", classes=["."])
    words = ["data=image_folder", f"data.root={images}", "data.image_size=16"]
    words += ["metrics/features=pixels", "metrics.coverage_k=1", "metrics.precision_k=1"]
    run = trained(tmp_path, tmp_path / "cache", *words, "data.batch_size=4")
    assert "val/pixels_fid" in rows(run)[0]
    assert (run / "checkpoints" / "best.ckpt").is_file()
    with pytest.raises(DataError, match=r"no labels.*metrics/features=pixels"):
        evaluated(f"run={run}")
    assert not (run / "scores.json").exists()
    (record,) = evaluated(f"run={run}", *words[3:])
    assert record["protocol"]["extractor"]["name"] == "pixels"
    assert "pixels_fid" in record["floor"]
    words[2:] = ["data.image_size=16", "data.test_fraction=0", "data.batch_size=4"]
    run = trained(tmp_path / "all", tmp_path / "cache", *words)
    with pytest.raises(DataError, match="no test images"):
        evaluated(f"run={run}", "metrics/features=pixels")
