"""Whoever waits for a classifier sees how far it is."""

from __future__ import annotations

import io
import logging
from pathlib import Path

import pytest
from labelled_bars import Bars
from rich.console import Console

from forger.metrics import waiting
from forger.metrics.classifier import Classifier
from forger.metrics.waiting import shown


def test_a_terminal_has_a_bar_while_the_classifier_is_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    screen = io.StringIO()
    monkeypatch.setattr(waiting, "_REDRAW", 0.0)
    monkeypatch.setattr(
        waiting, "Console", lambda **_: Console(file=screen, force_terminal=True, width=100)
    )
    Classifier().prepare(Bars(), tmp_path)
    assert "training the classifier of the scores" in screen.getvalue()
    assert "200/200" in screen.getvalue()


def test_elsewhere_there_are_lines_now_and_then(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    clock = iter(range(0, 10_000, 20))
    monkeypatch.setattr(waiting.time, "monotonic", lambda: next(clock))
    with caplog.at_level(logging.INFO, logger="forger"), shown("features", 2000) as step:
        for _ in range(6):
            step()
    assert caplog.messages == [
        "features: 2 of 2,000",
        "features: 4 of 2,000",
        "features: 6 of 2,000",
    ]
