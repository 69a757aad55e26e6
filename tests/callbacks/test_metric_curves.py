from __future__ import annotations

from pathlib import Path

from fake_gan import fit
from PIL import Image

from forger.callbacks import MetricCurves
from forger.callbacks.metric_curves import panels_of
from forger.loggers import MetricsCSV


def test_the_curves_are_drawn_from_the_rows(tmp_path: Path) -> None:
    table = MetricsCSV(tmp_path)
    table.log_metrics({"train/loss_g": 1.0}, 0)
    fit(tmp_path, MetricCurves(), batches=1)
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
    fit(tmp_path, MetricCurves(), batches=1)
    with Image.open(tmp_path / "curves.png") as picture:
        assert picture.size == (1100, 580)  # two columns, two rows
        assert len(picture.convert("RGB").getcolors(1 << 20) or ()) > 10
