"""Files that are whole or not there, whatever kills their writer or fills the disk.

Owns how they are written and how a dead writer's remains are removed, not their names or contents.
"""

from __future__ import annotations

import os
import re
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path
from shutil import rmtree
from typing import BinaryIO
from uuid import uuid4

_ABANDONED = 24 * 3600  # seconds without a write, after which no writer is believed to be alive
_TEMPORARY = re.compile(r"\.(?P<name>.+)\.(?P<host>[^.]+)\.(?P<pid>\d+)\.[0-9a-f]{32}\.tmp")

_being_written: set[str] = set()  # names of this process's temporary files


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
    temporary = _temporary(target)
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
        _being_written.discard(temporary.name)
        with suppress(OSError):  # where it is gone, or its disk, the error above says more
            temporary.unlink()
    sync_folder(target.parent)


@contextmanager
def resumable_file(target: Path) -> Iterator[BinaryIO]:
    """Writes as `whole_file` does, and begins with what a killed writer of the same file left.

    An interruption, as by Ctrl-C, leaves what was written for the next writer too; any failure (an
    `Exception`) removes it. Two writers at once write to files of their own. What is left behind of
    other files is not looked at, only by `remove_leftovers`.

    Args:
        target: its folder is made where it is missing.

    Yields:
        A file to read and write, at its beginning; the writer tells what of it is good.

    Raises:
        OSError: the file cannot be written; what was under the name is still there.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary, keep = _temporary(target), False
    try:
        with temporary.open("r+b" if _take_over(target, temporary) else "x+b") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(target)
    except BaseException as error:
        interrupted = not isinstance(error, Exception)
        keep = interrupted and temporary.exists() and temporary.stat().st_size > 0
        raise
    finally:
        _being_written.discard(temporary.name)
        if not keep:
            with suppress(OSError):
                temporary.unlink()
    sync_folder(target.parent)


@contextmanager
def temporary_folder(folder: Path, name: str) -> Iterator[Path]:
    """Makes a folder for the time of the context, inside `folder`.

    Args:
        folder: there already.
        name: for `remove_leftovers`, should a kill leave the folder behind.

    Raises:
        OSError: it cannot be made.
    """
    temporary = _temporary(folder / name)
    try:
        temporary.mkdir()
        yield temporary
    finally:
        _being_written.discard(temporary.name)
        rmtree(temporary, ignore_errors=True)


def write_whole(path: Path, content: bytes) -> None:
    """Writes a file as `whole_file` does.

    Raises:
        OSError: the file cannot be written; what was under the name is still there.
    """
    with whole_file(path) as file:
        file.write(content)


def remove_leftovers(folder: Path, name: str) -> None:
    """Removes temporary files and folders of dead writers; never one that is being written.

    A writer of this machine is looked up by its process number. That of another machine, or of
    another container, is taken for dead when it has not written for a day.

    Args:
        folder: may be missing.
        name: of the file that they were to become; `*` stands for any characters.
    """
    with suppress(OSError):  # cleaning is a courtesy; what cannot be cleaned disturbs nobody
        for path in folder.iterdir():
            parts = _TEMPORARY.fullmatch(path.name)
            if parts and fnmatchcase(parts["name"], name) and _is_dead(path, parts):
                rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink()


def _take_over(target: Path, temporary: Path) -> bool:
    """Renames the newest file that a dead writer of `target` left, if any, to `temporary`."""
    left: list[tuple[float, Path]] = []
    for path in target.parent.iterdir():
        parts = _TEMPORARY.fullmatch(path.name)
        if parts and parts["name"] == target.name and _is_dead(path, parts):
            with suppress(FileNotFoundError):
                left.append((path.stat().st_mtime, path))
    for _, path in sorted(left, reverse=True):
        with suppress(FileNotFoundError):  # another writer was faster
            path.rename(temporary)
            return True
    return False


def sync_folder(folder: Path) -> None:
    """Makes moves within a folder outlive a power cut, where the file system can."""
    with suppress(OSError):  # the file is in place already, and some systems cannot open folders
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def is_alive(pid: int) -> bool:
    """Tells whether a process of this number runs on this machine; it may be another by now."""
    if pid <= 0:
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:  # another user's
        return True
    return True


def _temporary(target: Path) -> Path:
    name = f".{target.name}.{_namespace()}.{os.getpid()}.{uuid4().hex}.tmp"
    _being_written.add(name)
    return target.with_name(name)


def _is_dead(path: Path, parts: re.Match[str]) -> bool:
    if path.name in _being_written:
        return False
    pid = int(parts["pid"])
    if parts["host"] == _namespace() and (pid == os.getpid() or not is_alive(pid)):
        return True  # a container restarts with the same numbers: our own may be another's
    with suppress(FileNotFoundError):
        return time.time() - path.stat().st_mtime > _ABANDONED
    return False


@cache
def _namespace() -> str:
    """Names this machine and, where containers on it count processes apart, this container."""
    host = re.sub(r"[^\w-]", "-", socket.gethostname())
    try:
        return f"{host}-{Path('/proc/self/ns/pid').stat().st_ino}"
    except OSError:
        return host
