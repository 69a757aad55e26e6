"""A run as its trackers see it, read back from what they wrote."""

from __future__ import annotations

from pathlib import Path

import pytest
from offline_wandb import read_offline_runs
from omegaconf import OmegaConf
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
