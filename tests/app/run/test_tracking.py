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
from training import Compose, command, rows, run_folder, short

from forger.app.config.check import check
from forger.app.run.draws import name_trackers
from forger.app.run.train import train
from forger.errors import ConfigError, Interrupted, Pruned
from forger.metrics.evaluator import Evaluation


def test_offline_wandb_run_holds_history_config_and_images(
    composed: Compose, tmp_path: Path
) -> None:
    words = ["logger=wandb", "logger.offline=true", "logger.tags=[a,b]", "logger.group=g"]
    train(composed(*short(tmp_path, *words, "callbacks.samples.every_n_steps=2", steps=4)))
    run = run_folder(tmp_path)
    (tracked,) = read_offline_runs(run)
    history = [row for row in tracked.history if "train/loss_g" in row]
    assert [row["iteration"] for row in history] == [1, 2, 3, 4]
    for row, written in zip(history, rows(run), strict=True):
        assert row["train/loss_g"] == float(written["train/loss_g"])
    images = tracked.images("samples/ema")
    assert sorted(images) == [0, 2, 4]
    assert sorted(tracked.images("samples/real")) == [0]
    with Image.open(images[4]) as sent, Image.open(run / "samples" / "last.png") as kept:
        assert sent.convert("RGB").tobytes() == kept.convert("RGB").tobytes()
    config = OmegaConf.to_container(OmegaConf.load(run / "config.yaml"))
    assert tracked.config["optimizer"]["generator"]["lr"] == config["optimizer"]["lr"]
    assert tracked.config["environment"]["packages"]["torch"]
    assert list(tracked.run.tags) == ["a", "b"]
    assert tracked.run.run_group == "g"
    assert tracked.exit_code == 0


def test_failed_run_is_failed_in_the_tracker(
    composed: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def explode(*arguments: object) -> None:
        raise RuntimeError("no")

    monkeypatch.setattr("forger.callbacks.SampleGrid.on_train_batch_end", explode)
    with pytest.raises(RuntimeError):
        train(composed(*short(tmp_path, "logger=wandb", "logger.offline=true")))
    (tracked,) = read_offline_runs(run_folder(tmp_path))
    assert tracked.exit_code == 1


def test_several_trackers_together(composed: Compose, tmp_path: Path) -> None:
    reader = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    train(composed(*short(tmp_path, "logger=[wandb,tensorboard]", "logger.offline=true", steps=3)))
    run = run_folder(tmp_path)
    events = reader.EventAccumulator(str(run / "tensorboard"))
    events.Reload()
    written = {int(row["step"]): float(row["train/loss_d"]) for row in rows(run)}
    seen = {event.step: event.value for event in events.Scalars("train/loss_d")}
    assert seen == pytest.approx(written)
    assert [image.step for image in events.Images("samples/ema")] == [0, 3]
    assert len(read_offline_runs(run)) == 1


def test_rows_and_pictures_that_a_kill_took_from_wandb_are_sent_again(
    composed: Compose, tmp_path: Path
) -> None:
    """W&B holds back the end of its file: here all after the second row is lost."""
    words = ["logger=wandb", "logger.offline=true", "callbacks.samples.every_n_steps=2"]
    train(composed(*short(tmp_path, *words, steps=4)))
    run = run_folder(tmp_path)
    (path,) = run.glob("wandb/offline-run-*/*.wandb")
    whole = path.read_bytes()
    read_offline_runs(run)
    cut = len(whole)
    while len(read_offline_runs(run, patience=0)[0].steps("train/loss_g")) > 2:
        cut -= 64
        path.write_bytes(whole[:cut])
    path.write_bytes(whole[: cut + 5])  # the header of a piece, and no more
    train(resumed(run, 6))
    tracked = read_offline_runs(run, patience=0)
    assert sorted(step for one in tracked for step in one.steps("train/loss_g")) == [*range(1, 7)]
    assert sorted(step for one in tracked for step in one.images("samples/ema")) == [0, 2, 4, 6]
    assert tracked[-1].exit_code == 0


def test_a_run_killed_when_all_but_its_end_was_written_ends_in_the_tracker(
    composed: Compose, tmp_path: Path
) -> None:
    train(composed(*short(tmp_path, "logger=wandb", "logger.offline=true", steps=2)))
    run = run_folder(tmp_path)
    status = json.loads((run / "status.json").read_text()) | {"status": "running", "pid": 2**22 - 3}
    (run / "status.json").write_text(json.dumps(status))
    assert train(resumed(run, 2))["train/loss_g"] is not None
    first, second = read_offline_runs(run)
    assert (first.steps("train/loss_g"), second.steps("train/loss_g")) == ([1, 2], [])
    assert (second.run.run_id, second.exit_code) == (first.run.run_id, 0)


def test_a_tracker_that_joins_a_run_later_gets_all_of_it(composed: Compose, tmp_path: Path) -> None:
    reader = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    train(composed(*short(tmp_path, steps=3)))
    run = run_folder(tmp_path)
    cfg = resumed(run, 5)
    trackers = composed("logger=[wandb,tensorboard]", "logger.offline=true").logger
    cfg.logger = OmegaConf.to_container(trackers, resolve=True)
    train(cfg)
    (tracked,) = read_offline_runs(run)
    assert tracked.steps("train/loss_g") == [1, 2, 3, 4, 5]
    assert sorted(tracked.images("samples/ema")) == [0, 3, 5]
    events = reader.EventAccumulator(str(run / "tensorboard")).Reload()
    assert [event.step for event in events.Scalars("train/loss_g")] == [1, 2, 3, 4, 5]


def resumed(run: Path, steps: int) -> DictConfig:
    cfg = OmegaConf.load(run / "config.yaml")
    assert isinstance(cfg, DictConfig)
    cfg.resume, cfg.trainer.max_steps = str(run), steps
    return cfg


def test_a_resumed_run_is_one_run_and_no_step_is_logged_twice(
    composed: Compose, tmp_path: Path
) -> None:
    """Killed after six iterations, when the checkpoint of four was the last."""
    words = [
        "logger=[wandb,tensorboard]",
        "logger.offline=true",
        "callbacks.samples.every_n_steps=2",
    ]
    words += ["callbacks.checkpoint.every_n_steps=4"]
    train(composed(*short(tmp_path, *words, steps=6)))
    run = run_folder(tmp_path)
    checkpoints = run / "checkpoints"
    (checkpoints / "previous.ckpt").replace(checkpoints / "last.ckpt")
    status = json.loads((run / "status.json").read_text()) | {"status": "running", "pid": 2**22 - 3}
    (run / "status.json").write_text(json.dumps(status))
    train(resumed(run, 9))

    first, second = read_offline_runs(run)
    assert first.run.run_id == second.run.run_id
    assert [first.steps("train/loss_g"), second.steps("train/loss_g")] == [
        [1, 2, 3, 4, 5, 6],
        [7, 8, 9],
    ]
    numbers = [row["_step"] for tracked in (first, second) for row in tracked.history]
    assert numbers == list(range(len(numbers)))  # W&B's own count goes on, too
    drawn = [*first.images("samples/ema"), *second.images("samples/ema")]
    assert sorted(drawn) == [0, 2, 4, 6, 8, 9]
    assert [int(row["step"]) for row in rows(run)] == list(range(1, 10))

    reader = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    events = reader.EventAccumulator(str(run / "tensorboard"), size_guidance={"images": 0})
    events.Reload()
    assert [event.step for event in events.Scalars("train/loss_d")] == list(range(1, 10))
    assert [image.step for image in events.Images("samples/ema")] == [0, 2, 4, 6, 8, 9]


def test_a_sweep_is_a_group_of_runs_and_a_resumed_job_stays_in_it(tmp_path: Path) -> None:
    words = ["logger=wandb", "logger.offline=true", "seed=0,1", "callbacks.samples.every_n_steps=2"]
    done = command("-m", *short(tmp_path, *words), environment={"WANDB_MODE": "offline"})
    assert done.returncode == 0, done.stderr
    sweep = next((tmp_path / "logs").rglob("status.json")).parents[1]
    for seed in (0, 1):
        job = next(sweep.glob(f"{seed}_*"))
        (tracked,) = read_offline_runs(job)
        assert (tracked.run.run_group, tracked.run.job_type) == (sweep.name, "sweep")
        assert tracked.run.display_name == f"{seed}_vanilla-non_saturating-mnist_sample-s{seed}"
        assert tracked.config["seed"] == seed
        assert tracked.config["choice_model"] == "vanilla"
        assert tracked.config["environment"]["git"]["commit"] == tracked.run.git.commit
        assert tracked.steps("train/loss_g") == [1, 2]
        assert tracked.metrics["*"].step_metric == "iteration"
        losses = [row["train/loss_g"] for row in tracked.history if "train/loss_g" in row]
        assert tracked.summary["train/loss_g"] == losses[-1]
        assert sorted(tracked.images("samples/ema")) == [0, 2]
        assert tracked.exit_code == 0
    assert len({read_offline_runs(job)[0].run.run_id for job in sweep.glob("[01]_*")}) == 2

    train(resumed(job, 4))
    parts = read_offline_runs(job)
    assert len(parts) == 2
    assert len({(part.run.run_id, part.run.run_group, part.run.job_type) for part in parts}) == 1
    assert [step for part in parts for step in part.steps("train/loss_g")] == [1, 2, 3, 4]
    assert [step for part in parts for step in part.images("samples/ema")] == [0, 2, 4]


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
    monkeypatch.delenv("FORGER_SWEEP")
    monkeypatch.setenv("WANDB_SWEEP_ID", "s1")
    monkeypatch.setenv("WANDB_RUN_ID", "r1")
    assert (named().wandb.id, named().wandb.group) == ("r1", None)
    assert named().mlflow.id not in (None, "r1")


def test_no_secret_reaches_a_tracker(
    composed: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secrets = ["config-secret-1", "environment-secret-2", "command-secret-3"]
    monkeypatch.setenv("MY_API_KEY", secrets[1])
    monkeypatch.setattr(sys, "argv", ["train.py", f"+data.token={secrets[2]}"])
    words = ["logger=[wandb,tensorboard]", "logger.offline=true"]
    cfg = composed(*short(tmp_path, *words, steps=1))
    with open_dict(cfg):
        cfg.paths.api_key = secrets[0]
    train(cfg)
    read_offline_runs(run_folder(tmp_path))
    written = [path for path in run_folder(tmp_path).rglob("*") if path.is_file()]
    assert len(written) > 10
    for path in written:
        content = path.read_bytes()
        assert not [secret for secret in secrets if secret.encode() in content], path


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
    composed: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("forger.app.run.scoring.build_evaluator", FallingScores)
    words = ["logger=wandb", "logger.offline=true", "logger.log_model=best"]
    words += ["metrics=quick", "metrics.every_n_steps=2"]
    train(composed(*short(tmp_path, *words, steps=6)))
    run = run_folder(tmp_path)
    (tracked,) = read_offline_runs(run)
    assert (tracked.summary["best/iteration"], tracked.summary["best/fid"]) == (4, 7.0)
    assert tracked.summary["val/fid"] == {"min": 7.0, "last": 8.0}
    assert tracked.steps("val/fid") == [2, 4, 6]
    for figure in ("confusion_matrix", "class_histogram"):
        assert sorted(tracked.images(f"figures/{figure}")) == [6]
    (model,) = tracked.artifacts
    assert json.loads(model.metadata)["iteration"] == 4
    kept = Path(model.manifest.contents[0].local_path).read_bytes()
    assert kept == (run / "checkpoints" / "best.ckpt").read_bytes()

    train(resumed(run, 7))  # whose first score, 9, is no best one
    again = read_offline_runs(run)[1]
    assert (again.summary["best/iteration"], again.summary["best/fid"]) == (4, 7.0)
    assert again.steps("val/fid") == [7]


@pytest.mark.parametrize(
    ("raised", "code"),
    [(Interrupted(signal.SIGTERM), 143), (Interrupted(signal.SIGINT), 130), (Pruned("slow"), 0)],
)
def test_how_a_run_ended_is_told_to_the_tracker(
    composed: Compose,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    raised: BaseException,
    code: int,
) -> None:
    def end(*arguments: object) -> None:
        raise raised

    monkeypatch.setattr("forger.callbacks.SampleGrid.on_train_batch_end", end)
    with pytest.raises(type(raised)):
        train(composed(*short(tmp_path, "logger=wandb", "logger.offline=true")))
    (tracked,) = read_offline_runs(run_folder(tmp_path))
    assert tracked.exit_code == code


def test_a_missing_package_is_told_before_any_work(
    composed: Compose, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["logger=[tensorboard,mlflow,wandb]"]
    check(composed(*words))
    monkeypatch.setattr("forger.app.config.logger_rules.find_spec", lambda package: None)
    with pytest.raises(ConfigError) as caught:
        check(composed(*words))
    for extra in ("tensorboard", "mlflow"):
        assert f'pip install -e ".[{extra}]"' in str(caught.value)
    assert "sqlalchemy" in str(caught.value)  # without a server
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://mlflow.example")
    with pytest.raises(ConfigError) as caught:
        check(composed(*words))
    assert "sqlalchemy" not in str(caught.value)


def test_a_missing_key_is_told_before_any_data_work(
    composed: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse() -> None:
        raise ConfigError("no key")

    def no_work(*arguments: object) -> None:
        raise AssertionError

    monkeypatch.setattr("forger.loggers.weights_and_biases.check_wandb_login", refuse)
    monkeypatch.setattr("forger.app.run.train.build_data", no_work)
    with pytest.raises(ConfigError, match="no key"):
        train(composed(*short(tmp_path, "logger=wandb")))
