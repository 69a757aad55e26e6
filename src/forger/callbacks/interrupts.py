"""Ctrl-C, SIGTERM and a scheduler's SIGUSR1. Owns when a run heeds them, not what is told of it."""

from __future__ import annotations

import os
import signal
import threading
from types import FrameType
from typing import Any

from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import Checkpoint as LightningCheckpoint
from lightning.pytorch.utilities import rank_zero_only

from forger.callbacks.agreement import any_agrees
from forger.callbacks.checkpoint import Checkpoint, ends
from forger.errors import Interrupted

_HEEDED = tuple(
    number
    for name in ("SIGINT", "SIGTERM", "SIGUSR1")
    if (number := getattr(signal, name, None)) is not None
)


class Interrupts(LightningCheckpoint):
    """Ends training at the next whole iteration when a signal asks for it, saved if it saves.

    A second Ctrl-C ends it at once, between two instructions. Before the first iteration and after
    the last, when it is saved, SIGTERM and SIGUSR1 end the work at once, as Ctrl-C does. For
    Lightning
    this is a checkpoint callback: those come after all others, which have then written what belongs
    to the iteration. It puts Lightning's own handlers out of use while it trains: they would save
    to another place, and in the middle of an iteration.

    As a context manager around `fit` it puts the handlers back in the end.

    Raises:
        Interrupted: out of `fit`, in every process.
    """

    def __init__(self) -> None:
        self._asked: signal.Signals | None = None
        self._training = False
        self._before: dict[int, Any] = {}

    @property
    def asked(self) -> signal.Signals | None:
        """The signal that asked for the end of training, if one has."""
        return self._asked

    def __enter__(self) -> Interrupts:
        """Listens, where this is the main thread."""
        if threading.current_thread() is threading.main_thread():
            for number in _HEEDED:
                handler = signal.getsignal(number)
                if handler is not signal.SIG_IGN and (
                    number != signal.SIGUSR1 or handler is signal.SIG_DFL
                ):
                    self._before[number] = handler
        self._listen()
        return self

    def __exit__(self, *_: Any) -> None:
        """Puts back what was there."""
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def on_train_start(self, trainer: Trainer, *_: Any) -> None:
        """Takes over from Lightning's handlers; from here on there is something to save."""
        self._training = not trainer.fit_loop.done
        self._listen()
        _ask_no_more(trainer)

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        """Ends training if asked to, unless it is over anyway."""
        if any_agrees(trainer, self._asked is not None) and not ends(trainer):
            self._stop(trainer)

    def on_train_epoch_end(self, trainer: Trainer, *_: Any) -> None:
        """After the last iteration, saves it; the last scores may be ended at any time."""
        if ends(trainer):
            self._save(trainer)
            self._training = False

    def on_train_end(self, *_: Any) -> None:
        """Leaves the rest to the usual handlers."""
        self._training = False

    def _listen(self) -> None:
        for number in self._before:
            signal.signal(number, self._ask)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        again = self._asked is not None and number == signal.SIGINT
        if again or not self._training:
            if number == signal.SIGINT:
                raise KeyboardInterrupt
            raise Interrupted(number)
        if self._asked is None:
            self._asked = signal.Signals(number)
            _tell(
                f"\n{self._asked.name}: saving at the end of this iteration; Ctrl-C stops at once\n"
            )

    def _save(self, trainer: Trainer) -> None:
        for callback in trainer.checkpoint_callbacks:
            if isinstance(callback, Checkpoint):
                callback.save(trainer)

    def _stop(self, trainer: Trainer) -> None:
        self._save(trainer)
        number = self._asked or signal.SIGTERM  # another process was asked
        self._training = False
        raise Interrupted(number, trainer.global_step)


def _ask_no_more(trainer: Trainer) -> None:
    """Takes a message out of each iteration: that Lightning's handler has seen no signal.

    Rank 0 sends it, all others wait for it, and a GPU's processes read it.
    """
    epoch: Any = trainer.fit_loop.epoch_loop
    if hasattr(epoch, "_broadcast_sigterm_tensor"):
        epoch._broadcast_sigterm_tensor = lambda: None


@rank_zero_only
def _tell(text: str) -> None:
    """Writes past the logging machinery, whose locks the interrupted code may hold."""
    os.write(2, text.encode())
