from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from lightning.pytorch import Callback
from short_run import After, last, run

from forger.callbacks import Checkpoint
from forger.callbacks.interrupts import Interrupts
from forger.errors import Interrupted

SIGNALS = [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1]


@pytest.fixture(autouse=True)
def _ctrl_c_heeded() -> Iterator[None]:
    """A shell that runs the tests in the background has them ignore Ctrl-C."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


class Send(Callback):
    """Sends this process signals when an iteration begins, or once training is over."""

    over = False

    def __init__(self, iteration: int, *numbers: int) -> None:
        self.iteration, self.numbers = iteration, numbers

    def on_train_batch_start(self, trainer: Any, *_: Any) -> None:
        if trainer.global_step == self.iteration - 1:
            for number in self.numbers:
                os.kill(os.getpid(), number)

    def on_train_end(self, *_: Any) -> None:
        if self.iteration > 10:
            os.kill(os.getpid(), self.numbers[0])
            self.over = True


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_ends_training_saved_at_the_end_of_the_iteration(
    number: signal.Signals, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    before = [signal.getsignal(one) for one in SIGNALS]
    seen: list[int] = []
    after = After(lambda trainer: seen.append(trainer.global_step))
    with pytest.raises(Interrupted) as caught, Interrupts() as interrupts:
        run(tmp_path, Checkpoint(), Send(4, number), interrupts, after)
    assert (caught.value.number, caught.value.iteration) == (number, 4)
    assert caught.value.exit_code == 128 + number
    assert last(tmp_path)["global_step"] == 4
    assert seen == [1, 2, 3, 4], "the iteration was whole for every callback"
    assert f"{number.name}: saving at the end of this iteration" in capfd.readouterr().err
    assert [signal.getsignal(one) for one in SIGNALS] == before


def test_a_second_ctrl_c_stops_at_once(tmp_path: Path) -> None:
    send = Send(4, signal.SIGINT, signal.SIGINT)
    with pytest.raises(SystemExit), Interrupts() as interrupts:  # Lightning makes it one
        run(tmp_path, Checkpoint(every_n_steps=2), send, interrupts)
    assert last(tmp_path)["global_step"] == 2


def test_a_second_sigterm_is_the_first_one_again(tmp_path: Path) -> None:
    with pytest.raises(Interrupted), Interrupts() as interrupts:
        run(tmp_path, Checkpoint(), Send(4, signal.SIGTERM, signal.SIGTERM), interrupts)
    assert last(tmp_path)["global_step"] == 4


def test_in_the_last_iteration_there_is_nothing_to_interrupt(tmp_path: Path) -> None:
    with Interrupts() as interrupts:
        run(tmp_path, Checkpoint(), Send(10, signal.SIGTERM), interrupts)
    assert last(tmp_path)["global_step"] == 10


def test_what_comes_after_the_last_iteration_ends_at_once_saved(tmp_path: Path) -> None:
    at_the_end = Send(11, signal.SIGTERM)  # during the last scores
    with pytest.raises(Interrupted), Interrupts() as interrupts:
        run(tmp_path, at_the_end, Checkpoint(), interrupts)
    assert not at_the_end.over
    assert last(tmp_path)["global_step"] == 10


@pytest.mark.parametrize(
    ("number", "error"), [(signal.SIGTERM, Interrupted), (signal.SIGINT, KeyboardInterrupt)]
)
def test_before_training_there_is_nothing_to_save(
    number: signal.Signals, error: type[BaseException]
) -> None:
    with pytest.raises(error), Interrupts():
        os.kill(os.getpid(), number)


def test_an_ignored_ctrl_c_stays_ignored(tmp_path: Path) -> None:
    """As shells have it for what they run in the background."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with Interrupts() as interrupts:
        assert run(tmp_path, Send(4, signal.SIGINT), interrupts).global_step == 10


def test_without_a_checkpoint_callback_nothing_is_written(tmp_path: Path) -> None:
    with pytest.raises(Interrupted), Interrupts() as interrupts:
        run(tmp_path, Send(4, signal.SIGTERM), interrupts)
    assert not list(tmp_path.rglob("*.ckpt"))
