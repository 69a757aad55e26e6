"""The pictures of a sweep."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from sweep_folders import grid, job

from forger.app.sweep import pictures
from forger.app.sweep.folder import Outcome
from forger.app.sweep.report import collect


def drawn(png: bytes | None) -> NDArray[np.uint8]:
    assert png is not None
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))


def sheet_of(jobs: list[Outcome]) -> NDArray[np.uint8]:
    return drawn(pictures.contact_sheet(collect(jobs)))


def has(sheet: NDArray[np.uint8], shade: int) -> bool:
    """Whether a 20 x 20 square of one grey is anywhere on the sheet."""
    same = (sheet == shade).all(axis=2)
    sums = same.cumsum(axis=0).cumsum(axis=1)
    inside = sums[20:, 20:] - sums[:-20, 20:] - sums[20:, :-20] + sums[:-20, :-20]
    return bool((inside == 400).any())


def test_each_job_shows_its_images_from_the_best_setting_on(tmp_path: Path) -> None:
    jobs = [job(tmp_path, n, f"x={n}", scores=[9.0 - n]) for n in range(8)]
    sheet = sheet_of(jobs)
    for number in range(8):
        assert has(sheet, 100 + number)
        assert has(sheet, 170 + number)  # the last column
    corners = [np.argwhere((sheet == 100 + n).all(axis=2)).min(axis=0).tolist() for n in range(8)]
    assert sorted(corners, reverse=True) == corners


def test_a_failed_job_is_a_grey_tile_and_no_samples_are_no_sheet(tmp_path: Path) -> None:
    jobs = [
        job(tmp_path, n, f"x={n}", scores=[9.0], status=("finished", "failed")[n]) for n in (0, 1)
    ]
    sheet = sheet_of(jobs)
    assert not has(sheet, 101)
    assert (sheet == (217, 220, 225)).all(axis=2).sum() > 100 * 100
    assert pictures.contact_sheet(collect(jobs[1:])) is None


@pytest.mark.parametrize("count", [1, 130])
def test_the_sheet_has_a_sensible_size(tmp_path: Path, count: int) -> None:
    long = "wide" * 200
    jobs = [job(tmp_path, n, f"x={long}{n // 3}", f"seed={n % 3}") for n in range(count)]
    grid(jobs[0].folder / "samples" / "last.png", shade=100)
    height, width, _ = sheet_of(jobs).shape
    assert 300 < width <= 2620
    assert 300 < height <= 3200
    assert 0.3 < width / height < 3.2


def test_one_colour_a_setting(tmp_path: Path) -> None:
    jobs = [
        job(tmp_path, n, f"x={n // 2}", f"seed={n % 2}", scores=[90 - n, 80, 70 + n])
        for n in range(4)
    ]
    pixels = drawn(pictures.score_plot(collect(jobs))).reshape(-1, 3).tolist()
    for colour in ([0x1B, 0x6C, 0xA8], [0xD9, 0x5F, 0x02]):
        assert colour in pixels
    assert [0x2A, 0x91, 0x34] not in pixels


@pytest.mark.parametrize("scores", [[5.0], [400.0, 3.0], [-1.0, 0.0]])
def test_all_scores_and_settings_can_be_drawn(tmp_path: Path, scores: list[float]) -> None:
    jobs = [
        job(tmp_path, 0, "x=$a_b", "seed=0", scores=scores),
        job(tmp_path, 1, "x=\u4e00", "seed=1", scores=scores, status="failed"),
    ]
    jobs += [job(tmp_path, n, f"+long={'w' * 90}{n}", scores=scores) for n in range(2, 60)]
    plot = drawn(pictures.score_plot(collect(jobs)))
    assert (plot < 200).mean() > 0.002
    assert plot.shape[1] <= 1100
    assert plot.shape[0] <= 1200
