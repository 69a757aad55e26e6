from __future__ import annotations

import math
from pathlib import Path

import pytest
from sweep_folders import job

from forger.app.sweep.results import Mean, collect


def test_seeds_fold_into_mean_and_sample_deviation(tmp_path: Path) -> None:
    results = collect(
        [
            job(tmp_path, 0, "loss=hinge", "seed=0", scores=[90, 80]),
            job(tmp_path, 1, "loss=hinge", "seed=1", scores=[70, 84]),
            job(tmp_path, 2, "loss=wgan", "seed=0", scores=[60]),
        ]
    )
    best, other = results.settings
    assert (best.label, str(best.last), best.last and best.last.n) == ("loss=wgan", "60", 1)
    assert str(other.last) == "82 ± 2.8"  # sqrt(((80 - 82)^2 + (84 - 82)^2) / 1)
    assert str(other.best) == "75 ± 7.1"
    assert (other.finished, other.best and other.best.n) == (2, 2)


def test_jobs_that_ended_early_do_not_move_the_mean(tmp_path: Path) -> None:
    results = collect(
        [
            job(tmp_path, 0, "loss=a", "seed=0", scores=[50]),
            job(tmp_path, 1, "loss=a", "seed=1", scores=[9], status="failed"),
            job(tmp_path, 2, "loss=a", "seed=2", scores=[9], status="pruned"),
            job(tmp_path, 3, "loss=b", "seed=0", scores=[9], status="interrupted"),
        ]
    )
    assert [(s.label, s.finished, s.best) for s in results.settings] == [
        ("loss=a", 1, Mean(50, None, 1)),
        ("loss=b", 0, None),
    ]


def test_pruned_settings_stand_behind_finished_ones_and_failed_ones_last(tmp_path: Path) -> None:
    results = collect(
        [
            job(tmp_path, 0, "x=failed", status="failed"),
            job(tmp_path, 1, "x=pruned", scores=[10], status="pruned"),
            job(tmp_path, 2, "x=worse", scores=[99]),
            job(tmp_path, 3, "x=better", scores=[98]),
        ]
    )
    assert [s.label for s in results.settings] == ["x=better", "x=worse", "x=pruned", "x=failed"]


def test_the_highest_is_first_where_higher_is_better(tmp_path: Path) -> None:
    jobs = [job(tmp_path, n, f"x={n}", scores=[n], column="val/recall") for n in range(1, 4)]
    results = collect(jobs, "val/recall", minimise=False)
    assert [s.label for s in results.settings] == ["x=3", "x=2", "x=1"]


def test_a_last_score_that_is_not_finite_stays_visible(tmp_path: Path) -> None:
    (setting,) = collect(
        [
            job(tmp_path, 0, "seed=0", scores=[50, math.nan]),
            job(tmp_path, 1, "seed=1", scores=[60, 40]),
        ]
    ).settings
    assert (str(setting.last), str(setting.best)) == ("nan", "45 ± 7.1")
    assert setting.label == "all jobs"


@pytest.mark.parametrize("status", ["finished", "failed"])
def test_no_score_no_columns(tmp_path: Path, status: str) -> None:
    results = collect([job(tmp_path, 0, "x=1", status=status)])  # type: ignore[arg-type]
    assert results.score is None


def test_rows_are_in_the_order_of_the_sweep(tmp_path: Path) -> None:
    jobs = [job(tmp_path, number, f"x={number}") for number in (2, 0, 1)]
    assert [row.outcome.number for row in collect(jobs).rows] == [0, 1, 2]


def test_fids_by_different_features_are_never_set_side_by_side(tmp_path: Path) -> None:
    jobs = [
        job(tmp_path, 0, "seed=0", scores=[90, 80], column="val/classifier_fid"),
        job(tmp_path, 1, "seed=1", scores=[9, 8], column="val/fid"),
        job(tmp_path, 2, "seed=2", scores=[70, 60], column="val/classifier_fid"),
    ]
    results = collect(jobs)
    assert results.score == "val/classifier_fid"
    assert [row.last for row in results.rows] == [80, None, 60]
    (setting,) = results.settings
    assert setting.best is not None
    assert (setting.best.mean, setting.best.n) == (70, 2)
