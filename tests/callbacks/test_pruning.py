"""A run that its search ends early."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from fake_gan import fit
from lightning.pytorch import Callback

from forger.callbacks import Checkpoint
from forger.callbacks.pruning import Pruning
from forger.errors import Pruned


class Scoring(Callback):
    """A score every two iterations: the number of the iteration."""

    def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
        if trainer.global_step % 2 == 0:
            trainer.callback_metrics["val/fid"] = torch.tensor(float(trainer.global_step))


class Judge:
    """A trial that wants to be ended from an iteration on."""

    def __init__(self, until: int = 1000, broken: bool = False) -> None:
        self.until, self.broken = until, broken
        self.told: list[tuple[float, int]] = []

    def report(self, value: float, step: int) -> None:
        if self.broken:
            raise OSError("the database is locked")
        self.told.append((value, step))

    def should_prune(self) -> bool:
        return self.told[-1][1] >= self.until


def test_each_score_is_told_once_and_training_ends_when_asked_saved(tmp_path: Path) -> None:
    judge = Judge(until=6)
    with pytest.raises(Pruned, match=r"iteration 6: val/fid = 6 falls behind"):
        fit(tmp_path, Pruning("val/fid", lambda: judge), Checkpoint(), Scoring())
    assert judge.told == [(2.0, 2), (4.0, 4), (6.0, 6)]
    saved = torch.load(tmp_path / "checkpoints" / "last.ckpt", weights_only=True)
    assert saved["global_step"] == 6


def test_a_run_that_is_over_is_not_pruned(tmp_path: Path) -> None:
    judge = Judge(until=10)
    trainer = fit(tmp_path, Pruning("val/fid", lambda: judge), Checkpoint(), Scoring())
    assert trainer.global_step == 10
    assert judge.told[-1] == (10.0, 10)


def test_a_metric_that_never_comes_ends_nothing(tmp_path: Path) -> None:
    judge = Judge(until=0)
    assert fit(tmp_path, Pruning("val/kid", lambda: judge), Scoring()).global_step == 10
    assert not judge.told


def test_a_search_that_cannot_be_reached_is_told_of_once_and_ends_no_training(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "forger")
    pruning = Pruning("val/fid", lambda: Judge(broken=True))
    assert fit(tmp_path, pruning, Checkpoint(), Scoring()).global_step == 10
    (line,) = (record.message for record in caplog.records)
    assert line.endswith("so this run is not pruned: the database is locked")


def test_a_trial_that_has_ended_is_left_alone(tmp_path: Path) -> None:
    trainer = fit(tmp_path, Pruning("val/fid", lambda: None), Checkpoint(), Scoring())
    assert trainer.global_step == 10
