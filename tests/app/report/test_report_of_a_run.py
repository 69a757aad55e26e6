from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from reported import COMMAND, SCORES, read_page, write_run

from forger.app.report.charts import draw, read_curves
from forger.app.report.files import evenly, picture, read, read_yaml
from forger.app.report.one_run import page_of_run
from forger.app.report.page import write_page

HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(1)>\"'{{7*7}}"


def text_of(folder: Path) -> str:
    reader = read_page(page_of_run(folder, COMMAND).render())
    assert reader.problems == []
    return reader.text


def test_it_tells_what_ran_and_how_it_went(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", reason="stopped early")
    (run / "scores.json").write_text(json.dumps(SCORES))
    text = text_of(run)
    for told in ("run", "finished", "stopped early", "dcgan", "hinge", "2,000", "0:01:01"):
        assert told in text
    assert "iteration 500" in text
    assert "12.25 ± 0.5" in text
    assert "900 images of last.ckpt" in text
    assert "train.py model=dcgan" in text
    assert f"resume={run}" in text
    page = page_of_run(run, COMMAND)
    titles = [chart.title for chart in page.charts]
    assert titles[0] == "losses"
    assert any("confusion" in title for title in titles)
    assert titles[-1] == "fid"
    assert [len(film.frames) for film in page.films] == [3]
    (while_training,) = (shown for shown in page.tables if "while" in shown.title)
    assert while_training.table.rows == [["fid", 2.5, 2.5, 2000]]


@pytest.mark.parametrize("saved", [True, False])
def test_a_run_that_diverged_is_not_to_be_resumed(saved: bool, tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", status="failed", error="DivergedError")
    (run / "checkpoints").mkdir()
    if saved:
        (run / "checkpoints" / "previous.ckpt").touch()
    text = text_of(run)
    assert "resume=" not in text
    assert (f"train.py init_from={run}" in text) == saved
    assert "what helps: the same settings would diverge again; lower optimizer.lr" in text


def test_keys_are_not_shown(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    environment = {"command": ["train.py", "wandb.api_key=hunter2"], "token": "hunter2"}
    (run / "environment.json").write_text(json.dumps(environment))
    assert "hunter2" not in page_of_run(run, COMMAND).render()


def test_what_a_record_says_is_text(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", reason=HOSTILE, started=HOSTILE)
    (run / "overrides.yaml").write_text(json.dumps([HOSTILE]))
    (run / "config.yaml").write_text(json.dumps({HOSTILE: HOSTILE, "seed": HOSTILE}))
    choices = {"model": HOSTILE}
    (run / "environment.json").write_text(json.dumps({"choices": choices, HOSTILE: HOSTILE}))
    columns = f'step,train/loss_g,"train/{HOSTILE.replace(chr(34), "")}"'
    (run / "metrics.csv").write_text(f"{columns}\n1,2,3\n2,3,4\n")
    reader = read_page(page_of_run(run, COMMAND).render())
    assert reader.problems == []
    assert reader.text.count("<script>alert(1)</script>") > 5
    assert "{{7*7}}" in reader.text
    assert all(address.startswith("data:image/") for address in reader.addresses)


def test_links_are_not_followed_out_of_the_folder(tmp_path: Path) -> None:
    secret = write_run(tmp_path / "elsewhere", grids=[7], reason="a secret")
    run = write_run(tmp_path / "run", grids=[])
    shutil.rmtree(run / "samples")
    (run / "samples").symlink_to(secret / "samples")
    for name in ("status.json", "metrics.csv", "config.yaml"):
        (run / name).unlink()
        (run / name).symlink_to(secret / name)
    page = page_of_run(run, COMMAND)
    assert (page.films, page.charts, page.status) == ([], [], "unknown")
    assert "a secret" not in page.render()


@pytest.mark.parametrize(
    "name", ["status.json", "environment.json", "scores.json", "resumes.json", "config.yaml"]
)
@pytest.mark.parametrize(
    "content", ["", "{", "[1, 2]", "[" * 9000, '{"scores": 3, "resumes": 4, "seconds": []}']
)
def test_damaged_records_leave_the_rest(name: str, content: str, tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    (run / name).write_text(content)
    text = text_of(run)
    assert "losses" in text
    assert "Samples over the training" in text


def test_a_damaged_picture_and_damaged_rows(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    file = run / "samples" / "000500_ema.png"
    file.write_bytes(file.read_bytes()[:-20])
    (run / "samples" / "000700_ema.png").write_text("<svg onload='alert(1)'/>")
    rows = (run / "metrics.csv").read_text()
    (run / "metrics.csv").write_text(f"{rows}x,1,1,1,1,1\r\n2100,a,,,,\r\n2150,0.5")
    page = page_of_run(run, COMMAND)
    assert [frame.name for frame in page.films[0].frames] == ["iteration 0", "iteration 1,000"]
    assert page.notes == ["metrics.csv: 2 rows are damaged"]


def test_text_that_no_file_can_hold(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", reason="lone \ud800")
    write_page(page_of_run(run, COMMAND), run / "report.html")
    assert "lone ?" in (run / "report.html").read_text()


def test_a_score_that_is_not_finite_is_not_the_best(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    (run / "metrics.csv").write_text("step,val/fid,val/kid\n1,nan,nan\n2,5,nan\n3,nan,nan\n")
    (shown,) = page_of_run(run, COMMAND).tables
    assert [row[2:] for row in shown.table.rows] == [[5.0, 2], [None, None]]


def test_yaml_that_grows_without_end_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_text("a: &a [1, 1]\nb: [*a, *a]\n")
    with pytest.raises(ValueError, match="repeats parts of itself"):
        read_yaml(tmp_path, "x.yaml")


def test_many_large_grids_stay_small(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", grids=range(0, 5001, 100), side=320, rows=5000)
    page = page_of_run(run, COMMAND)
    assert len(page.render().encode()) < 5_000_000
    frames = page.films[0].frames
    assert len(frames) == 24
    assert (frames[0].name, frames[-1].name) == ("iteration 0", "iteration 5,000")
    assert frames[0].address.startswith("data:image/webp;base64,")


def test_a_picture_that_fits_stays_as_it_is(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", grids=[0])
    found = picture(run, "samples/000000_ema.png", 10**6)
    assert found is not None
    assert (found.width, found.height) == (64, 64)
    assert found.address.startswith("data:image/png;base64,")
    assert picture(run, "../run/samples/../../x.png", 10**6) is None
    assert read(run, "samples") is None


def test_evenly() -> None:
    assert evenly(range(11), 3) == [0, 5, 10]
    assert evenly(range(2), 3) == [0, 1]
    assert evenly([], 3) == []


def test_a_curve_ends_where_it_is_not_finite() -> None:
    curves, damaged = read_curves(b"step,a,b\r\n1,1,\r\n2,2,5\r\n3,nan,\r\n4,inf,\r\n5,1,")
    assert curves == {
        "a": [(1, 1.0), (2, 2.0), (3, pytest.approx(float("nan"), nan_ok=True)), (4, float("inf"))],
        "b": [(2, 5.0)],
    }
    assert damaged == 0
    chart = draw("x", curves)
    assert chart is not None
    ((name, lost),) = ((line.name, line.lost_at) for line in chart.lines)  # one point is no curve
    assert (name, lost) == ("a", 3)
    assert draw("x", {"a": [(1, float("nan")), (2, 1.0)]}) is None


def test_axes_are_logarithmic_where_values_are_far_apart() -> None:
    wide = draw("x", {"a": [(0, 0.001), (100, 10.0)]})
    plain = draw("x", {"a": [(0, 2.0), (100, 10.0)]})
    assert wide is not None
    assert plain is not None
    assert [text for _, text in wide.y_ticks] == ["0.001", "0.01", "0.1", "1", "10"]
    assert [text for _, text in plain.y_ticks] == ["2", "4", "6", "8", "10"]
    assert [text for _, text in plain.x_ticks] == ["0", "20", "40", "60", "80", "100"]
    assert plain.lines[0].path.startswith("M54.0,")
    flat = draw("x", {"a": [(5, 3.0), (6, 3.0)]})
    assert flat is not None
    assert "nan" not in flat.lines[0].path


def test_spikes_of_long_curves_stay() -> None:
    points = [(step, 1.0 if step == 777 else 0.0) for step in range(10_000)]
    chart = draw("x", {"a": points})
    assert chart is not None
    places = [point.split(",") for point in chart.lines[0].path[1:].split(" L")]
    assert len(places) < 320
    assert len({y for _, y in places}) == 2
