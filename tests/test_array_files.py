from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from disks import small_disk

from forger import array_files
from forger.array_files import DamagedError, array_writer, checksum_file, map_array

ROWS = np.arange(24, dtype=np.uint8).reshape(4, 2, 3)


def write(path: Path, rows: np.ndarray = ROWS) -> Path:
    with array_writer(path) as append:
        append(rows[:0])
        append(rows[:3])
        append(rows[3:])
    return path


def mapped(path: Path) -> torch.Tensor:
    return map_array(path, torch.uint8, (4, 2, 3))


def flipped(content: bytes, place: int) -> bytes:
    changed = bytearray(content)
    changed[place] ^= 1 << place % 8
    return bytes(changed)


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_what_is_written_is_mapped_and_numpy_reads_it_too(tmp_path: Path, dtype: str) -> None:
    rows = np.asfortranarray(ROWS.astype(dtype))
    path = write(tmp_path / "new" / "a.npy", rows)
    assert np.array_equal(map_array(path, getattr(torch, dtype), (4, None, 3)).numpy(), rows)
    assert np.array_equal(np.load(path), rows)
    assert sorted(path.parent.iterdir()) == [checksum_file(path), path]


def test_any_flipped_bit_any_cut_and_any_addition_is_found(tmp_path: Path) -> None:
    path = write(tmp_path / "a.npy")
    content = path.read_bytes()
    cuts = [content[:size] for size in range(len(content))]
    flips = [flipped(content, place) for place in range(len(content))]
    for number, damaged in enumerate([*cuts, *flips, content + b"\0"]):
        path.write_bytes(damaged)
        os.utime(path, (number, number))  # the clock of a file system may be too coarse to tell
        with pytest.raises(DamagedError, match="checksum is wrong"):
            mapped(path)
    path.write_bytes(content)
    assert np.array_equal(mapped(path).numpy(), ROWS)


@pytest.mark.parametrize("content", [None, b"", b"{", b"[]", b"{}", b"\xff", b'{"sha256": 1}'])
def test_an_array_without_its_checksum_is_not_taken(tmp_path: Path, content: bytes | None) -> None:
    path = write(tmp_path / "a.npy")
    checksum_file(path).unlink() if content is None else checksum_file(path).write_bytes(content)
    with pytest.raises(DamagedError, match=r"checksum (is missing|cannot be read|is wrong)"):
        mapped(path)


@pytest.mark.parametrize(
    ("dtype", "shape"),
    [(torch.uint8, (5, 2, 3)), (torch.uint8, (4, 6)), (torch.float32, (4, 2, 3))],
)
def test_another_type_or_shape_is_found(tmp_path: Path, dtype: Any, shape: Any) -> None:
    with pytest.raises(DamagedError, match=r"holds torch\.uint8 \(4, 2, 3\), not "):
        map_array(write(tmp_path / "a.npy"), dtype, shape)


def test_a_mapping_outlives_its_file_and_a_missing_one_is_no_damage(tmp_path: Path) -> None:
    path = write(tmp_path / "a.npy")
    array = mapped(path)
    path.unlink()
    assert np.array_equal(array.numpy(), ROWS)
    with pytest.raises(FileNotFoundError):
        mapped(path)


def test_only_what_was_copied_or_written_to_is_read_through(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads: list[Path] = []
    sha256 = array_files._sha256
    monkeypatch.setattr(array_files, "_sha256", lambda path: reads.append(path) or sha256(path))
    path = write(tmp_path / "a.npy")
    reads.clear()
    mapped(path)
    assert reads == []
    copy = tmp_path / "b.npy"
    shutil.copy2(path, copy)
    shutil.copy2(checksum_file(path), checksum_file(copy))
    for _ in range(2):
        mapped(copy)
        assert reads == [copy]
    os.utime(copy)
    mapped(copy)
    assert len(reads) == 2


def test_a_full_disk_is_an_error_and_not_a_crash_and_leaves_nothing(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", kilobytes=64) as disk:
        with pytest.raises(OSError, match="No space left"):
            write(disk / "a.npy", np.zeros((100, 4096), dtype=np.uint8))
        assert list(disk.iterdir()) == []
