"""Checkpoint files: whole, verified, and harmless whoever made them."""

from __future__ import annotations

import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from disks import small_disk

from forger.checkpoints.reading import newest_checkpoint, read_checkpoint, set_damaged_aside
from forger.checkpoints.writing import WholeCheckpointIO
from forger.errors import DataError, RunError


def content(step: int, size: int = 1000) -> dict[str, Any]:
    return {"state_dict": {"weight": torch.arange(size) + step}, "global_step": step}


def save(folder: Path, *steps: int, name: str = "last.ckpt") -> Path:
    path = folder / "checkpoints" / name
    for step in steps:
        WholeCheckpointIO().save_checkpoint(content(step), path)
    return path


def names(path: Path) -> list[str]:
    return sorted(file.name for file in path.parent.iterdir())


def flip_a_bit_of_a_weight(path: Path) -> None:
    with zipfile.ZipFile(path) as archive:
        entry = next(e for e in archive.infolist() if e.filename.endswith("data/0"))
    raw = bytearray(path.read_bytes())
    raw[entry.header_offset + len(raw[entry.header_offset :]) // 4] ^= 1
    path.write_bytes(raw)
    torch.load(path, weights_only=True)  # torch itself would take it


class Mischief:
    """A pickle that runs code when it is loaded."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.target),)


def test_the_last_and_the_one_before_stay_and_others_are_replaced(tmp_path: Path) -> None:
    path = save(tmp_path, 1, 2, 3)
    assert names(path) == ["last.ckpt", "previous.ckpt"]
    assert read_checkpoint(path)["global_step"] == 3
    assert read_checkpoint(path.with_name("previous.ckpt"))["global_step"] == 2
    path.unlink()
    found = newest_checkpoint(tmp_path)
    assert found is not None
    assert found[1]["global_step"] == 2
    assert names(save(tmp_path / "other", 1, 2, name="best.ckpt")) == ["best.ckpt"]
    assert newest_checkpoint(tmp_path / "other") is None


def test_a_kill_between_the_two_names_leaves_no_third(tmp_path: Path) -> None:
    path = save(tmp_path, 1)
    path.with_name("previous.ckpt").hardlink_to(path)  # killed before `last` was replaced
    save(tmp_path, 2)
    assert names(path) == ["last.ckpt", "previous.ckpt"]
    assert read_checkpoint(path.with_name("previous.ckpt"))["global_step"] == 1


@pytest.mark.parametrize(
    "damage",
    [
        flip_a_bit_of_a_weight,
        lambda path: path.write_bytes(path.read_bytes()[:1000]),
        lambda path: path.write_bytes(path.read_bytes()[::-1]),
        lambda path: path.write_bytes(b""),
    ],
)
def test_damage_is_found_and_the_one_before_taken(
    damage: Callable[[Path], Any], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = save(tmp_path, 1, 2)
    damage(path)
    with pytest.raises(DataError, match=r"last\.ckpt: "):
        read_checkpoint(path)
    found = newest_checkpoint(tmp_path)
    assert found is not None
    assert (found[0].name, found[1]["global_step"]) == ("previous.ckpt", 1)
    assert "taking the one before it, of iteration 1" in caplog.text

    set_damaged_aside(tmp_path, found[0])
    save(tmp_path, 3)
    assert read_checkpoint(path.with_name("previous.ckpt"))["global_step"] == 1, "still whole"
    assert path.with_name("damaged.ckpt").exists()
    for file in (path, path.with_name("previous.ckpt")):
        file.write_bytes(b"")
    with pytest.raises(DataError, match=r"last\.ckpt: .*previous\.ckpt: "):
        newest_checkpoint(tmp_path)


@pytest.mark.parametrize("how", ["torch", "legacy", "pickle"])
def test_a_pickle_that_would_run_code_runs_nothing(how: str, tmp_path: Path) -> None:
    path, target = tmp_path / "evil.ckpt", tmp_path / "it_ran"
    evil = content(1) | {"callbacks": Mischief(target)}
    if how == "pickle":
        path.write_bytes(pickle.dumps(evil))
    else:
        torch.save(evil, path, _use_new_zipfile_serialization=how == "torch")
    with pytest.raises(DataError, match="cannot be read as a checkpoint"):
        read_checkpoint(path)
    with pytest.raises(DataError):  # whatever Lightning asks for
        WholeCheckpointIO().load_checkpoint(path, weights_only=False)
    assert not target.exists()
    with pytest.raises(DataError, match="holds more than tensors and plain data"):  # at once
        WholeCheckpointIO().save_checkpoint(evil, tmp_path / "last.ckpt")
    torch.save({"weight": torch.zeros(1)}, path)
    with pytest.raises(DataError, match="is not a checkpoint of a run"):
        read_checkpoint(path)


def test_a_full_disk_leaves_the_one_before(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", kilobytes=500) as disk:
        path = save(disk, 1)
        full = r"last\.ckpt: the checkpoint cannot be written: No space left"
        with pytest.raises(RunError, match=full):
            WholeCheckpointIO().save_checkpoint(content(2, size=100_000), path)
        assert read_checkpoint(path)["global_step"] == 1
        assert not [name for name in names(path) if name.startswith(".")]
