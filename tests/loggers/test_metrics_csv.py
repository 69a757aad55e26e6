from __future__ import annotations

import csv
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from disks import fill, small_disk
from lightning.pytorch.utilities import rank_zero_only

from forger.errors import RunError
from forger.loggers import MetricsCSV


def logged(folder: Path, *steps: int) -> MetricsCSV:
    logger = MetricsCSV(folder)
    for step in steps:
        logger.log_metrics({"a": step / 3}, step=step)
    return logger


def content(folder: Path) -> bytes:
    return (folder / "metrics.csv").read_bytes()


def test_rows_are_on_disk_at_once_with_the_same_bits(tmp_path: Path) -> None:
    third = 1 / 3
    values: dict[str, Any] = {"a": third, "b": torch.tensor(third), "c": np.float32(third), "d": 7}
    others = {"text": "x", "many": torch.zeros(2), "array": np.zeros(3), "nothing": None}
    infinite = {"nan": float("nan"), "inf": float("inf")}
    MetricsCSV(tmp_path / "run").log_metrics({**values, "e": 1e-300, **infinite, **others}, step=50)
    with (tmp_path / "run" / "metrics.csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert list(row) == ["step", "a", "b", "c", "d", "e", "nan", "inf"]
    assert (row["step"], row["d"], row["nan"], row["inf"]) == ("50", "7", "nan", "inf")
    assert all(float(row[name]) == float(value) for name, value in values.items())


def test_a_new_name_becomes_a_column_and_an_earlier_process_is_continued(tmp_path: Path) -> None:
    logged(tmp_path, 1)
    MetricsCSV(tmp_path).log_metrics({"val/fid": 30.5, "a": 0.2}, step=2)
    logged(tmp_path, 3)
    assert content(tmp_path) == (
        b"step,a,val/fid\r\n1,0.3333333333333333,\r\n2,0.2,30.5\r\n3,1.0,\r\n"
    )
    assert [path.name for path in tmp_path.iterdir()] == ["metrics.csv"]


def test_only_rank_zero_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    logger = logged(tmp_path, 1, 2)
    before = content(tmp_path)
    monkeypatch.setattr(rank_zero_only, "rank", 1)
    logger.log_metrics({"a": 1.0}, step=3)
    logger.rewind(0)
    assert content(tmp_path) == before


def test_rewinding_drops_later_rows_and_leaves_the_others_in_bytes(tmp_path: Path) -> None:
    logger = logged(tmp_path, 10, 20)
    logger.log_metrics({"a": 1.0})  # of no iteration
    before = content(tmp_path)
    logger = logged(tmp_path, 30, 30, 40, 25)
    logger.rewind(20)
    assert content(tmp_path) == before
    file = (tmp_path / "metrics.csv").stat()
    MetricsCSV(tmp_path).rewind(20)
    assert (tmp_path / "metrics.csv").stat() == file  # nothing to drop, nothing written
    logger.log_metrics({"a": 0.0, "b": 0.5}, step=20)  # `a` is there already
    logger.log_metrics({"a": 10.0}, step=30)
    rows = [row.split(b",") for row in content(tmp_path).split()]
    assert [row[0] for row in rows] == [b"step", b"10", b"20", b"", b"20", b"30"]
    assert rows[4] == [b"20", b"", b"0.5"]
    logger.rewind(0)
    assert content(tmp_path).split() == [b"step,a,b", b",1.0,"]


@pytest.mark.parametrize("torn", [b"30", b"30,1.5", b"30,1.5\r", b"\0" * 9, b"\0\0\0\r\n"])
def test_a_row_that_was_cut_off_is_dropped_with_a_message(
    tmp_path: Path, torn: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    logged(tmp_path, 10, 20)
    before = content(tmp_path)
    for goes_on, row in (
        (lambda: MetricsCSV(tmp_path).rewind(20), b""),
        (lambda: logged(tmp_path, 30), b"30,10.0\r\n"),
    ):
        caplog.clear()
        (tmp_path / "metrics.csv").write_bytes(before + torn)
        goes_on()
        assert content(tmp_path) == before + row
        assert "dropped its last row, which was cut off" in caplog.text


@pytest.mark.parametrize("torn", [b"", b"st", b"step,a", b"\0\0"])
def test_a_header_that_was_cut_off_is_written_anew(tmp_path: Path, torn: bytes) -> None:
    (tmp_path / "metrics.csv").write_bytes(torn)
    MetricsCSV(tmp_path).rewind(5)
    logged(tmp_path, 3)
    assert content(tmp_path) == b"step,a\r\n3,1.0\r\n"


def test_a_killed_process_leaves_whole_rows(tmp_path: Path) -> None:
    code = (
        "import sys; from forger.loggers import MetricsCSV; logger = MetricsCSV(sys.argv[1])\n"
        "for step in range(10**9):\n"
        "    logger.log_metrics({'a': step / 3}, step=step)\n"
        "    if step == 100: print('ready', flush=True)"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=-1) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        process.kill()
    MetricsCSV(tmp_path).rewind(10**9)
    count = content(tmp_path).count(b"\n") - 1
    assert count > 100
    expected = b"step,a\r\n" + b"".join(b"%d,%r\r\n" % (s, s / 3) for s in range(count))
    assert content(tmp_path) == expected


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (b"epoch,a\r\n1,2\r\n", "no header that begins with 'step'"),
        (b"\x89PNG\r\n\x1a\n", "no header that begins with 'step'"),
        (b"step,a,a\r\n1,2,3\r\n", "no header that begins with 'step'"),
        (b"step,a\r\n1,2\r\n3\r\n4,5\r\n", "line 3 is no iteration with 1 values"),
        (b"step,a\r\n1,2,3\r\n", "line 2 is no iteration with 1 values"),
        (b"step,a\r\n1,2\r\n\0\0\r\n4,5\r\n", "line 3 is no iteration with 1 values"),
        (b"step,a\r\n1,2\r\nx,2\r\n", "line 3 is no iteration with 1 values"),
    ],
)
def test_damage_that_no_kill_does_is_named_and_left_alone(
    tmp_path: Path, damage: bytes, message: str
) -> None:
    (tmp_path / "metrics.csv").write_bytes(damage)
    with pytest.raises(RunError, match=message):
        MetricsCSV(tmp_path).rewind(0)
    with pytest.raises(RunError, match=message):
        logged(tmp_path, 9)
    assert content(tmp_path) == damage


def test_what_finds_no_room_leaves_whole_rows(tmp_path: Path) -> None:
    """Rows go on until the last block takes the beginning of one and not its end."""
    with small_disk(tmp_path / "disk", kilobytes=64) as disk:
        logger, step = logged(disk, *range(200)), 200
        before = content(disk)
        fill(disk)
        for fails in (
            lambda: logger.rewind(150),
            lambda: logger.log_metrics({"a": 1.0, "b": 2.0}, step=200),
        ):
            with pytest.raises(OSError, match="No space left"):
                fails()
            assert content(disk) == before
        assert sorted(path.name for path in disk.iterdir()) == ["filler", "metrics.csv"]
        with suppress(OSError):
            while step < 1000:
                before, step = content(disk), step + 1
                logger.log_metrics({"a": 1 / 3}, step=step)
        assert step < 1000
        assert len(before) % 4096 != 0  # there was room for a part
        assert content(disk).startswith(before)
        (disk / "filler").unlink()
        MetricsCSV(disk).rewind(step - 1)
        assert content(disk) == before
