"""`compile=true`: when a run's networks are compiled, and the words for what fails.

What is compiled how is `forger.compiling`'s business.
"""

from __future__ import annotations

import logging
from time import monotonic
from types import TracebackType
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
_UNTYPED = ("torch.compile", "donated buffer")  # in words of RuntimeErrors about double backward
_CXX = "install a C++ compiler (g++, or the one that the variable CXX names)"


class Compilation(Callback):
    """Compiles both networks of a run as training starts, and tells how long that took.

    As a context manager around `fit` it words the errors of torch's compiler.

    Args:
        interrupts: of the run.
        backend: what makes code of a graph.

    Raises:
        ConfigError: out of `fit`; a network cannot be compiled.
        Interrupted: the same, since a signal ended the C++ compiler too: a terminal sends Ctrl-C to
            all processes.
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
                f"compile=true: torch cannot compile for {device.type} here: {_words(error)};"
                f" {_CXX if 'C++' in str(error) else 'mend that'}, or write compile=false"
            ) from error

    def __enter__(self) -> Compilation:
        """Does nothing yet."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        """Words an error of torch's compiler; its own is a page of advice on how to debug it."""
        if not isinstance(error, Exception) or not _is_of_compiler(error):
            return
        if self.interrupts.asked is not None:
            raise Interrupted(self.interrupts.asked) from None
        raise ConfigError(
            f"compile=true: torch cannot compile a network: {_words(error)}; write compile=false,"
            " in a resumed run too"
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
        if type(error).__module__.startswith(_COMPILER):
            return True
        if isinstance(error, RuntimeError) and any(words in str(error) for words in _UNTYPED):
            return True
        error = error.__cause__
    return False


def _words(error: BaseException) -> str:
    """Returns the first line of an error that says what failed: others say who, or how to debug."""
    lines = [line.strip() for line in str(error).splitlines()]
    told = [line for line in lines if line and not line.startswith(("backend=", "Set TORCH"))]
    return told[0] if told else type(error).__name__
