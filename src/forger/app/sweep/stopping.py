"""Ctrl-C and SIGTERM to a sweep whose jobs run in other processes. Owns what the first one does."""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

log = logging.getLogger(__name__)

_HEEDED = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def gentle_stop(ask: Callable[[int], None]) -> Iterator[None]:
    """Has the first signal ask the jobs to save and end; a second one ends all at once.

    Args:
        ask: called with the number of the first signal.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in _HEEDED}

    def put_back() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def stop(number: int, _: Any) -> None:
        ask(number)
        log.warning("stopping: running jobs save and end; once more ends them at once")
        put_back()

    for number in before:
        signal.signal(number, stop)
    try:
        yield
    finally:
        put_back()
