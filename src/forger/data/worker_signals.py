"""Worker processes of a data loader leave Ctrl-C, SIGTERM and SIGUSR1 to the process that trains.

A terminal sends Ctrl-C to all of them, and schedulers send their signals likewise. The process that
trains saves first; a worker that ended, or told of the signal too, would only disturb that.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing import resource_tracker
from typing import Any

_LEFT_ALONE = [
    number
    for name in ("SIGINT", "SIGTERM", "SIGUSR1")
    if (number := getattr(signal, name, None)) is not None
]


class Deaf:
    """A `worker_init_fn` that has the worker ignore these signals, and then calls the user's own.

    Args:
        then: what the user gave; `None`: nothing.
    """

    def __init__(self, then: Callable[[int], Any] | None) -> None:
        self.then = then

    def __call__(self, worker: int) -> None:
        """Does so, in the worker of that number."""
        for number in _LEFT_ALONE:
            signal.signal(number, signal.SIG_IGN)
        if self.then is not None:
            self.then(worker)


@contextmanager
def signals_held_back() -> Iterator[None]:
    """Holds these signals back: processes that are started meanwhile never get them.

    A process that is spawned takes seconds to reach its `worker_init_fn`, but has the mask of its
    parent from its beginning. This process gets afterwards what came meanwhile.
    """
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _LEFT_ALONE)
    try:
        resource_tracker.ensure_running()  # where it starts, it takes signals out of the mask
        signal.pthread_sigmask(signal.SIG_BLOCK, _LEFT_ALONE)
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
