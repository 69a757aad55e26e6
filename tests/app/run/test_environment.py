"""The record of what a run ran on."""

from __future__ import annotations

import subprocess
from typing import Any

import pytest

from forger.app.run.environment import describe_environment


def test_a_later_job_of_a_process_asks_nothing_again(monkeypatch: pytest.MonkeyPatch) -> None:
    first = describe_environment(seed=0)

    def refuse(*arguments: Any, **settings: Any) -> None:
        raise AssertionError(f"started {arguments}")

    monkeypatch.setattr(subprocess, "run", refuse)
    assert describe_environment(seed=1) == first | {"seed": 1}
