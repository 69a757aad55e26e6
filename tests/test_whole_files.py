"""Files are whole or not there, whatever happens to who writes them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from functools import partial
from pathlib import Path

import pytest
from disks import read_only, small_disk

from forger.whole_files import remove_leftovers, whole_file, write_whole

KILLED = """
import sys; from pathlib import Path; from forger.whole_files import whole_file
with whole_file(Path(sys.argv[1])) as file:
    file.write(b'half'); file.flush(); print('ready', flush=True); sys.stdin.read()
"""


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_the_file_appears_when_it_is_whole(tmp_path: Path) -> None:
    target = tmp_path / "new" / "folder" / "a.bin"
    with whole_file(target) as file:
        file.write(b"content")
        file.flush()
        assert not target.exists()
    assert target.read_bytes() == b"content"
    write_whole(target, b"other")
    assert target.read_bytes() == b"other"
    assert names(target.parent) == ["a.bin"]
    (tmp_path / "b").touch()
    assert target.stat().st_mode == (tmp_path / "b").stat().st_mode


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError, OSError])
def test_a_failure_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, error: type[BaseException]
) -> None:
    write_whole(tmp_path / "a", b"old")
    with suppress(error), whole_file(tmp_path / "a") as file:
        file.write(b"new")
        raise error
    assert (tmp_path / "a").read_bytes() == b"old"
    assert names(tmp_path) == ["a"]


@pytest.mark.parametrize("disk", [partial(small_disk, kilobytes=64), read_only])
def test_a_disk_that_takes_nothing_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, disk: Callable[[Path], AbstractContextManager[Path]]
) -> None:
    folder = tmp_path / "disk"
    write_whole(folder / "a", b"old")
    with disk(folder):
        if disk is not read_only:
            write_whole(folder / "a", b"old")
        with pytest.raises(OSError, match=r"No space left|Read-only"):
            write_whole(folder / "a", b"new" * 30_000)
        assert (folder / "a").read_bytes() == b"old"
        assert names(folder) == ["a"]
    with pytest.raises(IsADirectoryError):
        write_whole(folder, b"new")
    assert names(tmp_path) == ["disk"]


def test_contents_reach_the_disk_before_the_name_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a power cut leaves an empty file under the name."""
    steps: list[str] = []
    fsync, replace = os.fsync, Path.replace

    def noted_fsync(descriptor: int) -> None:
        steps.append("folder" if os.path.isdir(f"/dev/fd/{descriptor}") else "file")  # noqa: PTH112
        fsync(descriptor)

    def noted_replace(self: Path, target: Path) -> Path:
        assert self.read_bytes() == b"content"  # no longer in a buffer
        steps.append("name")
        return replace(self, target)

    monkeypatch.setattr("forger.whole_files.os.fsync", noted_fsync)
    monkeypatch.setattr(Path, "replace", noted_replace)
    write_whole(tmp_path / "a", b"content")
    assert steps == ["file", "name", "folder"]


def test_what_a_killed_writer_left_is_removed_once_nobody_can_be_writing_it(
    tmp_path: Path,
) -> None:
    target = tmp_path / "a-1.b"
    write_whole(target, b"old")
    command = [sys.executable, "-c", KILLED, str(target)]
    with subprocess.Popen(command, stdin=-1, stdout=-1) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        process.kill()
    assert target.read_bytes() == b"old"
    (left,) = (name for name in names(tmp_path) if name != "a-1.b")
    others = ["b", ".b", ".a-1.b.swp", f"{left}x"]
    for name in others:
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (0, 0))
    remove_leftovers(tmp_path, "a-*")  # written to a moment ago
    remove_leftovers(tmp_path, "other", older_than=0)
    remove_leftovers(tmp_path / "none")
    assert left in names(tmp_path)
    os.utime(tmp_path / left, (0, 0))
    remove_leftovers(tmp_path, "a-*")
    assert names(tmp_path) == sorted(["a-1.b", *others])
