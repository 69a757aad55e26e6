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
_INTERVAL = 1.0  # seconds between looks at whether the parent is alive


def start_worker(own: Callable[[int], Any] | None, worker: int) -> None:
    """Prepares a worker of a DataLoader, in its process, and calls the user's `worker_init_fn`.

    The worker ends when its parent does, and on a SIGTERM from it, as Python ends those that it
    needs no more. Where the sender cannot be told, as on macOS, it ends on any SIGTERM.
    """
    for number in _LEFT_ALONE:
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    known = hasattr(signal, "sigtimedwait")
    signal.pthread_sigmask(signal.SIG_BLOCK if known else signal.SIG_UNBLOCK, [signal.SIGTERM])
    threading.Thread(target=_end_with_parent, daemon=True).start()
    if own is not None:
        own(worker)


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
