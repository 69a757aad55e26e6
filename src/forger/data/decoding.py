"""Many image files to arrays, in parallel. Owns the pace and the progress bar."""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager
from math import prod
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from forger.data.decode import Decoded, Form
from forger.data.decoders import here, in_processes

_TASK = 64  # images that a worker decodes at a time, at most
_TASK_BYTES = 1 << 20  # of them, at most, or one image
_AHEAD = 4  # tasks for each worker that may wait in memory
_MANY = 8192  # images, above which processes have started before threads would be done
_MOST = 32  # processes: one feeds them all, and each takes some 40 MB
_TINY = 8192  # bytes of a file, below which a second thread makes decoding slower
_PATIENCE = 2.0  # seconds before a progress bar appears


def decoded(root: Path, names: list[str], form: Form, done: int = 0) -> Iterator[Decoded]:
    """Decodes in processes or, if they are few, in threads, with a progress bar if it takes long.

    Args:
        root: the folder that the images are in.
        names: of all images below it.
        form: of each result.
        done: images at the beginning that are decoded already.

    Yields:
        The images of a task, uint8 `(n, C, S, S)`, in the order of `names`; and what is wrong with
        those that are missing.
    """
    workers, decoders = _decoders(root, names, form, len(names) - done)
    size = min(_TASK, max(1, _TASK_BYTES // prod(form[0])))
    waiting: deque[Future[Decoded]] = deque()
    with _Bar(len(names), done) as bar, decoders as decode, ThreadPoolExecutor(workers) as pool:
        try:
            for begin in range(done, len(names), size):
                if len(waiting) == _AHEAD * workers:
                    yield waiting.popleft().result()
                    bar.advance(size)
                paths = [os.path.join(root, name) for name in names[begin : begin + size]]  # noqa: PTH118
                waiting.append(pool.submit(decode, paths))
            while waiting:
                yield waiting.popleft().result()
                bar.advance(size)
        finally:
            pool.shutdown(cancel_futures=True)


def _decoders(
    root: Path, names: list[str], form: Form, count: int
) -> tuple[int, AbstractContextManager[Callable[[list[str]], Decoded]]]:
    """Returns how many images are decoded at once, and what decodes them."""
    workers = _processors()
    if count >= _MANY and workers > 1:
        workers = min(workers, _MOST)
        return workers, in_processes(form, workers)
    return 1 if _are_tiny(root, names) else workers, here(form)


def _processors() -> int:
    """Counts the processors that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _are_tiny(root: Path, names: list[str]) -> bool:
    """Tells whether decoding is mostly Python, which runs one at a time in threads."""
    some = names[:: max(1, len(names) // 100)]
    try:
        return sum((root / name).stat().st_size for name in some) / len(some) < _TINY
    except OSError:  # one has vanished, which decoding will say of it
        return True


class _Bar:
    """A progress bar of images that shows itself when it takes long."""

    def __init__(self, total: int, done: int) -> None:
        self._started, self._shown = time.monotonic(), False
        self._progress = Progress(
            *(TextColumn("decoding images"), BarColumn()),
            *(MofNCompleteColumn(), TimeRemainingColumn()),
            console=Console(stderr=True),
            transient=True,
        )
        self._task = self._progress.add_task("", total=total, completed=done)

    def __enter__(self) -> _Bar:
        return self

    def advance(self, images: int) -> None:
        """Counts images."""
        self._progress.advance(self._task, images)
        if not self._shown and time.monotonic() - self._started > _PATIENCE:
            self._progress.start()
            self._shown = True

    def __exit__(self, *_: object) -> None:
        if self._shown:  # else it would print an empty line
            self._progress.stop()
