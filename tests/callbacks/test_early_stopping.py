"""Training ends once a score has stopped getting better, a resumed one at the same iteration."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from helpers import fit, make_gan
from lightning import Trainer
from test_scores import Told

from forger.callbacks.checkpoint import Checkpoint
from forger.callbacks.early_stopping import EarlyStopping
from forger.callbacks.exact_resume import ExactResume
from forger.callbacks.scores import ScoreCallback
from forger.errors import ConfigError

NAN = math.nan


def trained(
    folder: Path, fids: Sequence[float], stopping: EarlyStopping, **settings: Any
) -> Trainer:
    """Scores every second iteration, as `fids` say."""
    scores = ScoreCallback(lambda _: Told(list(fids)), every_n_steps=2, num_fake=40)
    callbacks = [ExactResume(), scores, stopping, Checkpoint()]
    defaults = {"max_steps": 2 * len(fids), "enable_checkpointing": True}
    return fit(make_gan(), folder, callbacks=callbacks, **(defaults | settings))


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
    assert trained(tmp_path, fids, stopping).global_step == end
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


@pytest.mark.parametrize("least", [{"min_steps": 7}, {"min_epochs": 1}])
def test_the_least_that_was_asked_for_is_trained(least: dict[str, int], tmp_path: Path) -> None:
    """An epoch has 8 iterations; Lightning asks for one whole epoch with `min_steps` too."""
    stopping = EarlyStopping(patience=1)
    assert trained(tmp_path, [1, 2, 2, 2, 2, 2], stopping, **least).global_step == 10


@pytest.mark.parametrize("at", [4, 5, 6, 7])
def test_a_resumed_training_ends_where_it_would_have(at: int, tmp_path: Path) -> None:
    fids = [5.0, 4, 4.5, 4.2, 4.1, 1]
    whole, rest = EarlyStopping(patience=3), EarlyStopping(patience=3)
    assert trained(tmp_path / "whole", fids, whole).global_step == 10
    trained(tmp_path, fids, EarlyStopping(patience=3), max_steps=at)
    path = tmp_path / "checkpoints" / "last.ckpt"
    resumed = trained(tmp_path / "b", fids[at // 2 :], rest, max_steps=12, ckpt_path=path)
    assert resumed.global_step == 10
    assert rest.state_dict() == whole.state_dict()


@pytest.mark.parametrize(("patience", "end"), [(2, 6), (3, 8)])
def test_one_killed_after_its_end_goes_on_with_more_patience_alone(
    patience: int, end: int, tmp_path: Path
) -> None:
    trained(tmp_path, [5.0, 6, 6, 1, 1], EarlyStopping(patience=2))
    path, again = tmp_path / "checkpoints" / "last.ckpt", EarlyStopping(patience=patience)
    fids = [6.0, 6, 6]
    resumed = trained(tmp_path / "b", fids, again, max_steps=12, ckpt_path=path)
    assert resumed.global_step == end


def test_without_scores_there_is_nothing_to_wait_for(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"metric=null: .*does not score itself; write metrics="):
        fit(make_gan(), tmp_path, callbacks=[EarlyStopping()])
