"""Training ends once a score has stopped getting better, a resumed one at the same iteration."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from helpers import Squares, fit, make_gan, make_trainer
from lightning import Trainer
from test_scores import Told

from forger.callbacks.checkpoint import Checkpoint
from forger.callbacks.early_stopping import EarlyStopping
from forger.callbacks.exact_resume import ExactResume
from forger.callbacks.scores import ScoreCallback
from forger.errors import ConfigError

NAN = math.nan


def trained(
    folder: Path, fids: Sequence[float], stopping: EarlyStopping, **trainer: Any
) -> Trainer:
    """Scores every second iteration, as `fids` say."""
    scores = ScoreCallback(lambda _: Told(list(fids)), every_n_steps=2, num_fake=40)
    callbacks = [ExactResume(), scores, stopping, Checkpoint()]
    settings = {"max_steps": 2 * len(fids), "enable_checkpointing": True} | trainer
    return fit(make_gan(), folder, callbacks=callbacks, **settings)


@pytest.mark.parametrize(
    ("fids", "arguments", "end"),
    [
        ([5, 4, 3, 2, 1, 0], {"patience": 1}, 12),  # always better
        ([5, 4, 4, 4, 1, 0], {"patience": 2}, 8),
        ([5, 6, 4, 6, 3, 6], {"patience": 2}, 12),  # twice, but never in a row
        ([5, 4.9, 4.8, 4.7, 1, 0], {"patience": 2, "min_delta": 0.5}, 6),
        ([NAN, NAN, NAN, 1, 1, 1], {"patience": 3}, 6),
        ([NAN, 5, NAN, NAN, 1, 1], {"patience": 2}, 8),
        ([5, 6, 7, 7, 8, 9], {"patience": 1, "mode": "max", "metric": "val/fid"}, 8),
        ([0.5] * 6, {"patience": 2, "metric": "val/coverage"}, 6),  # higher is known to be better
    ],
)
def test_patience_is_counted_in_scores(
    fids: list[float], arguments: dict[str, Any], end: int, tmp_path: Path
) -> None:
    """An epoch has 8 iterations here: most have several scores, and the last ones none."""
    stopping = EarlyStopping(**arguments)
    trainer = trained(tmp_path, fids, stopping)
    assert trainer.global_step == end
    assert (stopping.reason is not None) == (end < 12)


def test_the_reason_names_score_and_best(tmp_path: Path) -> None:
    stopping = EarlyStopping(patience=2)
    trained(tmp_path, [5, 4, 4, 4, 1], stopping)
    assert stopping.reason == (
        "ended early: val/fid was 2 times in a row no better than 4, of iteration 4"
    )


def test_a_training_metric_counts_as_often_as_it_is_logged(tmp_path: Path) -> None:
    stopping = EarlyStopping(metric="train/images_seen", mode="min", patience=2)
    trainer = fit(make_gan(), tmp_path, callbacks=[stopping], max_steps=9, log_every_n_steps=2)
    assert trainer.global_step == 6  # rows of 2, 4 and 6


def test_the_least_that_was_asked_for_is_trained(tmp_path: Path) -> None:
    """An epoch has 8 iterations; Lightning asks for one whole epoch with `min_steps` too."""
    stopping = EarlyStopping(patience=1)
    assert trained(tmp_path, [1, 2, 2, 2, 2, 2], stopping, min_steps=7).global_step == 10
    stopping = EarlyStopping(patience=1)
    assert trained(tmp_path / "b", [1, 2, 2, 2, 2, 2], stopping, min_epochs=1).global_step == 10


@pytest.mark.parametrize("at", [4, 5, 6, 7])
def test_a_resumed_training_ends_where_it_would_have(at: int, tmp_path: Path) -> None:
    fids = [5.0, 4, 4.5, 4.2, 4.1, 1]
    whole = EarlyStopping(patience=3)
    end = trained(tmp_path / "whole", fids, whole).global_step
    assert end == 10
    trained(tmp_path, fids, EarlyStopping(patience=3), max_steps=at)
    last = tmp_path / "checkpoints" / "last.ckpt"
    rest = EarlyStopping(patience=3)
    scores = ScoreCallback(lambda _: Told(fids[at // 2 :]), every_n_steps=2, num_fake=40)
    trainer = make_resumed(tmp_path, [scores, rest], last)
    assert trainer.global_step == end
    assert rest.state_dict() == whole.state_dict()


def make_resumed(folder: Path, callbacks: list[Any], checkpoint: Path) -> Trainer:
    trainer = make_trainer(folder, callbacks=[ExactResume(), *callbacks], max_steps=12)
    trainer.fit(make_gan(), datamodule=Squares(batch_size=8, seed=0), ckpt_path=checkpoint)
    return trainer


def test_one_killed_after_its_end_does_not_go_on(tmp_path: Path) -> None:
    fids = [5.0, 6, 6]
    trained(tmp_path, [*fids, 1, 1], EarlyStopping(patience=2))
    last = tmp_path / "checkpoints" / "last.ckpt"
    again = EarlyStopping(patience=2)
    scores = ScoreCallback(lambda _: Told([6.0, 6.0]), every_n_steps=2, num_fake=40)
    assert make_resumed(tmp_path / "a", [scores, again], last).global_step == 6
    assert again.reason is not None
    more = EarlyStopping(patience=3)
    scores = ScoreCallback(lambda _: Told([6.0, 1, 1]), every_n_steps=2, num_fake=40)
    assert make_resumed(tmp_path / "b", [scores, more], last).global_step == 8


def test_without_scores_there_is_nothing_to_wait_for(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"metric=null: .*does not score itself; write metrics="):
        fit(make_gan(), tmp_path, callbacks=[EarlyStopping()])
