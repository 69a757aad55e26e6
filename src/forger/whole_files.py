"""Writes files that are whole or not there, whatever kills their writer or fills the disk."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from shutil import rmtree
from typing import Any, BinaryIO
from uuid import uuid4

DAY = 24 * 3600.0  # seconds without a write, after which no writer is believed to be alive


@contextmanager
def whole_file(target: Path) -> Iterator[BinaryIO]:
    """Writes a file that appears under its name only when whole, replacing what was there.

    What is yielded is a temporary file beside `target`. It is flushed to the disk before it takes
    the name in one move, so that a power cut, too, leaves the old file or the new one. Any failure
    removes it; only a kill leaves it behind, for `remove_leftovers`.

    Args:
        target: its folder is made where it is missing.

    Raises:
        OSError: the file cannot be written; what was under the name is still there.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.{uuid4().hex}.tmp")
    try:
        with temporary.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(target)
    except RuntimeError as error:
        if isinstance(error.__context__, OSError):  # what torch.save hides behind its own error
            raise error.__context__ from None
        raise
    finally:
        temporary.unlink(missing_ok=True)
    with suppress(OSError):  # some systems cannot open folders, and the file is in place
        folder = os.open(target.parent, os.O_RDONLY)
        os.fsync(folder)  # so that the move outlives a power cut
        os.close(folder)


def write_whole(path: Path, content: bytes) -> None:
    """Writes a file as `whole_file` does."""
    with whole_file(path) as file:
        file.write(content)


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Writes a file of JSON as `whole_file` does."""
    write_whole(path, (json.dumps(content, indent=2) + "\n").encode())


def remove_leftovers(folder: Path, name: str = "*", older_than: float = DAY) -> None:
    """Removes temporary files and folders of writers that were killed.

    Args:
        folder: may be missing.
        name: of the file that they were to become, a glob pattern.
        older_than: seconds since they were last written to; 0 where nobody else writes here.
    """
    for path in folder.glob(f".{name}.*.tmp"):
        with suppress(OSError):  # what cannot be removed disturbs nobody
            if time.time() - path.stat().st_mtime >= older_than:
                rmtree(path) if path.is_dir() else path.unlink()
