"""One live line at the bottom of a terminal. Owns the drawing, not what the line says."""

from __future__ import annotations

import logging
import sys
from typing import TextIO

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Column


class Bar:
    """A bar and a line of text, redrawn when told to, with logs and prints scrolling above.

    Args:
        console: where to draw.
        completed: iterations already done.
        total: iterations of the whole run; `None`: unknown, and the bar only pulses.
    """

    def __init__(self, console: Console, completed: int, total: int | None) -> None:
        text = TextColumn("{task.fields[text]}", markup=False, table_column=Column(no_wrap=True))
        self._progress = Progress(
            BarColumn(bar_width=None),
            text,
            console=console,
            expand=True,
            auto_refresh=False,  # no thread beside training
            redirect_stdout=sys.stdout.isatty(),  # what goes to a file shall reach it
            redirect_stderr=sys.stderr.isatty(),
        )
        self._task = self._progress.add_task("", total=total, completed=completed, text="")
        self._moved: list[tuple[logging.StreamHandler[TextIO], TextIO]] = []

    def start(self) -> None:
        """Shows the bar."""
        before = (sys.stdout, sys.stderr)
        self._progress.start()
        for handler in _stream_handlers():
            for old, new in zip(before, (sys.stdout, sys.stderr), strict=True):
                # A handler keeps the stream that it was made with, and would write into the bar.
                if handler.stream is old and old is not new:
                    self._moved.append((handler, old))
                    handler.setStream(new)

    def update(self, completed: int, text: str) -> None:
        """Redraws the bar."""
        self._progress.update(self._task, completed=completed, text=text, refresh=True)

    def stop(self) -> None:
        """Leaves the bar as it stands and gives the terminal back."""
        for handler, stream in self._moved:
            handler.setStream(stream)
        self._moved.clear()
        self._progress.stop()


def _stream_handlers() -> list[logging.StreamHandler[TextIO]]:
    others = [x for x in logging.root.manager.loggerDict.values() if isinstance(x, logging.Logger)]
    handlers = [handler for logger in (logging.root, *others) for handler in logger.handlers]
    return [handler for handler in handlers if isinstance(handler, logging.StreamHandler)]
