"""Ends training, saved, when Ctrl-C, SIGTERM or a scheduler's SIGUSR1 asks for it."""

from __future__ import annotations

import os
import signal
import threading
from types import FrameType
from typing import Any

from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import Checkpoint as LightningCheckpoint
from lightning.pytorch.utilities import rank_zero_only

from forger.callbacks.checkpoint import any_agrees, ends, save_now
from forger.errors import Interrupted

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)


class Interrupts(LightningCheckpoint):
    """Ends training at the next whole iteration when a signal asks for it, saved if it saves.

    A second Ctrl-C ends it at once, between two instructions; so do all signals before the first
    iteration and after the last, when it is saved. For Lightning this is a checkpoint callback:
    those come after all others, which have then written what belongs to the iteration. It puts
    Lightning's own handlers out of use: they would save elsewhere, in the middle of an iteration.

    A context manager around `fit`, out of which it raises `Interrupted` in every process.
    """

    def __init__(self) -> None:
        self.asked: signal.Signals | None = None
        self._training = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Interrupts:
        """Listens, where this is the main thread; what is ignored stays so."""
        if threading.current_thread() is threading.main_thread():
            before = {number: signal.getsignal(number) for number in _SIGNALS}
            self._before = {n: known for n, known in before.items() if known != signal.SIG_IGN}
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
        # Lightning 2.6 has rank 0 tell the others in each iteration that it has seen no signal,
        # which a GPU's processes wait for.
        epoch: Any = trainer.fit_loop.epoch_loop
        if hasattr(epoch, "_broadcast_sigterm_tensor"):
            epoch._broadcast_sigterm_tensor = lambda: None

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        """Ends training if asked to, unless it is over anyway."""
        if any_agrees(trainer, self.asked is not None) and not ends(trainer):
            save_now(trainer)
            self._training = False
            number = self.asked or signal.SIGTERM  # another process was asked
            raise Interrupted(number, trainer.global_step)

    def on_train_epoch_end(self, trainer: Trainer, *_: Any) -> None:
        """After the last iteration, saves it; the last scores may be ended at any time."""
        if ends(trainer):
            save_now(trainer)
            self._training = False

    def on_train_end(self, *_: Any) -> None:
        """Leaves the rest to the usual handlers."""
        self._training = False

    def _listen(self) -> None:
        for number in self._before:
            signal.signal(number, self._ask)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        # torch's launcher makes SIGTERM of a second Ctrl-C
        again = self.asked is not None and signal.SIGINT in (number, self.asked)
        if again or not self._training:
            if number == signal.SIGINT:
                raise KeyboardInterrupt
            raise Interrupted(self.asked or number)
        if self.asked is None:
            self.asked = signal.Signals(number)
            _write(f"\n{self.asked.name}: saving at the end of this iteration; Ctrl-C stops now\n")


@rank_zero_only
def _write(text: str) -> None:
    """Writes past the logging machinery, whose locks the interrupted code may hold."""
    os.write(2, text.encode())
