"""What a run starts from and what it leaves."""

from __future__ import annotations

from pathlib import Path

import pytest
from disks import read_only
from test_command import ROOT, mistakes
from training import Compose, rows, run_folder, short

from forger.app.config.start_rules import LOGGED, logged
from forger.app.run.train import train


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("none", "init_from=none: there is no such folder or file"),
        ("''", "init_from='': must name a run; write init_from=<run folder>"),
        (ROOT / "README.md", "is not a checkpoint; write init_from=<run folder> or init_from=<fi"),
        (ROOT / "docs", "is not a run folder; it has no checkpoints/last.ckpt"),
    ],
)
def test_weights_that_are_none(value: object, message: str) -> None:
    (found,) = mistakes(f"init_from={value}")
    assert message in found


def test_a_folder_of_runs_that_cannot_be_written_to(tmp_path: Path) -> None:
    with read_only(tmp_path / "disk") as folder:
        (found,) = mistakes(f"paths.log_dir={folder / 'logs'}")
    expected = f"paths.log_dir={folder / 'logs'}: {folder} cannot be written to; "
    assert found.startswith(expected)


def test_a_misspelt_objective() -> None:
    (found,) = mistakes("objective=train/los_g")
    assert "objective=train/los_g: no such metric is logged; did you mean 'train/loss_g'?" in found
    assert mistakes("objective=train/penalty_r1", "loss.r1_gamma=1") == []
    (found,) = mistakes("objective=train/accuracy", "loss=wgan_gp")
    assert "did you mean 'train/relative_accuracy'?" in found
    assert mistakes("objective=train/relative_tpr", "loss=r3gan") == []
    own = "+callbacks.mine={_target_:lightning.pytorch.callbacks.DeviceStatsMonitor}"
    assert mistakes("objective=mine", own) == []


@pytest.mark.parametrize(
    ("loss", "expected"),
    [("non_saturating", set(LOGGED)), ("wasserstein", set(logged("Wasserstein")))],
)
def test_what_training_logs_is_what_it_says(
    loss: str, expected: set[str], composed: Compose, tmp_path: Path
) -> None:
    train(composed(*short(tmp_path, f"loss={loss}", steps=1)))
    (row,) = rows(run_folder(tmp_path))
    assert {name for name in row if name.startswith("train/")} == expected


def test_variables_of_lightning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PL_TRAINER_MAX_EPOCHS", "3")
    (found,) = mistakes()
    assert found == (
        "environment variable PL_TRAINER_MAX_EPOCHS: would change the Trainer unseen; unset it and"
        " write trainer.max_epochs=<value>"
    )
