"""Whether a run is alive and how it ended: `status.json` and the locks by which folders are held.

A lock ends with its process, however that ends; the process number in `status.json` is for people
to read, since a container may give it to another process. Imports neither torch nor anything that
does: the front door asks too.
"""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from forger.errors import ConfigError
from forger.whole_files import is_alive, write_whole

try:
    import fcntl
except ImportError:  # Windows: there a second process on one folder goes unnoticed
    fcntl = None  # type: ignore[assignment]

LOCK = ".lock"
_PATIENCE = 2.0  # seconds: who only asks whether a folder is held takes its lock for a moment


def write_status(folder: Path, content: dict[str, Any]) -> None:
    """Writes `status.json` whole, with this machine and process in it."""
    content = content | {"host": socket.gethostname(), "pid": os.getpid()}
    write_whole(folder / "status.json", (json.dumps(content, indent=2) + "\n").encode())


def read_status(folder: Path) -> dict[str, Any] | None:
    """Returns what `status.json` says, `None` where there is none.

    A run that was killed had no time to write: `running` without a process that holds the folder
    reads as `interrupted`.
    """
    try:
        content: dict[str, Any] = json.loads((folder / "status.json").read_text())
    except (OSError, ValueError):
        return None
    if content.get("status") == "running" and not is_held(folder / LOCK, content):
        content |= {"status": "interrupted", "reason": "its process is gone: killed, or a crash"}
    return content


@contextmanager
def locked(folder: Path, refusal: str | None = None) -> Iterator[None]:
    """Holds the folder for this process.

    Args:
        folder: of a run or a sweep.
        refusal: what to say where another process holds it; `None`: that it trains there.

    Raises:
        ConfigError: another process holds it.
    """
    with held(folder / LOCK) as file:
        if file is None:
            raise ConfigError(refusal or running(folder))
        yield


@contextmanager
def held(path: Path) -> Iterator[int | None]:
    """Holds a file's lock; yields its descriptor, or `None` where another process holds it.

    A process that is started with the descriptor holds the lock as well, until it ends.
    """
    with path.open("a") as file:
        until = time.monotonic() + _PATIENCE
        while not _take(file.fileno()):
            if time.monotonic() > until:
                yield None
                return
            time.sleep(0.01)
        yield file.fileno()


def _take(descriptor: int) -> bool:
    if fcntl is None:
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a file system without locks
        pass
    return True


def running(folder: Path) -> str:
    """Words the refusal of a run that another process trains."""
    status = read_status(folder) or {}
    who = f" by process {status['pid']} on {status['host']}" if "pid" in status else ""
    return f"resume={folder}: is being trained{who}; stop that first, or wait for its end"


def is_held(path: Path, known: Mapping[str, Any]) -> bool:
    """Tells whether a process holds a file's lock.

    Args:
        path: of the file, which may be missing.
        known: `host` and `pid` of who wrote last, for file systems without locks alone.
    """
    if fcntl is None:
        return False
    try:
        with path.open("r") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except FileNotFoundError:
        return False
    except OSError:
        return known.get("host") != socket.gethostname() or is_alive(int(known.get("pid", 0)))
    return False
