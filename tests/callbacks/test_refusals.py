from __future__ import annotations

from typing import Any

import pytest

from forger.callbacks import Checkpoint, SampleGrid, TrainingGif
from forger.callbacks.early_stopping import EarlyStopping
from forger.callbacks.scores import ScoreCallback
from forger.errors import ConfigError

CALLBACKS = {
    "checkpoint": Checkpoint,
    "early_stopping": EarlyStopping,
    "gif": TrainingGif,
    "samples": SampleGrid,
}


@pytest.mark.parametrize(
    ("name", "setting", "value", "message"),
    [
        ("checkpoint", "every_n_steps", 0, "0: must be a whole number of at least 1"),
        ("checkpoint", "every_n_minutes", 0, "0: must be a number above 0"),
        ("checkpoint", "every_n_epochs", 0, "0: must be a whole number of at least 1"),
        ("early_stopping", "patience", 0, "0: must be a whole number of at least 1"),
        ("early_stopping", "min_delta", -1.0, r"-1\.0: must be a number of at least 0"),
        ("early_stopping", "mode", "low", "low: must be min or max"),
        ("gif", "frames", 0, "0: must be a whole number of at least 1"),
        ("gif", "rate", 0, "0: must be a whole number of at least 1"),
        ("samples", "n", 1.5, r"1\.5: must be a whole number of at least 1"),
        ("samples", "every_n_steps", 0, "0: must be a whole number of at least 1"),
        ("samples", "seed", -1, "-1: must be a whole number of at least 0"),
    ],
)
def test_a_senseless_setting_is_refused_by_name(
    name: str, setting: str, value: Any, message: str
) -> None:
    with pytest.raises(ConfigError, match=f"^callbacks.{name}.{setting}={message}"):
        CALLBACKS[name](**{setting: value})


def test_a_metric_that_may_go_either_way_needs_a_mode() -> None:
    with pytest.raises(ConfigError, match="mode=null: must be min or max for train/loss_g"):
        EarlyStopping(metric="train/loss_g")


@pytest.mark.parametrize("name", ["every_n_steps", "num_fake"])
def test_numbers_of_scores_are_refused_by_name(name: str) -> None:
    settings: dict[str, Any] = {"every_n_steps": 2, "num_fake": 40, name: 0}
    with pytest.raises(ConfigError, match=f"metrics.{name}=0"):
        ScoreCallback(lambda device: None, **settings)  # type: ignore[arg-type,return-value]
