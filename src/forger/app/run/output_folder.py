"""The folder that generate.py writes: whole or not at all, and never over somebody's own files."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from forger.errors import UserError

RECORD = "generated.json"  # stands in every folder that generate.py wrote
_OURS = re.compile(r"grid\.png|images|images/\d{6,}\.png|images\.npz|walk\.gif|generated\.json")
_OF_FILE_MANAGERS = (".DS_Store", "Thumbs.db", "desktop.ini")


def check_replaceable(folder: Path) -> None:
    """Refuses a folder with anything in it that generate.py did not write.

    Raises:
        UserError: it holds such files, or it is a file.
    """
    if folder.exists() and not folder.is_dir():
        raise UserError(f"output={folder}: is a file; name a folder")
    ours = (folder / RECORD).is_file()
    try:
        inside = sorted(folder.rglob("*") if ours else folder.iterdir()) if folder.exists() else []
    except OSError as error:
        raise _unwritable(folder, error) from error
    names = [p.relative_to(folder).as_posix() for p in inside if p.name not in _OF_FILE_MANAGERS]
    foreign = [name for name in names if not (ours and _OURS.fullmatch(name))]
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
    building, previous = (folder.with_name(f".{folder.name}.{x}") for x in ("partial", "previous"))
    try:
        for left in (building, previous):  # by a process that was killed
            shutil.rmtree(left, ignore_errors=True)
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
        shutil.rmtree(building, ignore_errors=True)
        shutil.rmtree(previous, ignore_errors=True)


def _unwritable(folder: Path, error: OSError) -> UserError:
    return UserError(f"output={folder}: cannot be written: {error.strerror or error}")
