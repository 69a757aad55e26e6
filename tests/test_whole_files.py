from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from uuid import uuid4

import pytest
import torch
from disks import read_only, small_disk

from forger import whole_files
from forger.whole_files import (
    remove_leftovers,
    resumable_file,
    temporary_folder,
    whole_file,
    write_whole,
)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def killed_writer(target: Path) -> None:
    """Has another process write half of `target` and kills it there."""
    code = (
        "import sys; from pathlib import Path; from forger.whole_files import whole_file\n"
        "with whole_file(Path(sys.argv[1])) as file:\n"
        "    file.write(b'half'); file.flush(); print('ready', flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", code, str(target)]
    with subprocess.Popen(command, stdin=-1, stdout=-1) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == b"ready\n"
        writer.kill()


def leftover(target: Path, host: str, pid: int, age: float = 0) -> Path:
    """A temporary file as another writer would name it, last written to `age` seconds ago."""
    path = target.with_name(f".{target.name}.{host}.{pid}.{uuid4().hex}.tmp")
    path.write_bytes(b"half")
    os.utime(path, (time.time() - age,) * 2)
    return path


@pytest.fixture
def dead() -> int:
    """The number of a process that has ended."""
    process = subprocess.Popen(["true"])
    process.wait()
    return process.pid


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


def test_it_has_the_permissions_of_an_ordinary_file(tmp_path: Path) -> None:
    write_whole(tmp_path / "a", b"")
    (tmp_path / "b").write_bytes(b"")
    assert (tmp_path / "a").stat().st_mode == (tmp_path / "b").stat().st_mode


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError, OSError])
def test_a_failure_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, error: type[BaseException]
) -> None:
    target = tmp_path / "a"
    write_whole(target, b"old")

    def write() -> None:
        with whole_file(target) as file:
            file.write(b"new")
            raise error

    with pytest.raises(error):
        write()
    assert target.read_bytes() == b"old"
    assert names(tmp_path) == ["a"]


def test_a_full_disk_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", kilobytes=64) as disk:
        target = disk / "a"
        write_whole(target, b"old" * 1000)
        with pytest.raises(OSError, match="No space left"):
            write_whole(target, b"new" * 30_000)
        assert target.read_bytes() == b"old" * 1000
        assert names(disk) == ["a"]
        write_whole(target, b"new" * 1000)


def test_a_full_disk_is_told_where_torch_tells_something_else(tmp_path: Path) -> None:
    def save(target: Path) -> None:
        with whole_file(target) as file:
            torch.save(torch.zeros(100_000), file)

    with small_disk(tmp_path / "disk", kilobytes=64) as disk:
        with pytest.raises(OSError, match="No space left"):
            save(disk / "a")
        assert names(disk) == []


def test_a_read_only_folder(tmp_path: Path) -> None:
    write_whole(tmp_path / "disk" / "a", b"old")
    with read_only(tmp_path / "disk") as disk, pytest.raises(OSError, match="Read-only"):
        write_whole(disk / "a", b"new")
    assert (tmp_path / "disk" / "a").read_bytes() == b"old"


def test_a_folder_under_the_name_stays(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    with pytest.raises(IsADirectoryError):
        write_whole(tmp_path / "a", b"new")
    assert names(tmp_path) == ["a"]


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

    monkeypatch.setattr(whole_files.os, "fsync", noted_fsync)
    monkeypatch.setattr(Path, "replace", noted_replace)
    write_whole(tmp_path / "a", b"content")
    assert steps == ["file", "name", "folder"]


def test_a_killed_writer_leaves_the_old_file_and_what_remains_is_removed(tmp_path: Path) -> None:
    target = tmp_path / "a.b"
    write_whole(target, b"old")
    killed_writer(target)
    assert target.read_bytes() == b"old"
    (remains,) = (name for name in names(tmp_path) if name != "a.b")
    assert remains.startswith(".a.b.")
    assert remains.endswith(".tmp")
    remove_leftovers(tmp_path, "other")
    remove_leftovers(tmp_path, "a")
    assert remains in names(tmp_path)
    remove_leftovers(tmp_path, "a.b")
    assert names(tmp_path) == ["a.b"]


def test_a_temporary_folder(tmp_path: Path) -> None:
    with temporary_folder(tmp_path, "a") as folder:
        remove_leftovers(tmp_path, "a")
        (folder / "inside").mkdir()
        assert names(tmp_path) == [folder.name]
    assert names(tmp_path) == []
    folder.mkdir()  # as a killed process leaves it
    (folder / "inside").mkdir()
    remove_leftovers(tmp_path, "a")
    assert names(tmp_path) == []


def test_a_star_stands_for_any_name(tmp_path: Path) -> None:
    killed_writer(tmp_path / "images-1.npy")
    killed_writer(tmp_path / "features-1.npy")
    remove_leftovers(tmp_path, "images-*")
    (remains,) = names(tmp_path)
    assert remains.startswith(".features-1.npy.")


def test_what_is_being_written_is_no_leftover(tmp_path: Path) -> None:
    alive = leftover(tmp_path / "a", whole_files._namespace(), os.getppid())
    with whole_file(tmp_path / "a") as file:
        remove_leftovers(tmp_path, "a")
        file.write(b"content")
        assert alive.exists()
    assert (tmp_path / "a").read_bytes() == b"content"


def test_an_old_file_of_our_own_number_is_a_leftover(tmp_path: Path) -> None:
    """A container that starts again gives the new process the number of the dead one."""
    path = leftover(tmp_path / "a", whole_files._namespace(), os.getpid())
    remove_leftovers(tmp_path, "a")
    assert not path.exists()


def test_those_of_another_machine_are_removed_after_a_day(tmp_path: Path, dead: int) -> None:
    new = leftover(tmp_path / "a", "elsewhere", dead, age=23 * 3600)
    old = leftover(tmp_path / "a", "elsewhere", dead, age=25 * 3600)
    here = leftover(tmp_path / "a", whole_files._namespace(), dead)
    remove_leftovers(tmp_path, "a")
    assert [path.exists() for path in (new, old, here)] == [True, False, False]


def test_only_our_own_temporary_files_are_removed(tmp_path: Path, dead: int) -> None:
    host = whole_files._namespace()
    others = ["a", ".a", f".a.{host}.tmp", f"a.{host}.{dead}.{uuid4().hex}.tmp", ".a.swp"]
    for name in others:
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (0, 0))
    remove_leftovers(tmp_path, "*")
    assert names(tmp_path) == sorted(others)


def test_a_missing_folder_has_no_leftovers(tmp_path: Path) -> None:
    remove_leftovers(tmp_path / "none", "a")
    assert names(tmp_path) == []


def test_names_of_machines_do_not_confuse(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: "node.example/1 x")
    whole_files._namespace.cache_clear()
    try:
        with whole_file(tmp_path / "a"):
            (name,) = names(tmp_path)
            parts = whole_files._TEMPORARY.fullmatch(name)
            assert parts is not None
            assert (parts["name"], int(parts["pid"])) == ("a", os.getpid())
    finally:
        whole_files._namespace.cache_clear()


def test_a_resumable_file_begins_with_what_a_killed_writer_left(tmp_path: Path) -> None:
    target = tmp_path / "a"
    write_whole(target, b"old")
    killed_writer(target)
    killed_writer(tmp_path / "other")
    with resumable_file(target) as file:
        assert file.read() == b"half"
        file.write(b" whole")
        remove_leftovers(tmp_path, "*")
        assert target.read_bytes() == b"old"
    assert target.read_bytes() == b"half whole"
    assert names(tmp_path) == ["a"]


@pytest.mark.parametrize(
    ("error", "content", "kept"),
    [
        (KeyboardInterrupt, b"half", True),
        (SystemExit, b"half", True),
        (KeyboardInterrupt, b"", False),
        (ValueError, b"half", False),
        (OSError, b"half", False),
    ],
)
def test_an_interruption_keeps_what_was_written_and_a_failure_does_not(
    tmp_path: Path, error: type[BaseException], content: bytes, kept: bool
) -> None:
    def write() -> None:
        with resumable_file(tmp_path / "a") as file:
            file.write(content)
            raise error

    with pytest.raises(error):
        write()
    assert len(names(tmp_path)) == kept
    with resumable_file(tmp_path / "a") as file:
        assert file.read() == (content if kept else b"")
    assert names(tmp_path) == ["a"]


def test_resumable_writers_at_once_have_files_of_their_own(tmp_path: Path) -> None:
    target = tmp_path / "a"
    with resumable_file(target) as first:
        first.write(b"first")
        first.flush()
        with resumable_file(target) as second:
            assert second.read() == b""
            second.write(b"second")
        assert target.read_bytes() == b"second"
    assert target.read_bytes() == b"first"
    assert names(tmp_path) == ["a"]
