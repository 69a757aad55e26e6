"""Python's garbage collector during a check. Owns its pause: nothing here leaves cycles behind.

Parsed sources are many small objects; looking through them again and again takes half of the time.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache


@contextmanager
def collector_paused() -> Iterator[None]:
    """Pauses the collector."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


@cache  # once in a process
def set_aside_what_is_loaded() -> None:
    """Leaves what has been loaded by now out of later collections, the one at the end among them.

    Nearly all of it is modules, which live as long as the process.
    """
    gc.freeze()
