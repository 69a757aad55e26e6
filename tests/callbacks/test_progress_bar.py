from __future__ import annotations

import io
import logging
import re
import sys
from pathlib import Path
from typing import Any

import pytest
from fake_gan import fit
from lightning.pytorch import Callback
from rich.console import Console
from rich.progress import Progress

from forger.callbacks import Checkpoint, ProgressBar

LOG = "forger.callbacks.progress_bar"
NUMBER = r"[\d.e-]+"
TIME = r"\d+:\d\d"


def terminal(width: int = 120, term: str = "xterm") -> Console:
    return Console(file=io.StringIO(), force_terminal=True, width=width, _environ={"TERM": term})


def shown(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return re.sub(r"\x1b\[[?\d;]*[a-zA-Z]", "", console.file.getvalue())


@pytest.fixture
def logged(caplog: pytest.LogCaptureFixture) -> Any:
    caplog.set_level(logging.INFO, LOG)
    return lambda: [record.getMessage() for record in caplog.records if record.name == LOG]


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, str]]:
    """Iterations and texts of the drawings of a bar."""
    found: list[tuple[int, str]] = []

    def update(self: Progress, task: Any, *, completed: int, text: str, refresh: bool) -> None:
        found.append((completed, text))

    monkeypatch.setattr(Progress, "update", update)
    return found


class Clock(Callback):
    """Lets each iteration take `seconds`, on the clock that the progress reads."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
        self.now, self.seconds = 1000.0, seconds
        monkeypatch.setattr("time.monotonic", lambda: self.now)

    def on_train_batch_start(self, *_: Any) -> None:
        self.now += self.seconds


def test_a_terminal_shows_one_bar_over_the_whole_run_that_fits_eighty_columns(
    tmp_path: Path,
) -> None:
    console = terminal(width=80)
    trainer = fit(tmp_path, ProgressBar(console), max_epochs=3)
    last = shown(console).strip().splitlines()[-1]
    numbers = rf"loss_g {NUMBER} loss_d {NUMBER} 123. images/s"
    assert re.search(rf"━ 30/30 epoch 3 {numbers} {TIME}<0:00$", last)
    assert isinstance(trainer.progress_bar_callback, ProgressBar)  # Lightning adds none


def test_the_bar_is_drawn_four_times_a_second_however_fast_iterations_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, drawn: list[tuple[int, str]]
) -> None:
    fit(tmp_path, ProgressBar(terminal()), Clock(monkeypatch, 1 / 128), batches=128)
    assert len(drawn) == 5  # four in one second, and the end


def test_metrics_are_read_when_a_row_was_logged_and_at_most_four_times_a_second(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Reading one makes the device wait."""
    reads: list[int] = []
    read = ProgressBar._read

    def counted(self: ProgressBar, trainer: Any, now: float) -> None:
        reads.append(trainer.global_step)
        read(self, trainer, now)

    monkeypatch.setattr(ProgressBar, "_read", counted)
    clock = Clock(monkeypatch, 0.01)
    fit(tmp_path, ProgressBar(terminal()), clock, batches=100, log_every_n_steps=10)
    assert reads == [30, 60, 90, 100]
    reads.clear()
    clock.seconds = 1.0
    fit(tmp_path, ProgressBar(terminal()), clock, batches=100, log_every_n_steps=40)
    assert reads == [40, 80, 100]


def test_elsewhere_the_log_gets_lines_that_grow_rarer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, logged: Any
) -> None:
    console = terminal(term="dumb")
    fit(tmp_path, ProgressBar(console), Clock(monkeypatch, 20.0), batches=50, max_epochs=2)
    steps = [int(line.removeprefix("iteration ").split("/100")[0]) for line in logged()]
    assert steps[:12] == [2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 25]
    assert steps[12:] == [28, 31, 35, 39, 43, 48, 53, 59, 65, 72, 80, 88, 97, 100]
    assert re.fullmatch(
        rf"iteration 48/100, epoch 1, loss_g {NUMBER}, loss_d {NUMBER},"
        r" 123. images/s, 16:00 elapsed, 17:20 left",
        logged()[17],
    )
    assert logged()[-1].startswith("iteration 100/100, epoch 2")
    assert logged()[-1].endswith("33:20 elapsed, 0:00 left")
    assert shown(console) == ""


def test_a_resumed_run_goes_on_from_its_iteration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, drawn: list[tuple[int, str]]
) -> None:
    fit(tmp_path, Checkpoint())
    clock = Clock(monkeypatch, 1.0)
    last = tmp_path / "checkpoints" / "last.ckpt"
    fit(tmp_path, ProgressBar(terminal()), clock, ckpt_path=last, max_epochs=3)
    assert [step for step, _ in drawn] == [*range(11, 31), 30]
    assert drawn[0][1].startswith("11/30 epoch 2")
    assert drawn[0][1].endswith("0:01<0:19")  # the pace of this process, not of the run before


def test_the_first_limit_reached_sets_the_time_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, logged: Any
) -> None:
    clock = Clock(monkeypatch, 40.0)  # the clock of Lightning's timer too
    fit(tmp_path, ProgressBar(), clock, max_epochs=-1, max_time="00:00:05:00")
    assert logged()[0].startswith("iteration 1/?, epoch 1")
    assert logged()[0].endswith("0:40 elapsed, 4:20 left")
    fit(tmp_path, ProgressBar(), clock, max_epochs=-1, max_steps=4, max_time="00:00:05:00")
    assert logged()[-1].startswith("iteration 4/4")
    assert [m for m in logged() if m.endswith("0:40 elapsed, 2:00 left")]


def test_an_endless_run_has_no_total_and_numbers_are_absent_until_they_are_logged(
    tmp_path: Path,
) -> None:
    class Stop(Callback):
        def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
            trainer.should_stop = True

    console = terminal()
    fit(tmp_path, ProgressBar(console), Stop(), max_epochs=-1, log_every_n_steps=3)
    assert re.search(rf"1/\? epoch 1 {TIME}<\?", shown(console))


def test_an_error_gives_the_terminal_and_the_log_streams_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Fail(Callback):
        def on_train_batch_end(self, *_: Any) -> None:
            during.append((sys.stderr, handler.stream))
            logging.warning("about to break")
            raise RuntimeError("broken")

    during: list[tuple[Any, Any]] = []
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    stderr = sys.stderr
    handler: Any = logging.StreamHandler()
    logging.root.addHandler(handler)
    console = terminal()
    try:
        with pytest.raises(RuntimeError, match="broken"):
            fit(tmp_path, ProgressBar(console), Fail())
    finally:
        logging.root.removeHandler(handler)

    assert sys.stderr is handler.stream is stderr
    redirected, stream = during[0]
    assert redirected is stream is not stderr
    assert "about to break\n" in shown(console)
    assert console.file.getvalue().endswith("\x1b[?25h")  # type: ignore[attr-defined]  # cursor is back


def test_other_ranks_show_nothing(tmp_path: Path, logged: Any) -> None:
    for bar in (ProgressBar(console := terminal()), ProgressBar()):
        bar.disable()
        fit(tmp_path, bar)
    assert shown(console) == ""
    assert logged() == []
