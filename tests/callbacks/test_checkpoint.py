from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from fake_gan import FakeGAN, fit
from lightning.pytorch import Callback

from forger.callbacks import Checkpoint
from forger.errors import ConfigError


def saves(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The iterations at which a checkpoint is written."""
    steps: list[int] = []
    save = Checkpoint._save

    def counted(self: Checkpoint, trainer: Any) -> None:
        steps.append(trainer.global_step)
        save(self, trainer)

    monkeypatch.setattr(Checkpoint, "_save", counted)
    return steps


def load(folder: Path) -> dict[str, Any]:
    checkpoint: dict[str, Any] = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)
    return checkpoint


def test_one_file_holds_the_newest_state_and_loads_as_weights_only(tmp_path: Path) -> None:
    gan = FakeGAN()
    fit(tmp_path, Checkpoint(every_n_steps=3), gan=gan, max_epochs=2)

    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["last.ckpt"]
    checkpoint = load(tmp_path)
    assert checkpoint["global_step"] == 20
    weights = gan.state_dict()
    assert all(torch.equal(weights[k], v) for k, v in checkpoint["state_dict"].items())


def test_saves_at_the_interval_and_at_the_end_of_each_epoch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = saves(monkeypatch)
    fit(tmp_path, Checkpoint(every_n_steps=5), max_epochs=2, batches=7)
    assert steps == [5, 7, 10, 14]


def test_by_default_saves_at_the_end_of_epochs_and_of_training_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = saves(monkeypatch)
    fit(tmp_path, Checkpoint(), max_epochs=-1, max_steps=13)
    assert steps == [10, 13]


def test_a_run_continues_into_the_same_file(tmp_path: Path) -> None:
    fit(tmp_path, Checkpoint())
    last = tmp_path / "checkpoints" / "last.ckpt"
    fit(tmp_path, Checkpoint(), max_epochs=3, ckpt_path=last)

    assert [path.name for path in last.parent.iterdir()] == ["last.ckpt"]
    assert load(tmp_path)["global_step"] == 30


def test_a_failed_run_keeps_its_last_checkpoint(tmp_path: Path) -> None:
    class Fail(Callback):
        def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
            if trainer.global_step == 8:
                raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="broken"):
        fit(tmp_path, Checkpoint(every_n_steps=3), Fail())
    assert load(tmp_path)["global_step"] == 6


def test_a_senseless_interval_is_refused_by_name() -> None:
    with pytest.raises(ConfigError, match="every_n_steps=0"):
        Checkpoint(every_n_steps=0)
