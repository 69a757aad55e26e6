from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from fake_gan import FakeGAN, fit
from PIL import Image

from forger.callbacks import SampleGrid, TrainingGif


def frames(folder: Path) -> list[Image.Image]:
    with Image.open(folder / "samples" / "training.gif") as animation:
        found = []
        for index in range(animation.n_frames):
            animation.seek(index)
            found.append(animation.convert("L"))
        return found


@pytest.mark.parametrize(
    ("settings", "every", "shown"),
    [({}, 4, [0, 4, 8, 10]), ({"frames": 3}, 1, [0, 5, 10])],  # of many, first and last are kept
)
def test_it_shows_the_grids_in_order(
    settings: dict[str, Any], every: int, shown: list[int], tmp_path: Path
) -> None:
    fit(tmp_path, SampleGrid(every_n_steps=every, n=4, raw=False), TrainingGif(**settings))
    for iteration, frame in zip(shown, frames(tmp_path), strict=True):
        with Image.open(tmp_path / "samples" / f"{iteration:06d}_ema.png") as grid:
            assert frame.crop((0, 0, *grid.size)).tobytes() == grid.tobytes()
            assert frame.crop((0, grid.height, *frame.size)).getbbox() is not None  # the text


def test_coloured_grids_are_shown_and_two_are_too_few(tmp_path: Path) -> None:
    fit(tmp_path, SampleGrid(raw=False, n=1), TrainingGif(), gan=FakeGAN((3, 8, 8)))
    assert not (tmp_path / "samples" / "training.gif").exists()
    fit(tmp_path, SampleGrid(every_n_steps=5, n=1), TrainingGif(), gan=FakeGAN((3, 8, 8)))
    assert len(frames(tmp_path)) == 3


def test_one_that_cannot_be_written_ends_no_run(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, content: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("forger.callbacks.training_gif.write_whole", full)
    fit(tmp_path, SampleGrid(every_n_steps=5, n=1), TrainingGif())
    assert "samples/training.gif cannot be written: [Errno 28] No space left" in caplog.text
