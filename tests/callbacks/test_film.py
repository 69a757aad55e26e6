from __future__ import annotations

import logging
from pathlib import Path

import pytest
from fake_gan import FakeGAN, fit
from PIL import Image

from forger.callbacks import SampleGrid, TrainingFilm
from forger.errors import ConfigError


def frames(path: Path) -> list[Image.Image]:
    with Image.open(path) as film:
        found = []
        for index in range(film.n_frames):
            film.seek(index)
            found.append(film.convert("L"))
        return found


def test_the_film_shows_every_grid_in_order(tmp_path: Path) -> None:
    fit(tmp_path, SampleGrid(every_n_steps=4, n=4, raw=False), TrainingFilm())
    film = frames(tmp_path / "samples" / "training.gif")
    assert len(film) == 4
    for iteration, frame in zip((0, 4, 8, 10), film, strict=True):
        with Image.open(tmp_path / "samples" / f"{iteration:06d}_ema.png") as grid:
            assert frame.crop((0, 0, *grid.size)).tobytes() == grid.tobytes()
            assert frame.height > grid.height
            assert frame.crop((0, grid.height, *frame.size)).getbbox() is not None  # the words


def test_of_many_grids_the_first_and_the_last_are_kept(tmp_path: Path) -> None:
    fit(tmp_path, SampleGrid(every_n_steps=1, n=1, raw=False), TrainingFilm(frames=3))
    film = frames(tmp_path / "samples" / "training.gif")
    assert len(film) == 3
    for iteration, frame in zip((0, 5, 10), film, strict=True):
        with Image.open(tmp_path / "samples" / f"{iteration:06d}_ema.png") as grid:
            assert frame.crop((0, 0, *grid.size)).tobytes() == grid.tobytes()


def test_coloured_grids_make_a_film(tmp_path: Path) -> None:
    fit(tmp_path, SampleGrid(every_n_steps=5, n=1), TrainingFilm(), gan=FakeGAN((3, 8, 8)))
    assert len(frames(tmp_path / "samples" / "training.gif")) == 3


def test_two_grids_make_no_film(tmp_path: Path) -> None:
    fit(tmp_path, SampleGrid(raw=False, n=1), TrainingFilm())
    assert not (tmp_path / "samples" / "training.gif").exists()


def test_a_film_that_cannot_be_written_ends_no_run(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, content: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("forger.callbacks.film.write_whole", full)
    with caplog.at_level(logging.WARNING):
        fit(tmp_path, SampleGrid(every_n_steps=5, n=1), TrainingFilm())
    assert "samples/training.gif cannot be written: [Errno 28] No space left" in caplog.text


@pytest.mark.parametrize("setting", [{"frames": 0}, {"rate": 0}])
def test_senseless_settings_are_refused_by_name(setting: dict[str, int]) -> None:
    with pytest.raises(ConfigError, match=next(iter(setting))):
        TrainingFilm(**setting)
