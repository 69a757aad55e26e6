"""What a sweep says as its jobs end, and the tables at its end."""

from __future__ import annotations

import errno
import math
import subprocess
import sys
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from sweep_folders import job, metrics, table

from forger.app.cli.ending import summarise
from forger.app.sweep import report
from forger.app.sweep.folder import Outcome, differing_keys, label, read_curve, settings_in
from forger.app.sweep.report import collect, mean_of, read_row


def write_report(folder: Path, jobs: list[Outcome]) -> str:
    return report.write_report(folder, jobs, None, True, 80)


def sweep(folder: Path) -> list[Outcome]:
    tags = ["logger.tags=[a,b]", "logger.tags=[a|b,'c*d']"]
    return [
        job(folder, 0, tags[0], "seed=0", scores=[90, 80]),
        job(folder, 1, tags[0], "seed=1", scores=[92, 84], value=84.0),
        job(folder, 2, tags[1], "seed=0", scores=[70], status="failed", reason="no|go\ntrace"),
        job(folder, 3, tags[1], "seed=1", status="missing", seconds=None),
    ]


@pytest.mark.parametrize(
    ("jobs", "keys"),
    [
        ([("a=1", "b=1", "c=0"), ("a=1", "b=2", "c=0"), ("a=1", "b=2", "c=1")], ("b", "c")),
        ([("~callbacks.samples",), ()], ("~callbacks.samples",)),
        ([("+x=1",), ("++x=2",), ("x=3",)], ("x",)),
        ([("name='a=b'",), ('name="a=b"',)], ()),
    ],
)
def test_only_what_differs_counts(jobs: list[tuple[str, ...]], keys: tuple[str, ...]) -> None:
    assert differing_keys(jobs) == keys


def test_settings_for_the_sweep_and_for_hydra_are_not_shown() -> None:
    hidden = ["sweep.resume=logs/a", "+hydra.job.num=3", "hydra/launcher=joblib", "~hydra.sweep"]
    found = settings_in([*hidden, "resume=logs/a/3", "sweeps='b c'", "+b=c=d", "~e"])
    assert label(found) == "sweeps=b c b=c=d ~e"


def test_scores_of_a_job(tmp_path: Path) -> None:
    outcome = job(tmp_path, 3, "loss=hinge", "seed=1", scores=[90, 80, 85])
    found = read_row(outcome, ["loss", "seed"], "val/fid", True)
    assert found.curve == [(100, 90), (200, 80), (300, 85)]
    assert (found.last, found.best, found.best_at) == (85, 80, 200)
    assert found.settings == {"loss": "hinge", "seed": "1"}
    highest = read_row(outcome, [], "val/fid", False)
    assert (highest.best, highest.best_at) == (90, 100)
    returned = read_row(job(tmp_path, 0, value=0.25), [], "val/fid", True)
    assert (returned.last, returned.best, returned.best_at) == (0.25, 0.25, None)


def test_what_is_not_finite_is_never_best(tmp_path: Path) -> None:
    outcome = job(tmp_path, 0, scores=[math.inf, 90, -math.inf, math.nan])
    for minimise in (True, False):
        found = read_row(outcome, [], "val/fid", minimise)
        assert (found.best, found.best_at) == (90, 200)
        assert math.isnan(found.last or 0)
    assert mean_of([50, math.nan]) == "nan"


@pytest.mark.parametrize("damage", ["\0\0\0\r\n", "300,,eighty\r\n", "\xff,\xff,1\r\n", "300,,8"])
def test_a_damaged_file_gives_what_could_be_read(
    tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "metrics.csv"
    path.write_bytes(metrics([90.0]).encode() + damage.encode("latin-1"))
    assert read_curve(path, "val/fid") == [(100, 90.0)]
    assert not caplog.records or str(path) in caplog.text


def test_seeds_fold_into_mean_and_sample_deviation_of_what_finished(tmp_path: Path) -> None:
    jobs = [
        job(tmp_path, 2, "loss=wgan", "seed=0", scores=[60]),
        job(tmp_path, 0, "loss=hinge", "seed=0", scores=[90, 80]),
        job(tmp_path, 1, "loss=hinge", "seed=1", scores=[70, 84]),
        job(tmp_path, 3, "loss=hinge", "seed=2", scores=[9], status="failed"),
        job(tmp_path, 4, "loss=hinge", "seed=3", scores=[9], status="pruned"),
    ]
    best, other = collect(jobs).settings
    assert (best.label, best.mean) == ("loss=wgan", "60")
    assert (other.mean, len(other.counted)) == ("75 ± 7.1", 2)
    last = mean_of(row.last for row in other.counted)
    assert last == "82 ± 2.8"  # sqrt(((80 - 82)^2 + (84 - 82)^2) / 1)


def test_the_best_setting_is_first_and_what_failed_last(tmp_path: Path) -> None:
    jobs = [
        job(tmp_path, 0, "x=failed", status="failed"),
        job(tmp_path, 1, "x=pruned", scores=[10], status="pruned"),
        job(tmp_path, 2, "x=high", scores=[99]),
        job(tmp_path, 3, "x=low", scores=[98]),
    ]
    ends = ["x=pruned", "x=failed"]
    assert [s.label for s in collect(jobs).settings] == ["x=low", "x=high", *ends]
    highest = collect(jobs, "val/fid", minimise=False).settings
    assert [s.label for s in highest] == ["x=high", "x=low", *ends]
    assert collect(jobs[:1]).score is None


def test_fids_by_different_features_are_never_set_side_by_side(tmp_path: Path) -> None:
    fids = [("val/classifier_fid", [90, 80]), ("val/fid", [9, 8]), ("val/classifier_fid", [70, 60])]
    results = collect(
        job(tmp_path, number, f"seed={number}", scores=scores, column=column)
        for number, (column, scores) in enumerate(fids)
    )
    assert results.score == "val/classifier_fid"
    assert [row.last for row in results.rows] == [80, None, 60]
    (setting,) = results.settings
    assert (setting.label, setting.mean) == ("all jobs", "70 ± 14")


def test_one_row_per_job(tmp_path: Path) -> None:
    write_report(tmp_path, [*sweep(tmp_path), job(tmp_path / "elsewhere", 4)])
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


def test_the_page_names_failures_and_links_to_the_pictures_that_there_are(tmp_path: Path) -> None:
    write_report(tmp_path, sweep(tmp_path))
    page = (tmp_path / "sweep.md").read_text()
    for part in (
        "| logger.tags=[a,b] | 2 of 2 | 2 | 82 ± 2.8 | 82 ± 2.8 |",
        r"| logger.tags=[a\|b,'c\*d'] | 0 of 2 |",
        r"| 2 | [a\|b,'c\*d'] | 0 | failed | no\|go |",
        "(samples.png)",
        "(scores.png)",
    ):
        assert part in page
    write_report(tmp_path, [job(tmp_path / "c", 0, "seed=0", status="failed")])
    assert not [*tmp_path.glob("*.png")], "stale ones go"
    assert "png" not in (tmp_path / "sweep.md").read_text()


def test_a_full_disk_is_a_warning_and_the_table_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    full = mock.Mock(side_effect=OSError(errno.ENOSPC, "No space left on device"))
    monkeypatch.setattr(report, "write_whole", full)
    text = write_report(tmp_path, sweep(tmp_path))
    assert "sweep.csv: not written: [Errno 28] No space left" in caplog.text
    assert "  /" not in text, "no file is said to be written"
    assert "82 ± 2.8" in text


def test_damaged_files_of_one_job_cost_its_cells_alone(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    jobs = sweep(tmp_path)
    for name in ("metrics.csv", "samples/last.png", "status.json"):
        (tmp_path / "0" / name).write_bytes(b"step\0\xff\n\0,\n")
    assert write_report(tmp_path, jobs).count(f"  {tmp_path}") == 4
    rows = table(tmp_path)
    assert rows[0]["last_score"] == rows[0]["iterations"] == ""
    assert rows[1]["last_score"] == "84.0"
    assert "last.png: damaged" in caplog.text


def test_the_line_of_a_job(tmp_path: Path) -> None:
    lines = [report.line(one, ["logger.tags", "seed"], None, True) for one in sweep(tmp_path)]
    assert lines == [
        "#0 logger.tags=[a,b] seed=0: finished in 0:00:12, val/fid 80 (best 80 at 200)",
        "#1 logger.tags=[a,b] seed=1: finished in 0:00:12, val/fid 84 (best 84 at 200)",
        "#2 logger.tags=[a|b,'c*d'] seed=0: failed after 0:00:12: no|go",
        "#3 logger.tags=[a|b,'c*d'] seed=1: missing",
    ]


def test_the_terminal_has_plain_text_folded_with_the_best_in_sight(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    long = "callbacks.progress.refresh_every_n_iterations=[bold]" + "9" * 60
    jobs = [job(tmp_path, 0, f"+{long}", "model.generator.width=128", scores=[1.0])]
    jobs += [job(tmp_path, n, f"x={n}", scores=[100 - n]) for n in range(1, 40)]
    text = write_report(tmp_path, jobs)
    assert "\x1b" not in text
    assert "40 of 40 jobs finished" in text
    assert f"  {tmp_path / 'sweep.csv'}\n" in text
    table = text.partition("written")[0]
    assert max(map(len, table.splitlines())) <= 80
    assert long in "".join(line.strip().split("  ")[0] for line in table.splitlines())
    assert table.index(long[:20]) < table.index("x=39 ")
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
