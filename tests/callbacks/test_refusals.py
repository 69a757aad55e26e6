from __future__ import annotations

from typing import Any

import pytest

from forger.callbacks import Checkpoint, SampleGrid, TrainingGif
from forger.callbacks.early_stopping import EarlyStopping
from forger.callbacks.scores import ScoreCallback
from forger.errors import ConfigError


def score(**settings: Any) -> ScoreCallback:
    return ScoreCallback(lambda _: None, **({"every_n_steps": 2} | settings))  # type: ignore


@pytest.mark.parametrize(
    ("make", "key", "value", "message"),
    [
        (Checkpoint, "callbacks.checkpoint.every_n_steps", 0, "must be a whole number of at least"),
        (Checkpoint, "callbacks.checkpoint.every_n_minutes", 0, "must be a number above 0"),
        (EarlyStopping, "callbacks.early_stopping.patience", 0, "must be a whole number"),
        (EarlyStopping, "callbacks.early_stopping.mode", "low", "must be min or max"),
        (TrainingGif, "callbacks.gif.rate", 0, "must be a whole number of at least 1"),
        (SampleGrid, "callbacks.samples.n", 1.5, "must be a whole number of at least 1"),
        (SampleGrid, "callbacks.samples.seed", -1, "must be a whole number of at least 0"),
        (score, "metrics.num_fake", 0, "must be a whole number of at least 1"),
    ],
)
def test_a_senseless_setting_is_refused_by_name(
    make: Any, key: str, value: Any, message: str
) -> None:
    with pytest.raises(ConfigError, match=f"^{key}={value}: {message}"):
        make(**{key.rpartition(".")[2]: value})


def test_a_metric_that_may_go_either_way_needs_a_mode() -> None:
    with pytest.raises(ConfigError, match="mode=null: must be min or max for train/loss_g"):
        EarlyStopping(metric="train/loss_g")
