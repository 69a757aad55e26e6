"""Names of classes that a task is told: those of the data, and none where it may do without."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from composing import compose_config

from forger.app.run.build import classes_of
from forger.errors import ConfigError


@pytest.mark.parametrize(
    ("task", "own", "told"),
    [
        ("refine", {"classes": ("cat", "dog")}, ("cat", "dog")),
        ("refine", {"classes": ("alone",)}, ()),
        ("refine", {}, ()),
        ("from_noise", {"classes": ("cat", "dog")}, ()),
    ],
)
def test_a_task_that_asks_is_told_what_there_is(task: str, own: Any, told: Any) -> None:
    cfg = compose_config("train", f"task={task}")
    assert classes_of(cfg, SimpleNamespace(**own)) == told


def test_a_condition_cannot_do_without() -> None:
    with pytest.raises(ConfigError, match="needs data of two classes or more"):
        classes_of(compose_config("train", "condition=label"), SimpleNamespace(classes=("alone",)))
