from __future__ import annotations

import io
import logging
import re
import sys
from pathlib import Path
from typing import Any

import pytest
from lightning.pytorch import Callback
from short_run import After, run

from forger.callbacks import Checkpoint, ProgressBar
from forger.callbacks.exact_resume import ExactResume

LOG = "forger.callbacks.progress_bar"
NUMBER = r"-?[\d.e-]+"


@pytest.fixture
def logged(caplog: pytest.LogCaptureFixture) -> Any:
    caplog.set_level(logging.INFO, LOG)
    return lambda: [record.getMessage() for record in caplog.records if record.name == LOG]


class Terminal(io.StringIO):
    """Takes the place of standard error."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        super().__init__()
        monkeypatch.setattr(sys, "stderr", self)

    def isatty(self) -> bool:
        return True


class Clock(Callback):
    """Lets each iteration take `seconds`, on the clock that the progress reads."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
        self.now, self.seconds = 1000.0, seconds
        monkeypatch.setattr("time.monotonic", lambda: self.now)

    def on_train_batch_start(self, *_: Any) -> None:
        self.now += self.seconds


def test_a_terminal_shows_one_bar_over_the_whole_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, logged: Any
) -> None:
    terminal = Terminal(monkeypatch)
    trainer = run(tmp_path, ProgressBar(), max_epochs=3)
    end = terminal.getvalue().strip().split("\r")[-1]
    numbers = rf"epoch 3, loss_g {NUMBER}, loss_d {NUMBER}, \d+ images/s"
    assert re.search(rf"30/30 \[\d\d:\d\d<00:00, .*{numbers}\]", end), end
    assert isinstance(trainer.progress_bar_callback, ProgressBar)  # Lightning adds none
    assert logged() == []


def test_the_bar_is_drawn_four_times_a_second_however_fast_iterations_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Terminal(monkeypatch)
    drawn: list[str] = []
    monkeypatch.setattr("tqdm.std.tqdm.set_postfix_str", lambda _, text: drawn.append(text))
    run(tmp_path, ProgressBar(), Clock(monkeypatch, 1 / 128), batches=128)
    assert len(drawn) == 5  # four in one second, and the end


def test_elsewhere_it_is_lines_in_the_log_that_grow_rarer(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    logged: Any,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run(tmp_path, ProgressBar(), Clock(monkeypatch, 20.0), batches=50, max_epochs=2)
    steps = [int(line.removeprefix("iteration ").split("/100")[0]) for line in logged()]
    assert steps[:12] == [2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 25]
    assert steps[12:] == [28, 31, 35, 39, 43, 48, 53, 59, 65, 72, 80, 88, 97, 100]
    assert re.fullmatch(
        rf"iteration 48/100, epoch 1, loss_g {NUMBER}, loss_d {NUMBER},"
        r" \d+ images/s, 0:16:00 elapsed, 0:17:20 left",
        logged()[17],
    )
    assert logged()[-1].startswith("iteration 100/100, epoch 2")
    assert logged()[-1].endswith("0:33:20 elapsed, 0:00:00 left")
    assert capsys.readouterr().err == ""


def test_a_resumed_run_goes_on_from_its_iteration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, logged: Any
) -> None:
    run(tmp_path, ExactResume(), Checkpoint())
    clock, path = Clock(monkeypatch, 40.0), tmp_path / "checkpoints" / "last.ckpt"
    run(tmp_path, ExactResume(), ProgressBar(), clock, ckpt_path=path, max_epochs=3)
    assert logged()[0].startswith("iteration 11/30, epoch 2")
    assert logged()[0].endswith("0:00:40 elapsed, 0:12:40 left")  # the pace of this process


def test_an_endless_run_has_no_total_and_numbers_are_absent_until_they_are_logged(
    tmp_path: Path, logged: Any
) -> None:
    stop = After(lambda trainer: setattr(trainer, "should_stop", True))
    run(tmp_path, ProgressBar(), stop, max_epochs=-1, log_every_n_steps=3)
    assert re.fullmatch(r"iteration 1/\?, epoch 1, 0:00:0\d elapsed, \? left", logged()[-1])


def test_an_error_gives_the_log_its_streams_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    terminal = Terminal(monkeypatch)

    def fail(trainer: Any) -> None:
        logging.warning("about to break")
        raise RuntimeError("broken")

    handler = logging.StreamHandler()
    logging.root.addHandler(handler)
    try:
        with pytest.raises(RuntimeError, match="broken"):
            run(tmp_path, ProgressBar(), After(fail))
        assert handler in logging.root.handlers
    finally:
        logging.root.removeHandler(handler)
    assert re.search(r"(^|[\r\n])about to break\n", terminal.getvalue())  # on a line of its own


def test_other_ranks_show_nothing(
    tmp_path: Path, logged: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    bar = ProgressBar()
    bar.disable()
    run(tmp_path, bar)
    assert logged() == []
    assert capsys.readouterr().err == ""
