"""Files of the scores' cache. Owns the words when one cannot be written, not names or contents."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any, BinaryIO

from numpy.typing import NDArray

from forger import array_files, whole_files
from forger.errors import DataError
from forger.whole_files import remove_leftovers

_ROOM = 1 << 22  # bytes, more than the weights of a classifier take


@contextmanager
def whole_file(target: Path, contents: str) -> Iterator[BinaryIO]:
    """Writes a file of the cache as `forger.whole_files` does.

    What writers of such files left behind when they were killed is removed.

    Args:
        target: named `<kind>-<hash>.<extension>`; its folder is made where it is missing.
        contents: what is written, for the message.

    Raises:
        DataError: the folder cannot be written to.
    """
    try:
        remove_leftovers(target.parent, f"{target.name.partition('-')[0]}-*")
        with whole_files.whole_file(target) as file:
            yield file
    except OSError as error:
        raise _refused(target.parent, contents, error) from None


@contextmanager
def array_writer(target: Path, contents: str) -> Iterator[Callable[[NDArray[Any]], None]]:
    """Writes an array of the cache as `forger.array_files.array_writer` does.

    Args:
        target: named `<kind>-<hash>.npy`; its folder is made where it is missing.
        contents: what is written, for the message.

    Raises:
        DataError: the folder cannot be written to.
    """
    try:
        remove_leftovers(target.parent, f"{target.name.partition('-')[0]}-*")
        with array_files.array_writer(target) as write:
            yield write
    except OSError as error:
        raise _refused(target.parent, contents, error) from None


def check_writable(folder: Path, contents: str) -> None:
    """Finds out before the work, rather than after it, that its result cannot be stored.

    Raises:
        DataError: the folder cannot be made or written to.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=folder) as file:
            file.write(bytes(_ROOM))
    except OSError as error:
        raise _refused(folder, contents, error) from None


def _refused(folder: Path, contents: str, error: OSError) -> DataError:
    return DataError(f"paths.cache_dir: {folder} cannot take {contents}: {error.strerror or error}")
