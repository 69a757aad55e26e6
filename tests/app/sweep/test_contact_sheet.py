from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from sweep_folders import grid, job

from forger.app.sweep import contact_sheet
from forger.app.sweep.outcome import Outcome
from forger.app.sweep.results import collect


def drawn(jobs: list[Outcome]) -> NDArray[np.uint8]:
    png = contact_sheet.draw(collect(jobs))
    assert png is not None
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))


def has(sheet: NDArray[np.uint8], shade: int) -> bool:
    """Whether a 20 x 20 square of one grey is anywhere on the sheet."""
    same = (sheet == shade).all(axis=2)
    sums = same.cumsum(axis=0).cumsum(axis=1)
    inside = sums[20:, 20:] - sums[:-20, 20:] - sums[20:, :-20] + sums[:-20, :-20]
    return bool((inside == 400).any())


def test_each_job_shows_its_first_images(tmp_path: Path) -> None:
    sheet = drawn([job(tmp_path, n, f"x={n}", scores=[9.0]) for n in range(8)])
    for number in range(8):
        assert has(sheet, 100 + number)
        assert has(sheet, 130 + number)  # the fourth column
        assert not has(sheet, 150 + number)  # the sixth one is cropped


def test_seeds_of_a_setting_stand_side_by_side(tmp_path: Path) -> None:
    scores = {("a", 0): 5, ("b", 0): 1, ("a", 1): 6, ("b", 1): 2, ("c", 0): 9, ("c", 1): 9}
    jobs = [
        job(tmp_path, number, f"x={x}", f"seed={seed}", scores=[score])
        for number, ((x, seed), score) in enumerate(scores.items())
    ]
    sheet = drawn(jobs)
    places = [np.argwhere((sheet == 100 + n).all(axis=2)).min(axis=0).tolist() for n in range(6)]
    order = sorted(range(6), key=lambda n: places[n])
    assert order == [1, 3, 0, 2, 4, 5]
    for left, right in ((1, 3), (0, 2), (4, 5)):
        assert places[left][0] == places[right][0]


def test_a_failed_job_is_a_grey_tile(tmp_path: Path) -> None:
    jobs = [
        job(tmp_path, 0, "x=1", scores=[9.0]),
        job(tmp_path, 1, "x=2", scores=[9.0], status="failed", reason="diverged " * 40),
    ]
    sheet = drawn(jobs)
    assert not has(sheet, 101)
    assert (sheet == (217, 220, 225)).all(axis=2).sum() > 100 * 100


def test_no_samples_no_sheet(tmp_path: Path) -> None:
    assert contact_sheet.draw(collect([job(tmp_path, 0), job(tmp_path, 1)])) is None


@pytest.mark.parametrize("count", [1, 2, 7, 25, 100, 130])
@pytest.mark.parametrize("seeds", [1, 3])
def test_the_sheet_has_a_sensible_size(tmp_path: Path, count: int, seeds: int) -> None:
    jobs = [job(tmp_path, n, f"x={n // seeds}", f"seed={n % seeds}") for n in range(count)]
    grid(jobs[0].folder / "samples" / "last.png", shade=100)
    height, width, _ = drawn(jobs).shape
    assert 300 < width <= 2620
    assert 300 < height <= 3200
    assert 0.3 < width / height < 3.2


def test_hundreds_of_seeds_and_endless_words_fit(tmp_path: Path) -> None:
    jobs = [job(tmp_path, n, f"seed={n}", f"+long={'wide' * 200}{n % 2}") for n in range(60)]
    grid(jobs[0].folder / "samples" / "last.png", shade=100)
    height, width, _ = drawn(jobs).shape
    assert width <= 2620
    assert height <= 3200


def test_pictures_that_are_no_grid_are_shown_whole(tmp_path: Path) -> None:
    jobs = [job(tmp_path, n, f"x={n}", scores=[9.0]) for n in range(3)]
    noise = np.random.default_rng(0).integers(0, 256, (50, 30, 3)).astype(np.uint8)
    Image.fromarray(noise).save(jobs[0].folder / "samples" / "last.png")
    one = np.full((28, 28), 77, dtype=np.uint8)
    Image.fromarray(one).save(jobs[1].folder / "samples" / "last.png")
    grid(jobs[2].folder / "samples" / "last.png", shade=100, side=2)
    sheet = drawn(jobs)
    assert has(sheet, 77)
    assert has(sheet, 110)
