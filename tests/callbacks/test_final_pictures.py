from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from short_run import run

from forger.callbacks import MetricCurves, SampleGrid, TrainingGif
from forger.callbacks.final_pictures import panels_of
from forger.loggers import MetricsCSV


def test_the_curves_are_drawn_from_the_rows(tmp_path: Path) -> None:
    table = MetricsCSV(tmp_path)
    table.log_metrics({"train/loss_g": 1.0}, 0)
    run(tmp_path, MetricCurves(), batches=1)
    assert not (tmp_path / "curves.png").exists()  # one row is no curve

    for step in (1, 2):
        row = {"loss_d": 2.0, "loss_g": 1.0, "d_real": 0.5, "grad_norm_g": 10.0**step}
        table.log_metrics({f"train/{name}": value for name, value in row.items()}, step)
        table.log_metrics({"val/fid": 100.0 / step, "val/precision": 0.5}, step)
    table.log_metrics({"train/loss_g": float("nan"), "val/coverage": 0.5}, 3)
    panels = panels_of(tmp_path)
    assert {title: list(curves) for title, curves in panels.items()} == {
        "losses": ["train/loss_g", "train/loss_d"],
        "discriminator on real and on generated images": ["train/d_real"],
        "gradient norms": ["train/grad_norm_g"],
        "fid": ["val/fid"],
    }
    assert panels["fid"]["val/fid"] == [(1, 100.0), (2, 50.0)]
    run(tmp_path, MetricCurves(), batches=1)
    with Image.open(tmp_path / "curves.png") as picture:
        assert picture.size == (1100, 580)  # two columns, two rows
        assert len(picture.convert("RGB").getcolors(1 << 20) or ()) > 10


@pytest.mark.parametrize(
    ("settings", "every", "shown"),
    [({}, 4, [0, 4, 8, 10]), ({"frames": 3}, 1, [0, 5, 10])],  # of many, first and last are kept
)
def test_the_animation_shows_the_grids_in_order(
    settings: dict[str, Any], every: int, shown: list[int], tmp_path: Path
) -> None:
    run(tmp_path, SampleGrid(every_n_steps=every, n=4, raw=False), TrainingGif(**settings))
    with Image.open(tmp_path / "samples" / "training.gif") as animation:
        assert animation.n_frames == len(shown)
        for number, iteration in enumerate(shown):
            animation.seek(number)
            frame = animation.convert("L")
            with Image.open(tmp_path / "samples" / f"{iteration:06d}_ema.png") as grid:
                assert frame.crop((0, 0, *grid.size)).tobytes() == grid.tobytes()
                assert frame.crop((0, grid.height, *frame.size)).getbbox() is not None  # the text


def test_two_grids_are_too_few(tmp_path: Path) -> None:
    run(tmp_path, SampleGrid(raw=False, n=1), TrainingGif())
    assert not (tmp_path / "samples" / "training.gif").exists()


def test_one_that_cannot_be_written_ends_no_run(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, content: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("forger.callbacks.final_pictures.write_whole", full)
    run(tmp_path, SampleGrid(every_n_steps=5, n=1), TrainingGif())
    assert "training.gif cannot be written: [Errno 28] No space left" in caplog.text
