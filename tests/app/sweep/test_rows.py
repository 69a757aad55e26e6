from __future__ import annotations

import logging
import math
from pathlib import Path

import pytest
from sweep_folders import job, metrics

from forger.app.sweep.rows import duration, fid_of, read_curve, row


def test_scores_of_a_job(tmp_path: Path) -> None:
    outcome = job(tmp_path, 3, "loss=hinge", "seed=1", scores=[90, 80, 85])
    found = row(outcome, ["loss", "seed"], "val/fid")
    assert found.curve == ((100, 90), (200, 80), (300, 85))
    assert (found.last, found.best, found.best_at) == (85, 80, 200)
    assert found.iterations == 307
    assert (found.label, found.setting) == ("loss=hinge seed=1", "loss=hinge")


@pytest.mark.parametrize("column", ["val/fid", "val/classifier_fid"])
def test_a_job_has_one_fid_by_its_features(tmp_path: Path, column: str) -> None:
    assert fid_of(job(tmp_path, 0, scores=[90], column=column)) == column
    assert fid_of(job(tmp_path, 1, scores=[90], column="val/kid")) is None
    assert fid_of(job(tmp_path, 2)) is None


def test_the_best_may_be_the_highest(tmp_path: Path) -> None:
    outcome = job(tmp_path, 0, scores=[0.1, 0.4, 0.2], column="val/recall")
    found = row(outcome, [], "val/recall", minimise=False)
    assert (found.last, found.best, found.best_at) == (0.2, 0.4, 200)


@pytest.mark.parametrize("minimise", [True, False])
def test_what_is_not_finite_is_never_best(tmp_path: Path, minimise: bool) -> None:
    outcome = job(tmp_path, 0, scores=[math.inf, 90, -math.inf, math.nan])
    found = row(outcome, [], "val/fid", minimise)
    assert (found.best, found.best_at) == (90, 200)
    assert found.last is not None
    assert math.isnan(found.last)


def test_a_job_without_one_finite_score_has_no_best(tmp_path: Path) -> None:
    found = row(job(tmp_path, 0, scores=[math.nan]), [], "val/fid")
    assert found.best is found.best_at is None


def test_a_torn_last_row_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    path.write_text(metrics([90.25, 81.5]).rstrip()[:-2], newline="")  # reads as 81
    assert read_curve(path, "val/fid") == ((100, 90.25),)


@pytest.mark.parametrize("damage", ["1e,,\r\n", "\0\0\0\r\n", "300,,eighty\r\n", "\xff,\xff,1\r\n"])
def test_a_damaged_file_gives_what_could_be_read(
    tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "metrics.csv"
    path.write_bytes(metrics([90.0]).encode() + damage.encode("latin-1"))
    with caplog.at_level(logging.WARNING):
        assert read_curve(path, "val/fid") == ((100, 90.0),)
    assert not caplog.records or str(path) in caplog.text


@pytest.mark.parametrize("content", ["", "step,train/loss_g\r\n1,2\r\n", "step,val/fid\r\n1,\r\n"])
def test_a_file_without_the_score(tmp_path: Path, content: str) -> None:
    path = tmp_path / "metrics.csv"
    path.write_text(content, newline="")
    assert read_curve(path, "val/fid") == ()
    assert read_curve(tmp_path / "missing.csv", "val/fid") == ()


def test_an_objective_that_no_file_holds_is_what_the_job_returned(tmp_path: Path) -> None:
    outcome = job(tmp_path, 0, scores=[90], value=0.25)
    found = row(outcome, [], "train/own")
    assert (found.last, found.best, found.best_at) == (0.25, 0.25, None)


@pytest.mark.parametrize("content", ["[]", "{", '{"iteration": "many"}', "\xff"])
def test_a_damaged_status_gives_an_empty_cell_and_a_warning(
    tmp_path: Path, content: str, caplog: pytest.LogCaptureFixture
) -> None:
    outcome = job(tmp_path, 0, scores=[90])
    (outcome.folder / "status.json").write_bytes(content.encode("latin-1"))
    assert row(outcome, []).iterations is None
    assert "status.json" in caplog.text


def test_durations() -> None:
    words = [duration(seconds) for seconds in (0.32, 3.21, 12.6, 200, 3900)]
    assert words == ["0.32 s", "3.2 s", "13 s", "3 min 20 s", "1 h 5 min"]
