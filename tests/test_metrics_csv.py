from __future__ import annotations

import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest
from disks import fill, read_only, small_disk
from lightning.pytorch.utilities import rank_zero_only

from forger.errors import RunError
from forger.loggers import MetricsCSV


def logged(folder: Path, *steps: int, **values: float) -> MetricsCSV:
    logger = MetricsCSV(folder)
    for step in steps:
        logger.log_metrics({"a": step / 3, **values}, step=step)
    return logger


def content(folder: Path) -> bytes:
    return (folder / "metrics.csv").read_bytes()


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# Rewinding


def test_rewinding_drops_later_rows_and_leaves_the_others_in_bytes(tmp_path: Path) -> None:
    logged(tmp_path, 10, 20)
    before = content(tmp_path)
    logger = logged(tmp_path, 30, 30, 40)
    assert logger.rewind(20) == 40
    assert content(tmp_path) == before
    assert names(tmp_path) == ["metrics.csv"]
    logger.log_metrics({"a": 10.0}, step=30)
    logged(tmp_path, 40)
    assert [row.split(b",")[0] for row in content(tmp_path).split()] == [
        *(b"step", b"10", b"20", b"30", b"40")
    ]


def test_rows_are_dropped_by_step_wherever_they_stand(tmp_path: Path) -> None:
    logged(tmp_path, 50, 10, 40, 20)
    assert MetricsCSV(tmp_path).rewind(20) == 50
    assert [row.split(b",")[0] for row in content(tmp_path).split()] == [b"step", b"10", b"20"]


def test_nothing_to_drop_writes_nothing(tmp_path: Path) -> None:
    logged(tmp_path, 10, 20)
    file = (tmp_path / "metrics.csv").stat()
    assert MetricsCSV(tmp_path).rewind(20) == 20
    assert (tmp_path / "metrics.csv").stat() == file


def test_rewinding_to_the_start_keeps_the_header(tmp_path: Path) -> None:
    logged(tmp_path, 10)
    header = content(tmp_path).splitlines(keepends=True)[0]
    assert MetricsCSV(tmp_path).rewind(0) == 10
    assert content(tmp_path) == header
    assert MetricsCSV(tmp_path).rewind(0) is None


def test_without_a_file_there_is_nothing_to_rewind(tmp_path: Path) -> None:
    assert MetricsCSV(tmp_path / "new").rewind(5) is None
    assert names(tmp_path) == []


def test_rows_of_no_iteration_stay(tmp_path: Path) -> None:
    logger = logged(tmp_path, 10)
    logger.log_metrics({"a": 1.0})
    before = content(tmp_path)
    logger.log_metrics({"a": 1.0}, step=20)
    assert logger.rewind(10) == 20
    assert content(tmp_path) == before


def test_a_rewind_that_fails_leaves_the_file(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", kilobytes=64) as disk:
        logger = logged(disk, *range(200))
        before = content(disk)
        fill(disk)
        with pytest.raises(OSError, match="No space left"):
            logger.rewind(150)
        assert content(disk) == before
        assert names(disk) == ["filler", "metrics.csv"]


def test_other_processes_rewind_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    logger = logged(tmp_path, 10, 20)
    before = content(tmp_path)
    monkeypatch.setattr(rank_zero_only, "rank", 1)
    assert logger.rewind(0) is None
    assert content(tmp_path) == before


# Rows that were cut off


@pytest.mark.parametrize("torn", [b"30", b"30,1.5", b"30,1.5\r", b"\0" * 9, b"\0\0\0\r\n"])
@pytest.mark.parametrize("how", ["rewound", "continued"])
def test_a_row_that_was_cut_off_is_dropped_with_a_message(
    tmp_path: Path, torn: bytes, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    logged(tmp_path, 10, 20)
    before = content(tmp_path)
    (tmp_path / "metrics.csv").write_bytes(before + torn)
    if how == "rewound":
        assert MetricsCSV(tmp_path).rewind(20) == 20
        assert content(tmp_path) == before
    else:
        logged(tmp_path, 30)
        assert content(tmp_path) == before + b"30,10.0\r\n"
    assert "dropped its last row, which was cut off" in caplog.text


@pytest.mark.parametrize("torn", [b"", b"st", b"step,a", b"\0\0"])
def test_a_header_that_was_cut_off_is_written_anew(tmp_path: Path, torn: bytes) -> None:
    (tmp_path / "metrics.csv").write_bytes(torn)
    assert MetricsCSV(tmp_path).rewind(5) is None
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
    found = MetricsCSV(tmp_path).rewind(10**9)
    assert found is not None
    assert found >= 100
    expected = b"step,a\r\n" + b"".join(b"%d,%r\r\n" % (s, s / 3) for s in range(found + 1))
    assert content(tmp_path) == expected


# Files that are not ours


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (b"epoch,a\r\n1,2\r\n", r"no header that begins with 'step'"),
        (b"\x89PNG\r\n\x1a\n", r"no header that begins with 'step'"),
        (b"step,a,a\r\n1,2,3\r\n", r"no header that begins with 'step'"),
        (b"step,a\r\n1,2\r\n3\r\n4,5\r\n", r"line 3 has 1 values for 2 columns"),
        (b"step,a\r\n1,2,3\r\n", r"line 2 has 3 values for 2 columns"),
        (b"step,a\r\n1,2\r\n\0\0\r\n4,5\r\n", r"line 3 has 1 values for 2 columns"),
    ],
)
def test_damage_that_no_kill_does_is_named_and_left_alone(
    tmp_path: Path, damage: bytes, words: str
) -> None:
    (tmp_path / "metrics.csv").write_bytes(damage)
    with pytest.raises(RunError, match=words):
        MetricsCSV(tmp_path).rewind(0)
    with pytest.raises(RunError, match=words):
        logged(tmp_path, 9)
    assert content(tmp_path) == damage


def test_a_step_that_is_no_number_is_named(tmp_path: Path) -> None:
    (tmp_path / "metrics.csv").write_bytes(b"step,a\r\n1,2\r\nx,2\r\n")
    with pytest.raises(RunError, match="line 3 begins with 'x', which is no iteration"):
        MetricsCSV(tmp_path).rewind(0)


def test_a_file_that_was_moved_away_gets_its_header_again(tmp_path: Path) -> None:
    logger = logged(tmp_path, 1, 2)
    (tmp_path / "metrics.csv").unlink()
    logger.log_metrics({"a": 1.0}, step=3)
    assert content(tmp_path) == b"step,a\r\n3,1.0\r\n"


# Full and read-only disks


def test_a_row_that_finds_no_room_is_not_there_in_part(tmp_path: Path) -> None:
    """The last block takes the beginning of a row and not its end."""
    with small_disk(tmp_path / "disk", kilobytes=64) as disk:
        logger = logged(disk, 0)
        fill(disk)
        sizes = [len(content(disk))]
        step = 0
        with suppress(OSError):
            while step < 1000:
                step += 1
                logger.log_metrics({"a": 1 / 3}, step=step)
                sizes.append(len(content(disk)))
        before = content(disk)
        with pytest.raises(OSError, match="No space left"):
            logger.log_metrics({"a": 1 / 3}, step=step)
        assert len(before) == sizes[-1]
        assert len(before) % 4096 != 0  # there was room for a part
        assert content(disk) == before
        (disk / "filler").unlink()
        logger.log_metrics({"a": 0.5}, step=step)
        assert content(disk) == before + b"%d,0.5\r\n" % step


def test_a_column_that_finds_no_room_is_not_there_in_part(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", kilobytes=64) as disk:
        logger = logged(disk, *range(200))
        before = content(disk)
        fill(disk)
        for _ in range(2):
            with pytest.raises(OSError, match="No space left"):
                logger.log_metrics({"a": 1.0, "b": 2.0}, step=200)
            assert content(disk) == before
        assert names(disk) == ["filler", "metrics.csv"]
        (disk / "filler").unlink()
        logger.log_metrics({"a": 1.0, "b": 2.0}, step=200)
        lines = content(disk).splitlines()
        assert (lines[0], lines[1], lines[-1]) == (b"step,a,b", b"0,0.0,", b"200,1.0,2.0")


def test_a_read_only_folder_is_an_error(tmp_path: Path) -> None:
    logger = logged(tmp_path / "run", 1)
    before = content(tmp_path / "run")
    with read_only(tmp_path / "run"):
        for fails in (
            lambda: logger.log_metrics({"a": 1.0}, step=2),
            lambda: logger.log_metrics({"b": 1.0}, step=2),
            lambda: logger.rewind(0),
        ):
            with pytest.raises(OSError, match="Read-only"):
                fails()
    assert content(tmp_path / "run") == before
