"""What decodes images: this process, or others. Owns these others from their start to their end.

They are programs that import neither torch nor this package, so that they start in a fraction of a
second, and that end when their input ends: none outlives a parent that is killed.
"""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from PIL import Image, ImageFile

from forger.data.decode import Decoded, Form, allow_large, decode_all
from forger.errors import DataError

_PROGRAM = Path(__file__).with_name("decoder_program.py")


@contextmanager
def here(form: Form) -> Iterator[Callable[[list[str]], Decoded]]:
    """Yields a function that decodes in the thread that calls it."""
    with warnings.catch_warnings():
        allow_large()
        yield lambda paths: decode_all(paths, form)


@contextmanager
def in_processes(form: Form, count: int) -> Iterator[Callable[[list[str]], Decoded]]:
    """Yields a function that has one of `count` processes decode, for as many threads."""
    idle: SimpleQueue[_Decoder] = SimpleQueue()

    def decode(paths: list[str]) -> Decoded:
        decoder = idle.get()
        try:
            return decoder.decode(paths)
        finally:
            idle.put(decoder)

    with ExitStack() as stack:
        for _ in range(count):
            decoder = _Decoder(form)
            stack.callback(decoder.close)
            idle.put(decoder)
        yield decode


class _Decoder:
    """A process that decodes."""

    def __init__(self, form: Form) -> None:
        paths = os.pathsep.join(filter(None, sys.path))  # it finds NumPy and Pillow as we do
        self._process = subprocess.Popen(
            [sys.executable, str(_PROGRAM)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=os.environ | {"PYTHONPATH": paths},
            start_new_session=True,  # Ctrl-C is for us
        )
        # What the user may have set in this process.
        limits = (Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES)
        self._send((form, limits))

    def decode(self, paths: list[str]) -> Decoded:
        """Decodes some images.

        Raises:
            DataError: the process ended.
        """
        try:
            self._send(paths)
            assert self._process.stdout is not None
            found: Decoded = pickle.load(self._process.stdout)
        except (OSError, EOFError, pickle.UnpicklingError):
            code = self._process.wait()
            raise DataError(
                f"data.root: a process that decoded images ended with code {code}, at one of "
                f"{len(paths)} images from {paths[0]} to {paths[-1]}"
            ) from None
        return found

    def close(self) -> None:
        """Ends the process."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with suppress(OSError):  # it is gone
            self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait()

    def _send(self, message: Any) -> None:
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):  # reading its answer will tell
            pickle.dump(message, self._process.stdin)
            self._process.stdin.flush()
