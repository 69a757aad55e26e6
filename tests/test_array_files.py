from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from disks import small_disk

from forger.array_files import DamagedError, array_writer, map_array
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


def test_a_full_disk_is_an_error_and_not_a_crash(tmp_path: Path) -> None:
    large = np.zeros((100, 4096), dtype=np.uint8)

    def write_large(path: Path) -> None:
        with whole_file(path) as file, array_writer(file, len(large)) as put:
            put(large)

    with small_disk(tmp_path / "disk", kilobytes=64) as disk:
        with pytest.raises(OSError, match="No space left"):
            write_large(disk / "a.npy")
        assert list(disk.iterdir()) == []
