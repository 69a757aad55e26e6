"""A folder that is written whole or not at all. Owns the swap, and what it refuses to delete.

It is built beside its place under a hidden name, and moved there when it is complete.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from forger.errors import UserError

RECORD = "generated.json"  # stands in every folder that `generate` wrote
_OURS = re.compile(r"grid\.png|images|images\.npz|walk\.gif|generated\.json")
_IMAGE = re.compile(r"\d{6,}\.png")
_DROPPINGS = re.compile(r"\.DS_Store|Thumbs\.db|desktop\.ini")  # of file managers


def check_replaceable(folder: Path) -> None:
    """Refuses a folder with anything in it that `generate` did not write.

    Raises:
        UserError: it holds such files, or it is a file.
    """
    if not folder.exists():
        return
    if not folder.is_dir():
        raise UserError(f"output={folder}: is a file; name a folder")
    try:
        foreign = _foreign(folder)
    except OSError as error:
        raise _unwritable(folder, error) from error
    if foreign:
        more = f" and {len(foreign) - 3} more" if len(foreign) > 3 else ""
        raise UserError(
            f"output={folder}: holds files that generate.py did not write"
            f" ({', '.join(foreign[:3])}{more}), and would be replaced as a whole; name a new or"
            " an empty folder"
        )


@contextmanager
def replaced(folder: Path) -> Iterator[Path]:
    """Yields an empty folder that takes the place of `folder` at the end, if nothing is raised.

    Raises:
        UserError: it cannot be written.
    """
    building = folder.with_name(f".{folder.name}.partial")
    previous = folder.with_name(f".{folder.name}.previous")
    try:
        _remove(building, previous)  # left by a process that was killed
        building.mkdir(parents=True)
        yield building
        if folder.exists():
            folder.rename(previous)
        building.rename(folder)
    except OSError as error:
        raise _unwritable(folder, error) from error
    finally:
        if previous.exists() and not folder.exists():
            previous.rename(folder)
        _remove(building, previous)


def _foreign(folder: Path) -> list[str]:
    """Names what in a folder is not from `generate`; all of it where the record is missing."""
    inside = [path for path in sorted(folder.iterdir()) if not _DROPPINGS.fullmatch(path.name)]
    if not (folder / RECORD).is_file():
        return [path.name for path in inside]
    foreign = [path.name for path in inside if not _OURS.fullmatch(path.name)]
    images = folder / "images"
    entries = sorted(images.iterdir()) if images.is_dir() else []
    names = (path.name for path in entries if not _DROPPINGS.fullmatch(path.name))
    return foreign + [f"images/{name}" for name in names if not _IMAGE.fullmatch(name)]


def _remove(*folders: Path) -> None:
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)


def _unwritable(folder: Path, error: OSError) -> UserError:
    return UserError(f"output={folder}: cannot be written: {error.strerror or error}")
