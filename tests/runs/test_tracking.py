"""A run as its trackers see it, read back from what they wrote."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from offline_wandb import read_offline_runs
from omegaconf import DictConfig, OmegaConf
from PIL import Image
from training import Compose, rows, run_folder, short

from forger.runs.train import train


def test_offline_wandb_run_holds_history_config_and_images(
    composed: Compose, tmp_path: Path
) -> None:
    words = ["logger=wandb", "logger.offline=true", "logger.tags=[a,b]", "logger.group=g"]
    train(composed(*short(tmp_path, *words, "callbacks.samples.every_n_steps=2", steps=4)))
    run = run_folder(tmp_path)
    (tracked,) = read_offline_runs(run)
    history = [row for row in tracked.history if "train/loss_g" in row]
    assert [row["trainer/global_step"] for row in history] == [1, 2, 3, 4]
    for row, written in zip(history, rows(run), strict=True):
        assert row["train/loss_g"] == float(written["train/loss_g"])
    images = tracked.images("samples/ema")
    assert sorted(images) == [2, 4]
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
    assert [image.step for image in events.Images("samples/ema")] == [3]
    assert len(read_offline_runs(run)) == 1


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
    steps = [
        [row["trainer/global_step"] for row in tracked.history if "train/loss_g" in row]
        for tracked in (first, second)
    ]
    assert steps == [[1, 2, 3, 4, 5, 6], [7, 8, 9]]
    assert sorted([*first.images("samples/ema"), *second.images("samples/ema")]) == [2, 4, 6, 8, 9]
    assert [int(row["step"]) for row in rows(run)] == list(range(1, 10))

    reader = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    events = reader.EventAccumulator(str(run / "tensorboard"), size_guidance={"images": 0})
    events.Reload()
    assert [event.step for event in events.Scalars("train/loss_d")] == list(range(1, 10))
    assert [image.step for image in events.Images("samples/ema")] == [2, 4, 6, 8, 9]
