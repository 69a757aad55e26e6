"""Worker processes of a loader leave Ctrl-C, SIGTERM and SIGUSR1 to the process that trains.

A terminal or a scheduler sends them to all processes. The one that trains saves first; a worker
that ended, or told of the signal too, would only disturb that.
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


def start_worker(own: Callable[[int], Any] | None, worker: int) -> None:
    """Prepares a worker of a DataLoader, in its process, and calls the user's `worker_init_fn`.

    SIGTERM from the parent still ends the worker: so Python ends those that it needs no more. Where
    the sender cannot be told, as on macOS, SIGTERM ends it whoever sends it.
    """
    for number in _LEFT_ALONE:
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    if hasattr(signal, "sigwaitinfo"):
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
        threading.Thread(target=_end_with_parent, daemon=True).start()
    else:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM])
    if own is not None:
        own(worker)


def _end_with_parent() -> None:
    """Ends this process when its parent asks; torch ends it where the parent was killed."""
    parent = multiprocessing.parent_process()
    while parent is not None and signal.sigwaitinfo([signal.SIGTERM]).si_pid != parent.pid:
        pass
    os._exit(128 + signal.SIGTERM)


@contextmanager
def signals_held_back() -> Iterator[None]:
    """Holds the three signals back from processes that are started meanwhile.

    A process that is spawned takes a while to reach `start_worker`, but has the mask of its parent
    from its beginning. This process gets afterwards what came meanwhile.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _LEFT_ALONE)
    try:
        resource_tracker.ensure_running()  # where it starts, it takes signals out of the mask
        signal.pthread_sigmask(signal.SIG_BLOCK, _LEFT_ALONE)
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
