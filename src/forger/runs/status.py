"""Is a run alive, and how did it end? Owns `status.json` and the lock of a run folder.

Imports neither torch nor anything that does: the front door asks too.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from forger.errors import ConfigError
from forger.whole_files import is_alive, write_whole

try:
    import fcntl
except ImportError:  # Windows: there a second process on one folder goes unnoticed
    fcntl = None  # type: ignore[assignment]

_LOCK = ".lock"


def write_status(folder: Path, content: dict[str, Any]) -> None:
    """Writes `status.json` whole, with this machine and process in it."""
    content = content | {"host": socket.gethostname(), "pid": os.getpid()}
    write_whole(folder / "status.json", (json.dumps(content, indent=2) + "\n").encode())


def read_status(folder: Path) -> dict[str, Any] | None:
    """Returns what `status.json` says, `None` where there is none.

    A run that was killed had no time to write: `running` without a living process reads as
    `interrupted`. Of another machine's process only the lock can tell.
    """
    try:
        content: dict[str, Any] = json.loads((folder / "status.json").read_text())
    except (OSError, ValueError):
        return None
    if content.get("status") == "running" and not is_running(folder, content):
        content |= {"status": "interrupted", "reason": "its process is gone: killed, or a crash"}
    return content


def is_running(folder: Path, content: dict[str, Any]) -> bool:
    """Tells whether the process that a status names still trains in the folder."""
    here = content.get("host") == socket.gethostname()
    if here and not is_alive(int(content.get("pid", 0))):
        return False
    return _is_locked(folder)


@contextmanager
def locked(folder: Path, refusal: str | None = None) -> Iterator[None]:
    """Holds the folder for this process; a lock ends with its process, however that ends.

    Args:
        folder: of a run or a sweep.
        refusal: what to say where another process holds it; `None`: that it trains there.

    Raises:
        ConfigError: another process holds it.
    """
    if fcntl is None:
        yield
        return
    with (folder / _LOCK).open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConfigError(refusal or running(folder)) from None
        except OSError:  # a file system without locks
            pass
        yield


def running(folder: Path) -> str:
    """Words the refusal of a run that another process trains."""
    status = read_status(folder) or {}
    who = f" by process {status['pid']} on {status['host']}" if "pid" in status else ""
    return f"resume={folder}: is being trained{who}; stop that first, or wait for its end"


def _is_locked(folder: Path) -> bool:
    if fcntl is None:
        return True
    try:
        with (folder / _LOCK).open("r") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except FileNotFoundError:
        return False
    except OSError:
        return True
    return False
