from __future__ import annotations

import json
from pathlib import Path

import pytest
from reported import COMMAND, read_page, write_run, write_sweep

from forger.app.report.several import page_of_runs, page_of_sweep
from forger.errors import UserError

JOBS = {
    number: (f"model={model}", f"seed={seed}", "data=mnist")
    for number, (model, seed) in enumerate((m, s) for m in ("dcgan", "vanilla") for s in (0, 1))
}


def test_a_sweep_is_shown_with_its_jobs_and_means(tmp_path: Path) -> None:
    sweep = write_sweep(tmp_path / "sweep", JOBS)
    page = page_of_sweep(sweep, COMMAND)
    reader = read_page(page.render())
    assert reader.problems == []
    jobs, settings = page.overview
    # rows of job n end at a FID of 100 / (20 + n): the best is the last one
    assert jobs.table.header[:4] == ["number", "model", "seed", "status"]
    assert [row[0] for row in jobs.table.rows] == [2, 3, 0, 1]
    assert list(jobs.links) == [f"{number}_run/report.html" for number in (2, 3, 0, 1)]
    assert [row[0] for row in settings.table.rows] == ["model=vanilla", "model=dcgan"]
    assert "±" in str(settings.table.rows[0][-1])
    assert [picture.name.partition(" seed")[0] for picture in page.samples] == [
        *("#2 model=vanilla", "#3 model=vanilla", "#0 model=dcgan", "#1 model=dcgan")
    ]
    assert [line.name[:2] for line in page.charts[0].lines] == ["#2", "#3", "#0", "#1"]
    assert page.charts[0].title == "fid"
    assert f"sweep.resume={sweep}" in reader.text
    assert "hunter2" not in page.render()


def test_a_sweep_of_one_job(tmp_path: Path) -> None:
    page = page_of_sweep(write_sweep(tmp_path / "sweep", {0: ("seed=0",)}), COMMAND)
    assert page.overview[0].table.header[0] == "number"


def test_jobs_that_failed_or_never_began_are_told(tmp_path: Path) -> None:
    sweep = write_sweep(tmp_path / "sweep", JOBS)
    (sweep / ".jobs" / "3.json").unlink()
    failed = json.loads((sweep / ".jobs" / "0.json").read_text())
    failed |= {"status": "failed", "reason": "loss_d is not finite", "error": "DivergedError"}
    (sweep / ".jobs" / "0.json").write_text(json.dumps(failed))
    text = read_page(page_of_sweep(sweep, COMMAND).render()).text
    assert "2 of 4 jobs finished" in text
    assert "loss_d is not finite" in text
    assert "missing" in text


def test_a_larger_score_may_be_better(tmp_path: Path) -> None:
    sweep = write_sweep(tmp_path / "sweep", JOBS)
    asked = json.loads((sweep / "sweep.json").read_text())
    asked |= {"objective": "val/fid", "minimise": False}
    (sweep / "sweep.json").write_text(json.dumps(asked))
    page = page_of_sweep(sweep, COMMAND)
    assert [row[0] for row in page.overview[0].table.rows] == [0, 1, 2, 3]
    assert "higher is better" in page.overview[1].note


def test_a_sweep_that_links_elsewhere(tmp_path: Path) -> None:
    sweep = write_sweep(tmp_path / "sweep", JOBS)
    other = write_run(tmp_path / "elsewhere")
    (sweep / "1_run" / "metrics.csv").unlink()
    (sweep / "1_run" / "metrics.csv").symlink_to(other / "metrics.csv")
    page = page_of_sweep(sweep, COMMAND)
    assert page.notes == ["job #1: left out, since it links elsewhere"]
    assert len(page.overview[0].table.rows) == 3
    (sweep / ".jobs" / "0.json").unlink()
    (sweep / ".jobs" / "0.json").symlink_to(other / "status.json")
    with pytest.raises(UserError, match=r"0\.json is a link to another place"):
        page_of_sweep(sweep, COMMAND)


def test_runs_stand_side_by_side(tmp_path: Path) -> None:
    one, other = (write_run(tmp_path / name, rows=rows) for name, rows in (("a", 20), ("b", 30)))
    (other / "config.yaml").write_text(json.dumps({"seed": 4, "model": {"width": 16}}))
    scored = {"scores": {"fid": 9.125}, "floor": {"fid": 3.0}, "protocol": {}}
    (one / "scores.json").write_text(json.dumps(scored))
    page = page_of_runs([one, other], COMMAND)
    reader = read_page(page.render())
    assert reader.problems == []
    runs, settings, *_ = page.overview
    assert runs.table.rows == [
        ["1 a", 3, "finished", 1000, "0:01:01"],
        ["2 b", 4, "finished", 1500, "0:01:01"],
    ]
    assert ["model.width", "-", "16"] in [list(row) for row in settings.table.rows]
    assert [film.name for film in page.films] == ["1 a", "2 b"]
    assert all(len(chart.lines) == 2 for chart in page.charts)
    assert "3.333" in reader.text  # the last score of the second while training


def test_scores_under_two_protocols_are_not_comparable(tmp_path: Path) -> None:
    runs = [write_run(tmp_path / name) for name in ("a", "b")]
    for run, count in zip(runs, (100, 200), strict=True):
        protocol = {
            "extractor": {"fingerprint": "x"},
            "data": {"hash": "y"},
            "generated": {"count": count},
            "reference": {"count": 10},
        }
        record = {"scores": {"fid": 9.125}, "floor": {"fid": 3.0}, "protocol": protocol}
        (run / "scores.json").write_text(json.dumps(record))
    text = read_page(page_of_runs(runs, COMMAND).render()).text
    assert "9.125 (3)" in text
    assert "NOT COMPARABLE: these runs were scored with different generated" in text
