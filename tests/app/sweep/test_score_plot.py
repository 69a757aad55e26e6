from __future__ import annotations

import io
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sweep_folders import job

from forger.app.sweep import score_plot
from forger.app.sweep.outcome import Outcome
from forger.app.sweep.results import collect


def size(jobs: list[Outcome]) -> tuple[int, int]:
    png = score_plot.draw(collect(jobs))
    assert png is not None
    picture = Image.open(io.BytesIO(png)).convert("L")
    assert (np.asarray(picture) < 200).mean() > 0.002
    return picture.size


def test_one_colour_a_setting(tmp_path: Path) -> None:
    jobs = [
        job(tmp_path, n, f"x={n // 2}", f"seed={n % 2}", scores=[90 - n, 80, 70 + n])
        for n in range(4)
    ]
    png = score_plot.draw(collect(jobs))
    assert png is not None
    pixels = np.asarray(Image.open(io.BytesIO(png)).convert("RGB")).reshape(-1, 3).tolist()
    for colour in ([0x1B, 0x6C, 0xA8], [0xD9, 0x5F, 0x02]):
        assert colour in pixels
    assert [0x2A, 0x91, 0x34] not in pixels


def test_the_mean_is_taken_where_every_seed_has_a_score(tmp_path: Path) -> None:
    jobs = [
        job(tmp_path, 0, "seed=0", scores=[10, 20, 30, 40]),
        job(tmp_path, 1, "seed=1", scores=[20, math.nan, 50]),
    ]
    rows = collect(jobs).rows
    assert score_plot.mean_over_seeds(rows) == [(100, 15), (300, 40)]


@pytest.mark.parametrize("scores", [[], [math.nan, math.inf]])
def test_no_finite_score_no_plot(tmp_path: Path, scores: list[float]) -> None:
    assert score_plot.draw(collect([job(tmp_path, 0, "x=1", scores=scores)])) is None


@pytest.mark.parametrize("scores", [[5.0], [400.0, 3.0], [-1.0, 0.0], [7.0, 7.0]])
def test_all_kinds_of_scores_can_be_drawn(tmp_path: Path, scores: list[float]) -> None:
    jobs = [
        job(tmp_path, 0, "x=$a_b", "seed=0", scores=scores),
        job(tmp_path, 1, "x=\u4e00", "seed=1", scores=scores, status="failed"),
    ]
    size(jobs)


def test_many_settings_with_long_words_fit(tmp_path: Path) -> None:
    jobs = [job(tmp_path, n, f"+long={'w' * 90}{n}", scores=[90, 80 + n]) for n in range(60)]
    width, height = size(jobs)
    assert width <= 1100
    assert height <= 1200


def test_pyplot_and_its_backend_are_left_alone() -> None:
    code = (
        "import sys, matplotlib; from forger.app.sweep import score_plot, rows, results, outcome;"
        "from pathlib import Path;"
        "o = outcome.Outcome(number=0, overrides=(), folder=Path('.'), status='finished');"
        "r = rows.Row(outcome=o, words={}, curve=((1, 2.0), (2, 1.0)), last=1.0, best=1.0);"
        "s = results.Setting('all jobs', (r,), None, None);"
        "assert score_plot.draw(results.Results((), 'val/fid', True, (r,), (s,)));"
        "sys.exit('matplotlib.pyplot' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
