"""What a sweep says as its jobs end, and the tables at its end."""

from __future__ import annotations

import errno
import logging
import subprocess
import sys
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from sweep_folders import job
from sweeping import table

from forger.app.cli.ending import summarise
from forger.app.sweep import report
from forger.app.sweep.jobs import Outcome


def sweep(folder: Path) -> list[Outcome]:
    tags = ["logger.tags=[a,b]", "logger.tags=[a|b,'c*d']"]
    return [
        job(folder, 0, tags[0], "seed=0", scores=[90, 80]),
        job(folder, 1, tags[0], "seed=1", scores=[92, 84], value=84.0),
        job(folder, 2, tags[1], "seed=0", scores=[70], status="failed", reason="no|go\ntrace"),
        job(folder, 3, tags[1], "seed=1", status="missing", seconds=None),
    ]


def test_one_row_per_job(tmp_path: Path) -> None:
    jobs = [*sweep(tmp_path), job(tmp_path / "elsewhere", 4)]
    report.write(tmp_path, jobs)
    rows = table(tmp_path)
    assert rows[1] == {
        "number": "1",
        "logger.tags": "[a,b]",
        "seed": "1",
        "status": "finished",
        "reason": "",
        "score": "val/fid",
        "last_score": "84.0",
        "best_score": "84.0",
        "best_iteration": "200",
        "objective_value": "84.0",
        "iterations": "207",
        "seconds": "12.0",
        "folder": "1",
    }
    assert [row["logger.tags"] for row in rows[2:4]] == ["[a|b,'c*d']"] * 2
    assert [row["reason"] for row in rows[:4]] == ["", "", "no|go", ""]
    assert rows[3]["best_score"] == rows[3]["score"] == ""
    assert rows[4]["folder"] == "elsewhere/4"


def test_the_page_names_failures_and_links_to_the_pictures(tmp_path: Path) -> None:
    report.write(tmp_path, sweep(tmp_path))
    page = (tmp_path / "sweep.md").read_text()
    assert "| logger.tags=[a,b] | 2 of 2 | 2 | 82 ± 2.8 | 82 ± 2.8 |" in page
    assert r"| logger.tags=[a\|b,'c\*d'] | 0 of 2 |" in page
    assert r"| 2 | [a\|b,'c\*d'] | 0 | failed | no\|go |" in page
    assert "(samples.png)" in page
    assert "(scores.png)" in page
    tables = [line.replace(r"\|", "") for line in page.splitlines() if line.startswith("| ")]
    assert {line.count("|") for line in tables[:6]} == {tables[0].count("|")}


def test_what_has_no_content_is_not_written_and_stale_pictures_go(tmp_path: Path) -> None:
    first = report.write(tmp_path, sweep(tmp_path / "a")).files
    assert {path.name for path in first} == {"sweep.csv", "samples.png", "scores.png", "sweep.md"}
    second = report.write(tmp_path, [job(tmp_path / "c", 0, "seed=0", status="failed")])
    assert [path.name for path in second.files] == ["sweep.csv", "sweep.md"]
    assert not [*tmp_path.glob("*.png")]
    assert "png" not in (tmp_path / "sweep.md").read_text()
    assert "0 of 0" in report.write(tmp_path, []).terminal()


def test_a_full_disk_is_one_warning_and_the_table_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    full = mock.Mock(side_effect=OSError(errno.ENOSPC, "No space left on device"))
    monkeypatch.setattr(report, "write_whole", full)
    with caplog.at_level(logging.WARNING):
        found = report.write(tmp_path, sweep(tmp_path))
    assert len(caplog.records) == 1
    assert "No space left" in caplog.text
    assert found.files == ()
    assert "82 ± 2.8" in found.terminal()


def test_damaged_files_of_one_job_cost_its_cells_alone(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    jobs = sweep(tmp_path)
    for name in ("metrics.csv", "samples/last.png", "status.json"):
        (tmp_path / "0" / name).write_bytes(b"step\0\xff\n\0,\n")
    assert len(report.write(tmp_path, jobs).files) == 4
    rows = table(tmp_path)
    assert rows[0]["last_score"] == rows[0]["iterations"] == ""
    assert rows[1]["last_score"] == "84.0"
    assert "last.png: damaged" in caplog.text


def test_the_line_of_a_job(tmp_path: Path) -> None:
    jobs = sweep(tmp_path)
    lines = [report.line(one, f"{one.number + 1}/4", ["logger.tags", "seed"]) for one in jobs]
    assert lines == [
        "[1/4] #0 logger.tags=[a,b] seed=0: finished in 0:00:12, val/fid 80 (best 80 at 200)",
        "[2/4] #1 logger.tags=[a,b] seed=1: finished in 0:00:12, val/fid 84 (best 84 at 200)",
        "[3/4] #2 logger.tags=[a|b,'c*d'] seed=0: failed after 0:00:12: no|go",
        "[4/4] #3 logger.tags=[a|b,'c*d'] seed=1: missing",
    ]
    assert "data=mnist_sample logger.tags" in report.line(jobs[0], "1/4")


def test_the_terminal_has_plain_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    jobs = [
        job(tmp_path, 0, "loss=[bold]a", "seed=0", scores=[90]),
        job(tmp_path, 1, "loss=[bold]a", "seed=1", scores=[94]),
        job(tmp_path, 2, "loss=b", "seed=0", status="failed", reason="diverged\nat 3"),
        job(tmp_path, 3, "loss=b", "seed=1", scores=[80]),
    ]
    text = report.write(tmp_path, jobs).terminal(80)
    assert "\x1b" not in text
    assert "3 of 4 jobs finished" in text
    assert text.index("loss=b") < text.index("loss=[bold]a")
    assert "92 ± 2.8" in text
    assert f"  {tmp_path / 'sweep.csv'}\n" in text


def test_long_overrides_are_folded_and_the_best_settings_stay_in_sight(tmp_path: Path) -> None:
    long = "+callbacks.progress.refresh_every_n_iterations=" + "9" * 60
    jobs = [job(tmp_path, 0, long, "model.generator.width=128", scores=[1.0])]
    jobs += [job(tmp_path, n, f"x={n}", scores=[100 - n]) for n in range(1, 40)]
    table = report.write(tmp_path, jobs).terminal(80).partition("written")[0]
    assert max(map(len, table.splitlines())) <= 80
    assert "…" not in table
    assert long in "".join(line.strip().split("  ")[0] for line in table.splitlines())
    assert "x=39 " in table
    assert "x=9 " not in table
    assert "and 10 more settings" in table


def test_what_watches_jobs_imports_nothing_heavy() -> None:
    heavy = {"torch", "matplotlib", "PIL", "numpy"}
    code = f"import sys, forger.app.sweep.engine; sys.exit(len({heavy} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


@pytest.mark.parametrize(
    ("statuses", "code"),
    [(["pruned", "finished"], 0), (["pruned", "pruned"], 1), (["pruned", "failed"], 1)],
)
def test_a_search_in_which_no_trial_completed_is_no_success(
    statuses: list[Any], code: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ended = [job(tmp_path, n, status=status) for n, status in enumerate(statuses)]
    assert summarise(ended).code == code
    told = "none of 2 trials has completed: all were pruned" in capsys.readouterr().err
    assert told is (statuses == ["pruned", "pruned"])
