"""Worker processes leave Ctrl-C, SIGTERM and SIGUSR1 to the process that started them.

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

_LEFT_ALONE = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
_INTERVAL = 1.0  # seconds between looks at whether the parent is alive


class QuietWorker:
    """A `worker_init_fn` of a DataLoader: leaves signals to the parent, then calls the user's."""

    def __init__(self, then: Callable[[int], Any] | None) -> None:
        self.then = then

    def __call__(self, worker: int) -> None:
        """Prepares the worker of that number, in its process."""
        leave_signals_to_parent()
        if self.then is not None:
            self.then(worker)


def leave_signals_to_parent() -> None:
    """Has this process, a worker, pass over the three signals and end when its parent does.

    SIGTERM from the parent still ends it: so Python ends workers that it needs no more. Where the
    sender cannot be told, as on macOS, SIGTERM ends it whoever sends it.
    """
    for number in _LEFT_ALONE:
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    known = hasattr(signal, "sigtimedwait")
    signal.pthread_sigmask(signal.SIG_BLOCK if known else signal.SIG_UNBLOCK, [signal.SIGTERM])
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    if hasattr(signal, "sigtimedwait"):
        while parent.is_alive():
            found = signal.sigtimedwait([signal.SIGTERM], _INTERVAL)
            if found is not None and found.si_pid == parent.pid:
                break
    else:
        parent.join()
    os._exit(128 + signal.SIGTERM)


@contextmanager
def signals_held_back() -> Iterator[None]:
    """Holds the three signals back from processes that are started meanwhile.

    A process that is spawned takes a while to reach `leave_signals_to_parent`, but has the mask of
    its parent from its beginning. This process gets afterwards what came meanwhile.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _LEFT_ALONE)
    try:
        resource_tracker.ensure_running()  # where it starts, it takes signals out of the mask
        signal.pthread_sigmask(signal.SIG_BLOCK, _LEFT_ALONE)
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
