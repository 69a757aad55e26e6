"""Files that are whole or not there. Owns their writing, not their names or contents."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryFile
from typing import BinaryIO
from uuid import uuid4

from forger.errors import DataError


@contextmanager
def whole_file(target: Path, contents: str) -> Iterator[BinaryIO]:
    """Writes a file that appears under its name only when whole, replacing what was there.

    Args:
        target: its folder is made where it is missing.
        contents: what is written, for the message.

    Raises:
        DataError: the folder cannot be written to.
    """
    scratch = target.with_name(f"{target.stem}-{uuid4().hex}.tmp")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            with scratch.open("xb") as file:
                yield file
            scratch.replace(target)
        finally:
            scratch.unlink(missing_ok=True)
    except OSError as error:
        raise _refused(target.parent, contents, error) from None


def check_writable(folder: Path, contents: str) -> None:
    """Finds out before the work, rather than after it, that its result cannot be stored.

    Raises:
        DataError: the folder cannot be made or written to.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise _refused(folder, contents, error) from None


def _refused(folder: Path, contents: str, error: OSError) -> DataError:
    return DataError(f"paths.cache_dir: {folder} cannot take {contents}: {error.strerror or error}")
