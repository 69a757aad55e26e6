"""A run that its search ends early."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from short_run import After, last, run

from forger.callbacks import Checkpoint
from forger.callbacks.pruning import Pruning
from forger.errors import Pruned


def score(trainer: Any) -> None:
    """A score every two iterations: the number of the iteration."""
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


def judged(folder: Path, judge: Judge | None, metric: str = "val/fid") -> int:
    pruning: Any = Pruning(metric, lambda: judge)  # type: ignore[arg-type,return-value]
    return run(folder, pruning, Checkpoint(), After(score)).global_step


def test_each_score_is_told_once_and_training_ends_when_asked_saved(tmp_path: Path) -> None:
    judge = Judge(until=6)
    with pytest.raises(Pruned, match=r"iteration 6: val/fid = 6 falls behind"):
        judged(tmp_path, judge)
    assert judge.told == [(2.0, 2), (4.0, 4), (6.0, 6)]
    assert last(tmp_path)["global_step"] == 6


def test_a_run_that_is_over_is_not_pruned(tmp_path: Path) -> None:
    judge = Judge(until=10)
    assert judged(tmp_path, judge) == 10
    assert judge.told[-1] == (10.0, 10)


def test_a_metric_that_never_comes_and_a_trial_that_has_ended_end_nothing(tmp_path: Path) -> None:
    judge = Judge(until=0)
    assert judged(tmp_path, judge, "val/kid") == 10
    assert not judge.told
    assert judged(tmp_path, None) == 10


def test_a_search_that_cannot_be_reached_is_told_of_once_and_ends_no_training(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "forger")
    assert judged(tmp_path, Judge(broken=True)) == 10
    (line,) = (record.message for record in caplog.records)
    assert line.endswith("so this run is not pruned: the database is locked")
