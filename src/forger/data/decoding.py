"""Decodes many image files in parallel, with a progress bar if it takes long."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Generator
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from math import prod
from multiprocessing import get_context
from pathlib import Path

from PIL import Image, ImageFile
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from forger.errors import DataError
from forger.image_files import Decoded, ImageFormat, decode_all, start_decoding_process
from forger.worker_signals import signals_held_back

_TASK = 64  # images that a worker decodes at a time, at most
_TASK_BYTES = 1 << 20  # of them, at most, or one image
_AHEAD = 4  # tasks for each worker that may wait in memory
_MANY = 8192  # images, above which processes have started before threads would be done
_MOST = 32  # processes: one feeds them all, and each takes some 40 MB
_SOME = 1000  # images, above which a progress bar is shown


def decode_in_parallel(root: Path, names: list[str], target: ImageFormat) -> Generator[Decoded]:
    """Decodes the images of a folder in threads or, if they are many, in processes.

    Yields:
        The next few images, uint8 `(n, C, S, S)`, in the order of `names`; and what is wrong with
        those that are missing.

    Raises:
        DataError: a process that decoded was killed.
    """
    workers = min(_processors(), _MOST)
    pool: Executor = ThreadPoolExecutor(workers)
    if len(names) >= _MANY:
        pool = ProcessPoolExecutor(
            workers,
            mp_context=get_context("spawn"),  # forking a process with threads may hang
            initializer=start_decoding_process,
            initargs=(Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES),
        )
    size = min(_TASK, max(1, _TASK_BYTES // prod(target.shape)))
    waiting: deque[Future[Decoded]] = deque()
    with _progress(len(names)) as progress:
        bar = progress.add_task("", total=len(names))
        try:
            for begin in range(0, len(names), size):
                if len(waiting) == _AHEAD * workers:
                    yield waiting.popleft().result()
                    progress.advance(bar, size)
                some = names[begin : begin + size]
                paths = [os.path.join(root, name) for name in some]  # noqa: PTH118
                waiting.append(_submit(pool, paths, target))
            while waiting:
                yield waiting.popleft().result()
                progress.advance(bar, size)
        except BrokenProcessPool:
            raise DataError(
                "data.root: a process that decoded images was killed, perhaps for want of memory,"
                f" at one of the {_AHEAD * workers * size} images before {some[-1]}"
            ) from None
        finally:
            pool.shutdown(cancel_futures=True)


def _submit(pool: Executor, paths: list[str], target: ImageFormat) -> Future[Decoded]:
    if isinstance(pool, ThreadPoolExecutor):
        return pool.submit(decode_all, paths, target)
    with signals_held_back():  # it may start a process
        return pool.submit(decode_all, paths, target)


def _processors() -> int:
    """Counts the processors that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _progress(total: int) -> Progress:
    """Returns a progress bar, shown on a terminal where there is something to wait for."""
    console = Console(stderr=True)
    return Progress(
        *(TextColumn("decoding images"), BarColumn()),
        *(MofNCompleteColumn(), TimeRemainingColumn()),
        console=console,
        transient=True,
        disable=total < _SOME or not console.is_terminal,
    )
