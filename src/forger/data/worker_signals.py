"""Worker processes of a data loader leave Ctrl-C, SIGTERM and SIGUSR1 to the process that trains.

A terminal sends Ctrl-C to all of them, and schedulers send their signals likewise. The process that
trains saves first; a worker that ended, or told of the signal too, would only disturb that.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
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
    """A `worker_init_fn` that has the worker leave these signals, and then calls the user's own.

    SIGTERM from the process that trains still ends it: so Python ends workers that it needs no
    more. Where the sender cannot be told, as on macOS, SIGTERM ends it whoever sends it.

    Args:
        then: what the user gave; `None`: nothing.
    """

    def __init__(self, then: Callable[[int], Any] | None) -> None:
        self.then = then

    def __call__(self, worker: int) -> None:
        """Does so, in the worker of that number."""
        for number in _LEFT_ALONE:
            signal.signal(number, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        if hasattr(signal, "sigwaitinfo"):
            signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
            threading.Thread(target=_end_with_parent, daemon=True).start()
        elif hasattr(signal, "pthread_sigmask"):
            signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM])
        if self.then is not None:
            self.then(worker)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    while parent is not None and signal.sigwaitinfo([signal.SIGTERM]).si_pid != parent.pid:
        pass
    os._exit(128 + signal.SIGTERM)


@contextmanager
def signals_held_back() -> Iterator[None]:
    """Holds these signals back from processes that are started meanwhile.

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
