"""What is read of a sweep's jobs, and their means over seeds."""

from __future__ import annotations

import logging
import math
from pathlib import Path

import pytest
from sweep_folders import job, metrics

from forger.app.sweep.results import Mean, collect, read_curve, read_row


def test_scores_of_a_job(tmp_path: Path) -> None:
    outcome = job(tmp_path, 3, "loss=hinge", "seed=1", scores=[90, 80, 85])
    found = read_row(outcome, ["loss", "seed"], "val/fid")
    assert found.curve == ((100, 90), (200, 80), (300, 85))
    assert (found.last, found.best, found.best_at) == (85, 80, 200)
    assert found.iterations == 307
    assert (found.label, found.setting) == ("loss=hinge seed=1", "loss=hinge")
    highest = read_row(outcome, [], "val/fid", minimise=False)
    assert (highest.best, highest.best_at) == (90, 100)


@pytest.mark.parametrize("minimise", [True, False])
def test_what_is_not_finite_is_never_best(tmp_path: Path, minimise: bool) -> None:
    outcome = job(tmp_path, 0, scores=[math.inf, 90, -math.inf, math.nan])
    found = read_row(outcome, [], "val/fid", minimise)
    assert (found.best, found.best_at) == (90, 200)
    assert found.last is not None
    assert math.isnan(found.last)
    nothing = read_row(job(tmp_path, 1, scores=[math.nan]), [], "val/fid")
    assert nothing.best is nothing.best_at is None


@pytest.mark.parametrize("damage", ["1e,,\r\n", "\0\0\0\r\n", "300,,eighty\r\n", "\xff,\xff,1\r\n"])
def test_a_damaged_file_gives_what_could_be_read(
    tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "metrics.csv"
    path.write_bytes(metrics([90.0]).encode() + damage.encode("latin-1"))
    with caplog.at_level(logging.WARNING):
        assert read_curve(path, "val/fid") == ((100, 90.0),)
    assert not caplog.records or str(path) in caplog.text
    path.write_text(metrics([90.25, 81.5]).rstrip()[:-2], newline="")  # cut off: reads as 81
    assert read_curve(path, "val/fid") == ((100, 90.25),)


def test_without_the_score_it_is_what_the_job_returned(tmp_path: Path) -> None:
    outcome = job(tmp_path, 0, value=0.25)
    for content in ("", "step,train/loss_g\r\n1,2\r\n", "step,val/fid\r\n1,\r\n"):
        (outcome.folder / "metrics.csv").write_text(content, newline="")
        found = read_row(outcome, [], "val/fid")
        assert (found.last, found.best, found.best_at) == (0.25, 0.25, None)


def test_seeds_fold_into_mean_and_sample_deviation(tmp_path: Path) -> None:
    jobs = [
        job(tmp_path, 2, "loss=wgan", "seed=0", scores=[60]),
        job(tmp_path, 0, "loss=hinge", "seed=0", scores=[90, 80]),
        job(tmp_path, 1, "loss=hinge", "seed=1", scores=[70, 84]),
    ]
    results = collect(jobs)
    best, other = results.settings
    assert (best.label, str(best.last), best.last and best.last.n) == ("loss=wgan", "60", 1)
    assert str(other.last) == "82 ± 2.8"  # sqrt(((80 - 82)^2 + (84 - 82)^2) / 1)
    assert str(other.best) == "75 ± 7.1"
    assert (other.finished, other.best and other.best.n) == (2, 2)
    assert [row.outcome.number for row in results.rows] == [0, 1, 2]


def test_jobs_that_ended_early_do_not_move_the_mean(tmp_path: Path) -> None:
    jobs = [
        job(tmp_path, 0, "loss=a", "seed=0", scores=[50]),
        job(tmp_path, 1, "loss=a", "seed=1", scores=[9], status="failed"),
        job(tmp_path, 2, "loss=a", "seed=2", scores=[9], status="pruned"),
        job(tmp_path, 3, "loss=b", "seed=0", scores=[9], status="interrupted"),
    ]
    found = [(setting.label, setting.finished, setting.best) for setting in collect(jobs).settings]
    assert found == [("loss=a", 1, Mean(50, None, 1)), ("loss=b", 0, None)]


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


def test_a_last_score_that_is_not_finite_stays_visible(tmp_path: Path) -> None:
    scores = [[50, math.nan], [60, 40]]
    jobs = [job(tmp_path, n, f"seed={n}", scores=own) for n, own in enumerate(scores)]
    (setting,) = collect(jobs).settings
    assert (str(setting.last), str(setting.best)) == ("nan", "45 ± 7.1")
    assert setting.label == "all jobs"


def test_fids_by_different_features_are_never_set_side_by_side(tmp_path: Path) -> None:
    fids = [("val/classifier_fid", [90, 80]), ("val/fid", [9, 8]), ("val/classifier_fid", [70, 60])]
    jobs = [
        job(tmp_path, number, f"seed={number}", scores=scores, column=column)
        for number, (column, scores) in enumerate(fids)
    ]
    results = collect(jobs)
    assert results.score == "val/classifier_fid"
    assert [row.last for row in results.rows] == [80, None, 60]
    (setting,) = results.settings
    assert setting.best is not None
    assert (setting.best.mean, setting.best.n) == (70, 2)
