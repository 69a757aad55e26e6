"""Many image files to arrays, in threads. Owns the pace, and the words for what cannot be read."""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from forger.data.decode import decode

Decoded: TypeAlias = tuple[list[NDArray[np.uint8]], list[str]]  # images, and faults in words

_TASK = 64  # images that a thread decodes at a time
_AHEAD = 32  # tasks whose images may wait in memory
_TINY = 8192  # bytes of a file, below which a second thread makes decoding slower
_PATIENCE = 2.0  # seconds before a progress bar appears


def decoded(paths: list[Path], shape: tuple[int, int, int]) -> Iterator[Decoded]:
    """Decodes in threads, task by task, with a progress bar when it takes long.

    Args:
        paths: of the images.
        shape: `(C, S, S)` of each.

    Yields:
        The images of a task, uint8, in the order of `paths`; and what is wrong with the others.
    """
    started, shown = time.monotonic(), False
    progress = Progress(
        *(TextColumn("decoding images"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()),
        console=Console(stderr=True),
        transient=True,
    )
    bar = progress.add_task("", total=len(paths))
    tasks = [paths[begin : begin + _TASK] for begin in range(0, len(paths), _TASK)]
    with warnings.catch_warnings(), ThreadPoolExecutor(_workers(paths)) as pool:
        # The images are the user's own. What has twice as many pixels is refused, and named.
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        try:
            for begin in range(0, len(tasks), _AHEAD):
                for result in pool.map(partial(_decode_all, shape), tasks[begin : begin + _AHEAD]):
                    yield result
                    progress.advance(bar, _TASK)
                    if not shown and time.monotonic() - started > _PATIENCE:
                        progress.start()
                        shown = True
        finally:
            if shown:  # else it would print an empty line
                progress.stop()


def _workers(paths: list[Path]) -> int:
    """Counts the threads that help: tiny images are mostly Python, which runs one at a time."""
    some = paths[:: max(1, len(paths) // 100)]
    try:
        mean_bytes = sum(path.stat().st_size for path in some) / len(some)
    except OSError:  # one has vanished, which decoding will say of it
        return 1
    return 1 if mean_bytes < _TINY else os.cpu_count() or 1


def _decode_all(shape: tuple[int, int, int], paths: list[Path]) -> Decoded:
    images, faults = [], []
    for path in paths:
        try:
            images.append(decode(path, channels=shape[0], size=shape[1]))
        except UnidentifiedImageError:
            faults.append(f"{path}: not an image, or its beginning is damaged")
        except Exception as error:  # Pillow's plugins raise many kinds for a damaged file
            faults.append(
                f"{path}: {getattr(error, 'strerror', None) or str(error) or repr(error)}"
            )
    return images, faults
