"""`compile=true`: compiles a run's networks as training starts, and words what fails."""

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
from forger.gan import GAN

log = logging.getLogger(__name__)

_COMPILER = ("torch._dynamo", "torch._inductor", "torch._functorch")
_CXX = "install a C++ compiler (g++, or the one that the variable CXX names)"


class Compilation(Callback):
    """Compiles both networks of a run, and tells how long that took.

    Args:
        interrupts: of the run.
        backend: what makes code of a graph.
    """

    def __init__(self, interrupts: Interrupts, backend: str = "inductor") -> None:
        self.interrupts, self.backend = interrupts, backend
        self._began: float | None = None

    def check(self, device: torch.device) -> None:
        """Compiles a sum, which needs all the tools that a network does.

        Raises:
            ConfigError: torch cannot compile for this device on this machine.
        """
        try:
            double = torch.compile(lambda numbers: (2 * numbers).sum(), backend=self.backend)
            double(torch.ones(8, device=device))
        except Exception as error:  # of compilers and drivers, anything
            raise ConfigError(
                f"compile=true: torch cannot compile for {device.type} here: {_reason(error)};"
                f" {_CXX if 'C++' in str(error) else 'mend that'}, or write compile=false"
            ) from error

    @contextmanager
    def errors_worded(self) -> Iterator[None]:
        """Words errors of torch's compiler, whose own are a page of advice on how to debug it.

        Raises:
            ConfigError: a network cannot be compiled.
            Interrupted: so it is since Ctrl-C, which a terminal sends to all processes, ended the
                C++ compiler too.
        """
        try:
            yield
        except Exception as error:
            if not _is_of_compiler(error):
                raise
            if self.interrupts.asked is not None:
                raise Interrupted(self.interrupts.asked) from None
            raise ConfigError(
                f"compile=true: torch cannot compile a network: {_reason(error)}; write"
                " compile=false, in a resumed run too"
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


def describe_compilation(gan: GAN) -> str:
    """Returns what will be compiled, in one line of the plan."""
    penalties = ", but D under gradient penalties" if gan.penalties else ""
    return f"both networks, by torch.compile{penalties}; the first iteration waits for it"


def _is_of_compiler(error: BaseException | None) -> bool:
    """Tells whether torch's compiler raised an error, or what it came from."""
    while error is not None:
        trace = error.__traceback__
        while trace is not None and trace.tb_next is not None:
            trace = trace.tb_next
        raised_in = str(trace.tb_frame.f_globals.get("__name__")) if trace is not None else ""
        if type(error).__module__.startswith(_COMPILER) or raised_in.startswith(_COMPILER):
            return True
        error = error.__cause__
    return False


def _reason(error: BaseException) -> str:
    """Returns the first line of an error that says what failed: others say who, or how to debug."""
    lines = [line.strip() for line in str(error).splitlines()]
    told = [line for line in lines if line and not line.startswith(("backend=", "Set TORCH"))]
    return told[0] if told else type(error).__name__
