"""Disks that are full or read-only, and processes without the administrator's rights.

Each is what it says and nothing is patched; where a machine allows none of it, the test is skipped.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

NOBODY = 65534


@contextmanager
def small_disk(folder: Path, kilobytes: int) -> Iterator[Path]:
    """Mounts a disk of so many kilobytes on `folder`, which is made."""
    with _mounted(folder, "-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs"):
        yield folder


@contextmanager
def read_only(folder: Path) -> Iterator[Path]:
    """Makes a folder read-only, for the administrator too."""
    with _mounted(folder, "--bind", str(folder)):
        _mount("-o", "remount,bind,ro", str(folder))
        yield folder


@contextmanager
def _mounted(folder: Path, *arguments: str) -> Iterator[None]:
    folder.mkdir(parents=True, exist_ok=True)
    _mount(*arguments, str(folder))
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def _mount(*arguments: str) -> None:
    if sys.platform != "linux":
        pytest.skip("mounting is done as Linux does it")
    done = subprocess.run(["mount", *arguments], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"this machine does not let tests mount disks: {done.stderr.strip()}")


@contextmanager
def without_rights(folder: Path) -> Iterator[None]:
    """Gives up the administrator's rights, which permissions do not bind, for a while.

    `folder` and those that lead to it are opened to everyone, as those of tests are not.
    """
    if os.geteuid() != 0:
        yield
        return
    own = [path for path in (folder, *folder.parents) if path.stat().st_uid == 0]
    modes = {path: path.stat().st_mode for path in own}
    for path, mode in modes.items():
        path.chmod(mode | 0o055)
    os.setegid(NOBODY)
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)
        for path, mode in modes.items():
            path.chmod(mode)


def fill(folder: Path) -> None:
    """Leaves no block free on a small disk."""
    descriptor = os.open(folder / "filler", os.O_WRONLY | os.O_CREAT)
    with suppress(OSError):
        while os.write(descriptor, b"\0" * 4096):
            pass
    os.close(descriptor)
