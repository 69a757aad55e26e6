"""Pictures from a run with classes: which ones, in which order, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from composing import compose_config
from PIL import Image
from training import latest, trained

import forger
from forger.app.run import generate as module
from forger.app.run.generate import generate
from forger.app.run.walk_picture import WALKERS
from forger.errors import ConfigError
from forger.pictures import image_grid, png_bytes, to_pixels

COLUMNS = 2  # of a training's grid of 10 classes


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("digits")
    return trained(folder, "condition=label", f"callbacks.samples.n={10 * COLUMNS}", steps=6)


@pytest.fixture
def into(run: Path, tmp_path: Path) -> Callable[..., Path]:
    """Generates from the run into a folder of the test's own."""

    def made(*overrides: str) -> Path:
        words = [f"run={run}", "device=cpu", "n=3", f"output={tmp_path / 'out'}", "frames=2"]
        return generate(compose_config("generate", *latest([*words, *overrides])))

    return made


def pixels(path: Path) -> Any:
    with Image.open(path) as picture:
        return np.asarray(picture)


def images(folder: Path) -> Any:
    return np.stack([pixels(path) for path in sorted((folder / "images").iterdir())])


def record(folder: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / "generated.json").read_text())
    return content


def test_the_classes_asked_for_one_after_the_other(into: Callable[..., Path], run: Path) -> None:
    output = into("label=[8,3]", "npz=true", "seed=5")
    asked = [8, 8, 8, 3, 3, 3]
    expected = forger.load(run).sample(6, seed=5, label=asked)
    assert np.array_equal(images(output), to_pixels(expected)[:, 0].numpy())
    assert len({image.tobytes() for image in images(output)}) == 6  # no noise comes twice
    grid = image_grid(expected, 3, ("8", "3"))
    assert (output / "grid.png").read_bytes() == png_bytes(grid)
    with np.load(output / "images.npz") as arrays:
        assert arrays["labels"].tolist() == asked
        assert np.array_equal(arrays["arr_0"][..., 0], images(output))
    assert list(record(output)["classes"].items()) == [("8", 3), ("3", 3)]


def test_all_classes_in_rows_as_in_the_grid_of_the_training(
    into: Callable[..., Path], run: Path
) -> None:
    output = into(f"n={COLUMNS}", "seed=0")
    assert len(images(output)) == 10 * COLUMNS
    assert list(record(output)["classes"]) == list("0123456789")
    assert (output / "grid.png").read_bytes() == (run / "samples" / "last.png").read_bytes()
    grid = forger.load(run).grid(10 * COLUMNS)
    assert np.array_equal(images(output), to_pixels(grid.images)[:, 0].numpy())


def test_a_grid_of_many_images_shows_the_first_of_each_class(
    into: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "GRID", 5)
    whole = images(output := into("label=[1,7]", "n=4"))
    shown = torch.from_numpy(whole[[0, 1, 4, 5]])[:, None] / 127.5 - 1
    assert (output / "grid.png").read_bytes() == png_bytes(image_grid(shown, 2, ("1", "7")))
    one = images(output := into("label=7", "n=7"))
    shown = torch.from_numpy(one[:5])[:, None] / 127.5 - 1
    assert (output / "grid.png").read_bytes() == png_bytes(image_grid(shown))  # near-square


def test_a_label_has_a_folder_of_its_own(into: Callable[..., Path], run: Path) -> None:
    names = [
        into(*words, "output=null", "n=1").name for words in ([], ["label=7"], ["label=[3,8]"])
    ]
    assert names == ["last_ema_seed0", "last_ema_seed0_label7", "last_ema_seed0_label3+8"]
    assert sorted(path.name for path in (run / "generated").iterdir()) == sorted(names)


@pytest.mark.parametrize(
    ("classes", "name"),
    [
        ([0], "cat"),
        ([2, 0], "#2+cat"),
        ([3], "#3"),
        ([4, 1], "#4+big_dog-2"),
        ([5], "#5"),
        ([5, 0, 6, 7, 8], "s_5_"),
    ],
)
def test_names_of_folders_are_safe_and_differ(classes: list[int], name: str) -> None:
    names = ["cat", "big_dog-2", "../up", "a b", "", "x" * 300, *("y" * 30 + c for c in "abc")]
    found = module._as_file_name(classes, names)
    assert found.startswith(name)
    assert len(found) <= 80
    assert found != module._as_file_name(classes[::-1], names) or len(classes) == 1


def frames(path: Path) -> list[Any]:
    with Image.open(path) as gif:
        found = []
        for number in range(gif.n_frames):
            gif.seek(number)
            found.append(np.asarray(gif.convert("L")).astype(int))
        return found


def frame_of(run: Path, labels: Any) -> Any:
    """What a frame of the seed's first noise shows."""
    grid = forger.load(run).sample(WALKERS, label=labels)
    return module.pixel_grid(to_pixels(grid), width=384)[0].numpy().astype(int)


@pytest.mark.parametrize(
    ("words", "count", "stops"),
    [
        (["walk.labels=[3,8]"], 4, {0: 3, 2: 8}),  # of the same noise
        (["walk.noise=true"], 12, {0: list(range(10))}),
        (["walk.noise=true", "label=[3,8]"], 12, {0: [3, 8]}),
        (["walk.labels=3"], 12, {0: 3}),
        (["walk.labels=[3]", "walk.noise=true"], 12, {0: 3}),
        (["walk.noise=true", "walk.labels=[3,8,1,2]"], 16, {0: 3}),
    ],
)
def test_walks(
    words: list[str], count: int, stops: dict[int, Any], into: Callable[..., Path], run: Path
) -> None:
    output = into(*words, "n=1")
    shown = frames(output / "walk.gif")
    assert len(shown) == count
    for number, labels in stops.items():
        assert np.abs(shown[number] - frame_of(run, labels)).max() <= 1
    assert all((a != b).any() for a, b in pairwise(shown))
    assert record(output)["walk"]["noise"] == ("walk.noise=true" in words)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["label=12"], "label=12: there is no such class; allowed: 0, 1, 2, 3, 4, 5, 6, 7, 8, 9"),
        (["label=[3,cat]"], "label=cat: there is no such class"),
        (["label=[3,'3']"], r"label=\[3,3\]: names a class twice; leave one of them out"),
        (["walk.labels=[3,77]"], r"walk.labels: label=77: .*; did you mean '7'\?"),
    ],
)
def test_mistakes_are_refused_before_work(
    words: list[str], message: str, into: Callable[..., Path], tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=message):
        into(*words)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("word", ["label=7", "walk.labels=[3,8]"])
def test_a_run_without_classes_takes_no_label(
    word: str, into: Callable[..., Path], tmp_path: Path
) -> None:
    plain = trained(tmp_path / "plain", steps=1)
    with pytest.raises(
        ConfigError, match=r"label=\d: the run was trained without labels; leave it"
    ):
        into(word, f"run={plain}")
    assert not (tmp_path / "out").exists()
    assert not (plain / "generated").exists()
