"""A bar on a terminal, or now and then a line in the log, while scores are being prepared."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

log = logging.getLogger(__name__)

_REDRAW = 0.25  # seconds between two drawings
_LINE = 30.0  # seconds between two lines in the log


@contextmanager
def shown(what: str, total: int) -> Iterator[Callable[[], None]]:
    """Shows how far a loop is, and takes the bar away at its end.

    Args:
        what: is being done.
        total: steps of the loop.

    Yields:
        What the loop calls after each step.
    """
    console = Console(stderr=True)
    live = console.is_terminal and not console.is_dumb_terminal
    done, due = 0, time.monotonic() + (0.0 if live else _LINE)
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        auto_refresh=False,
        redirect_stdout=False,
        redirect_stderr=False,
        disable=not live,
    )
    task = bar.add_task(what, total=total)

    def step() -> None:
        nonlocal done, due
        done += 1
        if (now := time.monotonic()) < due:
            return
        due = now + (_REDRAW if live else _LINE)
        if live:
            bar.update(task, completed=done, refresh=True)
        else:
            log.info("%s: %s of %s", what, f"{done:,}", f"{total:,}")

    with bar:
        yield step
