from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from disks import small_disk

from forger import array_format
from forger.array_files import ArrayWriter, DamagedError, array_writer, map_array
from forger.array_format import Seal
from forger.whole_files import whole_file

ROWS = np.arange(24, dtype=np.uint8).reshape(4, 2, 3)


def write(path: Path, rows: np.ndarray = ROWS) -> Path:
    with path.open("wb") as file, array_writer(file, len(rows)) as put:
        put(rows[:3])
        put(rows[3:])
    return path


def mapped(path: Path) -> torch.Tensor:
    return map_array(path, torch.uint8, (4, 2, 3))


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_what_is_written_is_mapped_and_numpy_reads_it_too(tmp_path: Path, dtype: str) -> None:
    rows = ROWS.astype(dtype)
    path = write(tmp_path / "a.npy", rows)
    assert np.array_equal(map_array(path, getattr(torch, dtype), (4, None, 3)).numpy(), rows)
    assert np.array_equal(np.load(path), rows)


def test_rows_that_lie_otherwise_in_memory(tmp_path: Path) -> None:
    path = write(tmp_path / "a.npy", np.asfortranarray(ROWS))
    assert np.array_equal(mapped(path).numpy(), ROWS)


def test_any_flipped_bit_is_found(tmp_path: Path) -> None:
    path = write(tmp_path / "a.npy")
    content = path.read_bytes()
    for place in range(len(content)):
        damaged = bytearray(content)
        damaged[place] ^= 1 << place % 8
        path.write_bytes(damaged)
        with pytest.raises(DamagedError, match=r"checksum is wrong|end is missing"):
            mapped(path)


def test_any_cut_and_any_addition_is_found(tmp_path: Path) -> None:
    path = write(tmp_path / "a.npy")
    content = path.read_bytes()
    for damaged in [content[:size] for size in range(len(content))] + [content + b"\0"]:
        path.write_bytes(damaged)
        with pytest.raises(DamagedError):
            mapped(path)


def test_a_file_of_numpy_alone_has_no_checksum(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", ROWS)
    with pytest.raises(DamagedError, match="its end is missing"):
        mapped(tmp_path / "a.npy")


@pytest.mark.parametrize(
    ("dtype", "shape"),
    [(torch.uint8, (5, 2, 3)), (torch.uint8, (4, 6)), (torch.float32, (4, 2, 3))],
)
def test_another_type_or_shape_is_found(
    tmp_path: Path, dtype: torch.dtype, shape: tuple[int, ...]
) -> None:
    with pytest.raises(DamagedError, match=r"holds torch\.uint8 \(4, 2, 3\), not "):
        map_array(write(tmp_path / "a.npy"), dtype, shape)


def test_a_missing_file_is_no_damage(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        mapped(tmp_path / "a.npy")


def test_the_mapping_outlives_the_file(tmp_path: Path) -> None:
    path = write(tmp_path / "a.npy")
    array = mapped(path)
    path.unlink()
    assert np.array_equal(array.numpy(), ROWS)


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[None]:
    """Grows with each time that an array is read through."""
    found: list[None] = []
    good_blocks = Seal.good_blocks

    def noted(self: Seal, *arguments: Any) -> int:
        found.append(None)
        return good_blocks(self, *arguments)

    monkeypatch.setattr(Seal, "good_blocks", noted)
    return found


def test_what_was_not_written_to_is_not_read_through(tmp_path: Path, reads: list[None]) -> None:
    path = write(tmp_path / "a.npy")
    mapped(path.rename(tmp_path / "b.npy"))
    assert reads == []


@pytest.mark.parametrize("copy", [shutil.copy, shutil.copy2])
def test_a_copy_is_read_through_once(tmp_path: Path, reads: list[None], copy: Any) -> None:
    path = Path(copy(write(tmp_path / "a.npy"), tmp_path / "b.npy"))
    for _ in range(2):
        assert np.array_equal(mapped(path).numpy(), ROWS)
        assert len(reads) == 1
    assert np.array_equal(np.load(path), ROWS)


def test_what_was_touched_is_read_through(tmp_path: Path, reads: list[None]) -> None:
    path = write(tmp_path / "a.npy")
    path.touch()
    mapped(path)
    assert len(reads) == 1


def test_damage_in_a_copy_is_found_again_and_again(tmp_path: Path) -> None:
    path = tmp_path / "a.npy"
    content = bytearray(write(tmp_path / "b.npy").read_bytes())
    content[content.index(ROWS.tobytes()) + 7] ^= 1
    path.write_bytes(content)
    for _ in range(2):
        with pytest.raises(DamagedError, match="checksum is wrong"):
            mapped(path)


def begun(path: Path, rows: int) -> Path:
    """Leaves a file as a writer of all rows does that was killed after so many."""
    path.touch()
    with path.open("r+b") as file:
        writer = ArrayWriter(file, ROWS.dtype, ROWS.shape)
        writer.write(ROWS[writer.rows : rows])
    return path


def finished(path: Path) -> int:
    """Finishes it, and returns how many rows were there."""
    with path.open("r+b") as file:
        writer = ArrayWriter(file, ROWS.dtype, ROWS.shape)
        rows = writer.rows
        writer.write(ROWS[rows:])
        writer.seal()
    return rows


@pytest.mark.parametrize("block_size", [1, 6, 12, 18, 100])
@pytest.mark.parametrize("rows", [0, 1, 2, 3, 4])
def test_a_killed_writer_is_followed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block_size: int, rows: int
) -> None:
    monkeypatch.setattr(array_format, "_BLOCK", block_size)
    rows_in_block = max(1, block_size // 6)
    path = begun(tmp_path / "a.npy", rows)
    assert finished(path) == rows // rows_in_block * rows_in_block
    assert np.array_equal(mapped(path).numpy(), ROWS)


def test_one_killed_after_its_last_row_or_after_the_seal(tmp_path: Path) -> None:
    path = tmp_path / "a.npy"
    path.touch()
    finished(path)
    assert finished(path) == len(ROWS)
    os.truncate(path, path.stat().st_size - Seal.FORMAT.size)
    assert finished(path) == len(ROWS)
    assert np.array_equal(mapped(path).numpy(), ROWS)


def test_a_damaged_block_and_what_follows_are_written_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A power cut may keep a later write and lose an earlier one."""
    monkeypatch.setattr(array_format, "_BLOCK", 6)
    path = begun(tmp_path / "a.npy", 3)
    content = bytearray(path.read_bytes())
    content[content.index(ROWS[1].tobytes())] ^= 1
    path.write_bytes(content)
    assert finished(path) == 1
    assert np.array_equal(mapped(path).numpy(), ROWS)


def test_what_is_left_of_another_array_is_written_over(tmp_path: Path) -> None:
    path = tmp_path / "a.npy"
    np.save(path, ROWS.astype(np.float32))
    assert finished(path) == 0
    assert np.array_equal(mapped(path).numpy(), ROWS)


def test_a_full_disk_is_an_error_and_not_a_crash(tmp_path: Path) -> None:
    large = np.zeros((100, 4096), dtype=np.uint8)

    def write_large(path: Path) -> None:
        with whole_file(path) as file, array_writer(file, len(large)) as put:
            put(large)

    with small_disk(tmp_path / "disk", kilobytes=64) as disk:
        with pytest.raises(OSError, match="No space left"):
            write_large(disk / "a.npy")
        assert list(disk.iterdir()) == []
