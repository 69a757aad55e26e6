"""A run as its trackers see it, read back from what they wrote."""

from __future__ import annotations

import json
import signal
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from offline_wandb import read_offline_runs
from omegaconf import DictConfig, OmegaConf, open_dict
from PIL import Image
from training import Compose, mark, resumed, rows, run_folder, short, trained

from forger.app.config.check import check
from forger.app.config.trust import links_out_of
from forger.app.run.train import name_trackers, train
from forger.errors import ConfigError, Interrupted, Pruned
from forger.metrics.evaluator import Evaluation

WANDB = ("logger=wandb", "logger.offline=true")
BOTH = ("logger=[wandb,tensorboard]", "logger.offline=true", "callbacks.samples.every_n_steps=2")


def test_trackers_hold_rows_images_and_the_config_of_a_run_and_no_secret(
    composed: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    secrets = ["config-secret-1", "environment-secret-2", "command-secret-3"]
    monkeypatch.setenv("MY_API_KEY", secrets[1])
    monkeypatch.setattr(sys, "argv", ["train.py", f"+data.token={secrets[2]}"])
    cfg = composed(*short(tmp_path, *BOTH, "logger.tags=[a,b]", "logger.group=g", steps=4))
    with open_dict(cfg):
        cfg.paths.api_key = secrets[0]
    train(cfg)
    run = run_folder(tmp_path)
    (tracked,) = read_offline_runs(run)
    written = {int(row["step"]): float(row["train/loss_g"]) for row in rows(run)}
    history = {r["_step"]: r["train/loss_g"] for r in tracked.history if "train/loss_g" in r}
    assert history == written
    images = tracked.images("samples/ema")
    assert (sorted(images), sorted(tracked.images("samples/real"))) == ([0, 2, 4], [0])
    with Image.open(images[4]) as sent, Image.open(run / "samples" / "last.png") as kept:
        assert sent.convert("RGB").tobytes() == kept.convert("RGB").tobytes()
    config = OmegaConf.to_container(OmegaConf.load(run / "config.yaml"))
    assert tracked.config["optimizer"]["generator"]["lr"] == config["optimizer"]["lr"]
    assert tracked.config["environment"]["packages"]["torch"]
    assert (list(tracked.run.tags), tracked.run.run_group) == (["a", "b"], "g")
    events = reader.EventAccumulator(str(run / "tensorboard")).Reload()
    seen = {event.step: event.value for event in events.Scalars("train/loss_g")}
    assert seen == pytest.approx(written)
    files = [path for path in run.rglob("*") if path.is_file()]
    assert len(files) > 10
    for path in files:
        assert not [secret for secret in secrets if secret.encode() in path.read_bytes()], path


def test_a_resumed_run_is_one_run_whose_steps_are_all_there(tmp_path: Path) -> None:
    """Killed after six iterations, when the checkpoint of four was the last."""
    reader = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    run = trained(tmp_path, *BOTH, "callbacks.checkpoint.every_n_steps=4", steps=6)
    mark(run, "running")
    (run / "checkpoints" / "previous.ckpt").replace(run / "checkpoints" / "last.ckpt")
    (run / "wandb" / "logged_up_to").unlink()
    (part,) = (run / "wandb").glob("offline-run-*")
    assert links_out_of(run) == []  # though W&B links to its log in the user's cache
    part.rename(tmp_path / "taken")  # W&B holds back the end of its file: here a kill took it all
    train(resumed(run, "trainer.max_steps=9"))
    (tracked,) = read_offline_runs(run)
    assert tracked.steps("train/loss_g") == list(range(1, 10))
    assert sorted(tracked.images("samples/ema")) == [0, 2, 4, 6, 8, 9]
    assert [int(row["step"]) for row in rows(run)] == list(range(1, 10))
    events = reader.EventAccumulator(str(run / "tensorboard"), size_guidance={"images": 0})
    events.Reload()
    assert [event.step for event in events.Scalars("train/loss_d")] == list(range(1, 10))
    assert [image.step for image in events.Images("samples/ema")] == [0, 2, 4, 6, 8, 9]


def test_jobs_are_runs_of_their_own_and_a_resumed_one_stays_in_the_group_of_its_sweep(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setenv("FORGER_SWEEP", "night")
        run = trained(tmp_path, *WANDB, "callbacks.samples.every_n_steps=2")
        other = trained(tmp_path / "other", *WANDB, "callbacks.samples=null", steps=1)
    train(resumed(run, "trainer.max_steps=4"))
    first, second = read_offline_runs(run)
    assert (first.run.run_group, first.run.job_type) == ("night", "sweep")
    (of_other,) = read_offline_runs(other)
    assert of_other.run.run_group == "night"
    assert of_other.run.run_id != first.run.run_id
    for name in ("run_id", "run_group", "job_type"):
        assert getattr(first.run, name) == getattr(second.run, name)
    assert first.steps("train/loss_g") + second.steps("train/loss_g") == [1, 2, 3, 4]
    assert [*first.images("samples/ema"), *second.images("samples/ema")] == [0, 2, 4]


def test_names_in_trackers_follow_the_sweep(
    composed: Compose, monkeypatch: pytest.MonkeyPatch
) -> None:
    def named(*words: str) -> DictConfig:
        cfg = composed("logger=[wandb,mlflow]", *words)
        name_trackers(cfg)
        return cfg.logger

    alone = named()
    assert (alone.wandb.group, alone.wandb.job_type) == (None, "train")
    assert alone.wandb.id != alone.mlflow.id
    assert named("logger.group=g", "logger.job_type=j").mlflow.group == "g"
    monkeypatch.setenv("FORGER_SWEEP", "2026_night")
    for tracker in ("wandb", "mlflow"):
        assert named()[tracker].group == "2026_night"
        assert named()[tracker].job_type == "sweep"
        assert named("logger.group=mine")[tracker].group == "mine"
        assert len({named(f"seed={seed}")[tracker].id for seed in (0, 0, 1)}) == 3
    monkeypatch.delenv("FORGER_SWEEP")
    monkeypatch.setenv("WANDB_SWEEP_ID", "s1")
    monkeypatch.setenv("WANDB_RUN_ID", "r1")
    assert (named().wandb.id, named().wandb.group) == ("r1", None)
    assert named().mlflow.id not in (None, "r1")


class FallingScores:
    """A evaluator in little: FIDs of 9, 7 and 8."""

    extractor = SimpleNamespace(classes=("cat", "dog"))
    reference_shares = (0.5, 0.5)

    def __init__(self, *arguments: object) -> None:
        self.left = iter((9.0, 7.0, 8.0))

    def evaluate(self, *arguments: object, **settings: object) -> Evaluation:
        rates = {f"d_{name}": 0.5 for name in ("tpr", "fnr", "fpr", "tnr")}
        return Evaluation({"fid": next(self.left), "coverage": 0.25} | rates, [0.4, 0.6])


def test_the_best_scores_their_checkpoint_and_figures_are_in_the_tracker(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("forger.app.run.scoring.build_evaluator", FallingScores)
    words = ["logger.log_model=best", "metrics=quick", "metrics.every_n_steps=2"]
    run = trained(tmp_path, *WANDB, *words, steps=6)
    (tracked,) = read_offline_runs(run)
    assert (tracked.summary["best/iteration"], tracked.summary["best/fid"]) == (4, 7.0)
    assert (tracked.summary["val/fid"]["min"], tracked.summary["val/fid"]["last"]) == (7.0, 8.0)
    assert tracked.steps("val/fid") == [2, 4, 6]
    for figure in ("confusion_matrix", "class_histogram"):
        assert sorted(tracked.images(f"figures/{figure}")) == [6]
    (model,) = tracked.artifacts
    assert json.loads(model.metadata)["iteration"] == 4
    kept = Path(model.manifest.contents[0].local_path).read_bytes()
    assert kept == (run / "checkpoints" / "best.ckpt").read_bytes()

    train(resumed(run, "trainer.max_steps=7"))  # whose first score, 9, is no best one
    again = read_offline_runs(run)[1]
    assert (again.summary["best/iteration"], again.summary["best/fid"]) == (4, 7.0)
    assert again.steps("val/fid") == [7]


@pytest.mark.parametrize(
    ("raised", "code"),
    [
        (RuntimeError("no"), 1),
        (Interrupted(signal.SIGTERM), 143),
        (Interrupted(signal.SIGINT), 130),
        (Pruned("slow"), 0),
    ],
)
def test_how_a_run_ended_is_told_to_the_tracker(
    raised: BaseException, code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def end(*arguments: object) -> None:
        raise raised

    monkeypatch.setattr("forger.callbacks.SampleGrid.on_train_batch_end", end)
    with pytest.raises(type(raised)):
        trained(tmp_path, *WANDB)
    (tracked,) = read_offline_runs(run_folder(tmp_path))
    assert tracked.exit_code == code


def test_what_keeps_a_tracker_from_starting_is_told_before_any_work(
    composed: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["logger=[tensorboard,mlflow,wandb]"]
    check(composed(*words))
    monkeypatch.setattr("forger.app.config.rules.find_spec", lambda package: None)
    with pytest.raises(ConfigError) as caught:
        check(composed(*words))
    for extra in ("tensorboard", "mlflow"):
        assert f'pip install -e ".[{extra}]"' in str(caught.value)

    def refuse() -> None:
        raise ConfigError("no key")

    monkeypatch.setattr("forger.loggers.wandb._check_login", refuse)
    monkeypatch.delattr("forger.app.run.train.build_data")
    with pytest.raises(ConfigError, match="no key"):
        train(composed(*short(tmp_path, "logger=wandb")))
