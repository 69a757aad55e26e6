"""Compiles the networks of a run, and says what keeps torch from it."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic
from typing import Any

import torch
from lightning import Callback, Trainer

from forger.app.run.folder import is_main_process
from forger.callbacks.interrupts import Interrupts
from forger.compiling import compile_networks
from forger.errors import ConfigError, Interrupted

log = logging.getLogger(__name__)


class Compilation(Callback):
    """Compiles both networks of a run as training starts (`compile=true`), and says what fails.

    Args:
        interrupts: of the run.
        backend: what makes code of a graph.
    """

    def __init__(self, interrupts: Interrupts, backend: str = "inductor") -> None:
        self.interrupts, self.backend = interrupts, backend
        self._began: float | None = None

    def check(self, device: torch.device) -> None:
        """Compiles a sum, which needs all the tools that a network does; as `errors_worded`."""
        with self.errors_worded():
            double = torch.compile(lambda numbers: (2 * numbers).sum(), backend=self.backend)
            double(torch.ones(8, device=device))

    @contextmanager
    def errors_worded(self) -> Iterator[None]:
        """Words errors of torch's compiler, whose own are a page of advice on how to debug it.

        Raises:
            ConfigError: torch cannot compile what is computed inside.
            Interrupted: so it is since Ctrl-C, which a terminal sends to all processes, ended the
                C++ compiler too.
        """
        try:
            yield
        except Exception as error:
            if not type(error).__module__.startswith(("torch._dynamo", "torch._inductor")):
                raise
            if self.interrupts.asked is not None:
                raise Interrupted(self.interrupts.asked) from None
            lines = [line.strip() for line in str(error).splitlines()]
            who = ("backend=", "Set TORCH")  # lines that say who failed, and how to debug it
            told = next((line for line in lines if line and not line.startswith(who)), error)
            raise ConfigError(
                f"compile=true: torch cannot compile this here: {told}; mend that (the variable"
                " CXX may name another C++ compiler), or write compile=false, in a resumed run too"
            ) from error

    def on_train_start(self, trainer: Trainer, gan: Any) -> None:
        """Compiles, which begins with the first call of each network."""
        compile_networks(gan.generator, gan.discriminator, backend=self.backend)
        self._began = monotonic()

    def on_train_batch_end(self, *_: Any) -> None:
        """Tells how long the first iteration took."""
        if self._began is not None and is_main_process():
            seconds = monotonic() - self._began
            log.info("compiled        both networks; the first iteration took %.1f s", seconds)
        self._began = None
