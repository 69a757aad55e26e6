"""Pictures from a run: which files, the same bytes again, and nothing of the user's lost."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from composing import compose_config
from PIL import Image
from training import colour_folder, latest, run_folder, short

import forger
from forger import hardware
from forger.app.run import generate as module
from forger.app.run import walk_picture
from forger.app.run.devices import pick_device
from forger.app.run.generate import generate
from forger.app.run.train import train
from forger.errors import ConfigError, UserError
from forger.pictures import to_pixels


def trained(folder: Path, *overrides: str) -> Path:
    train(compose_config("train", *short(folder, *overrides)))
    return run_folder(folder)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained(tmp_path_factory.mktemp("grey"))


def generated(run: Path, *overrides: str) -> Path:
    words = latest([f"run={run}", "n=5", "device=cpu", "frames=2", *overrides])
    return generate(compose_config("generate", *words))


@pytest.fixture
def into(run: Path, tmp_path: Path) -> Callable[..., Path]:
    """Generates from the run into a folder of the test's own."""
    return lambda *overrides: generated(run, f"output={tmp_path / 'out'}", *overrides)


def contents(folder: Path) -> dict[str, bytes]:
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def pixels(path: Path) -> Any:
    with Image.open(path) as picture:
        return np.asarray(picture)


def test_images_in_their_true_size_a_grid_and_a_record(
    run: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    before = torch.get_num_threads()
    output = generated(run, "seed=3", f"threads={before + 1}")
    assert torch.get_num_threads() == before
    assert output == run / "generated" / "last_ema_seed3"
    names = [f"images/{index:06d}.png" for index in range(5)]
    assert list(contents(output)) == ["generated.json", "grid.png", *names]
    expected = to_pixels(forger.load(run).sample(5, seed=3))
    for name, image in zip(names, expected, strict=True):
        assert np.array_equal(pixels(output / name), image[0].numpy())
    assert pixels(output / "grid.png").shape[1] > 3 * 28
    record = json.loads((output / "generated.json").read_text())
    assert record["run"] == run.name
    assert (record["iteration"], record["weights"], record["seed"], record["n"]) == (2, "ema", 3, 5)
    for part in (f"{run}/checkpoints/last.ckpt, iteration 2", "ema weights, on cpu", "grid.png"):
        assert part in caplog.text
    raw = generated(run / "checkpoints" / "last.ckpt", "weights=raw", "n=1")
    assert raw == run / "generated" / "last_raw_seed0"


def test_colour_arrays_and_walk(tmp_path: Path) -> None:
    root = colour_folder(tmp_path / "images")
    data = ["data=image_folder", f"data.root={root}", "data.image_size=32"]
    run = trained(tmp_path, "model=dcgan", "model.prior=uniform", *data)
    output = generated(run, "npz=true", "walk.noise=true", f"output={tmp_path / 'out'}")
    last = pixels(output / "images" / "000004.png")
    assert last.shape == (32, 32, 3)
    with np.load(output / "images.npz") as arrays:
        assert list(arrays) == ["arr_0"]  # what ADM's evaluator reads
        assert (arrays["arr_0"].dtype, arrays["arr_0"].shape) == (np.uint8, (5, 32, 32, 3))
        assert np.array_equal(arrays["arr_0"][4], last)
    with Image.open(output / "walk.gif") as walk:
        assert (walk.n_frames, walk.info["loop"]) == (2 * walk_picture.STOPS, 0)


def test_the_walk_begins_with_the_first_images(into: Callable[..., Path]) -> None:
    output = into("walk.noise=true", f"n={walk_picture.WALKERS}")
    side = 3 * 28 + 2  # an image thrice as large, and a border
    with Image.open(output / "walk.gif") as walk:
        frame = np.asarray(walk.convert("L")).astype(int)
    for index in (0, 5, 15):
        image = pixels(output / "images" / f"{index:06d}.png").astype(int)
        y, x = (place * side + 2 for place in divmod(index, 4))
        assert np.abs(frame[y : y + 84 : 3, x : x + 84 : 3] - image).max() <= 1


def test_the_walk_as_mp4_shows_what_the_gif_shows(into: Callable[..., Path]) -> None:
    av = pytest.importorskip("av")
    output = into("walk.noise=true", "film=mp4", "frames=4")
    assert not (output / "walk.gif").exists()
    with av.open(output / "walk.mp4") as walk:
        film = [frame.to_ndarray(format="gray").astype(int) for frame in walk.decode(video=0)]
    into("walk.noise=true", "frames=4")  # in its place
    assert not (output / "walk.mp4").exists()
    with Image.open(output / "walk.gif") as walk:
        assert walk.n_frames == len(film) == 4 * walk_picture.STOPS
        for number, shown in enumerate(film):
            walk.seek(number)
            frame = np.asarray(walk.convert("L")).astype(int)
            assert np.abs(frame - shown).mean() < 8


def test_the_same_seed_gives_the_same_bytes(into: Callable[..., Path], tmp_path: Path) -> None:
    def made(name: str, *overrides: str) -> dict[str, bytes]:
        words = ("npz=true", "walk.noise=true", f"output={tmp_path / name}", *overrides)
        return contents(into(*words))

    first = made("a")
    assert made("b") == first
    other = made("c", "seed=1")
    assert all(other[name] != first[name] for name in first)
    assert made("d", "weights=raw")["images/000000.png"] != first["images/000000.png"]


def test_the_grid_of_training_shows_the_same_images(run: Path, into: Callable[..., Path]) -> None:
    """`samples/last.png` of the run is `grid.png` of its last checkpoint, with the same seed."""
    assert np.array_equal(pixels(run / "samples" / "last.png"), pixels(into("n=4") / "grid.png"))


def test_more_images_begin_with_the_same_ones(into: Callable[..., Path]) -> None:
    """Across chunks; a batch of another size may round differently by one level."""
    few, many = (np.load(into(f"n={n}", "npz=true") / "images.npz")["arr_0"] for n in (3, 503))
    assert np.abs(few.astype(int) - many[:3].astype(int)).max() <= 1
    assert len({image.tobytes() for image in many}) > 490
    grid = pixels(into("n=401") / "grid.png")  # 400 images: 20 x 20
    assert grid.shape[:2] == (20 * 30 + 2, 20 * 30 + 2)


def test_an_earlier_generation_is_replaced_whole(into: Callable[..., Path], tmp_path: Path) -> None:
    """What a killed process and a file manager left behind does no harm."""
    (tmp_path / "out").mkdir()
    (tmp_path / ".out.partial" / "images").mkdir(parents=True)
    (tmp_path / ".out.partial" / "images" / "000077.png").write_text("half")
    (into("n=9", "npz=true", "walk.noise=true") / "images" / ".DS_Store").write_text("")
    images = ["images/000000.png", "images/000001.png"]
    assert list(contents(into("n=2"))) == ["generated.json", "grid.png", *images]
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize(
    ("name", "earlier"),
    [("images/000000.png", False), ("000000.png", False), ("thesis.tex", True), ("images/a", True)],
)
def test_files_of_the_users_are_never_replaced(
    name: str, earlier: bool, into: Callable[..., Path], tmp_path: Path
) -> None:
    """A data set may well consist of images that are numbered like ours."""
    if earlier:
        into()
    foreign = tmp_path / "out" / name
    foreign.parent.mkdir(parents=True, exist_ok=True)
    foreign.write_text("precious")
    before = contents(tmp_path)
    with pytest.raises(UserError, match="did not write") as caught:
        into("n=2")
    assert str(tmp_path / "out") in str(caught.value)
    assert contents(tmp_path) == before


def full(*_: object) -> bytes:
    raise OSError(28, "No space left")


def stopped(*_: object) -> bytes:
    raise KeyboardInterrupt("stop")


def busy(path: Path, target: Path, rename: Any = Path.rename) -> Any:
    if path.name.endswith(".partial"):
        raise OSError(16, "Device or resource busy")
    return rename(path, target)


def test_a_failure_leaves_the_earlier_generation_alone(
    into: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    into()
    before = contents(tmp_path)
    failures: list[tuple[Any, str, Callable[..., Any], str]] = [
        (module, "draw_walk", stopped, "stop"),
        (module, "draw_walk", full, r"output=.*out: cannot be written: No space left$"),
        (Path, "rename", busy, r"output=.*out: cannot be written: Device or resource busy$"),
    ]
    for where, name, failure, message in failures:
        with monkeypatch.context() as patch:
            patch.setattr(where, name, failure)
            with pytest.raises((KeyboardInterrupt, UserError), match=message):
                into("n=2", "walk.noise=true")
        assert contents(tmp_path) == before  # with nothing half-made beside it


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("device=tpu", "device=tpu: must be one of those here: auto, "),
        ("output={}/file", "output={}/file: is a file"),
        ("output={}/file/below", "output={}/file/below: cannot be written"),
    ],
)
def test_mistakes_are_refused_before_work(
    override: str, message: str, into: Callable[..., Path], tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("precious")
    with pytest.raises(UserError) as caught:
        into(override.format(tmp_path))
    assert message.format(tmp_path) in str(caught.value)
    assert contents(tmp_path) == {"file": b"precious"}


@pytest.mark.parametrize(
    ("gpus", "mps", "here"),
    [
        (0, False, ["cpu"]),
        (0, True, ["mps", "cpu"]),
        (2, False, ["cuda", "cuda:0", "cuda:1", "cpu"]),
    ],
)
def test_auto_takes_the_best_device_there_is(
    gpus: int, mps: bool, here: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hardware, "visible_gpus", lambda: [str(n) for n in range(gpus)])
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpus > 0)
    monkeypatch.setattr(hardware, "has_mps", lambda: mps)
    assert [str(pick_device(name)) for name in ("auto", *here)] == [here[0], *here]
    for name in {"cuda", "cuda:1", "cuda:2", "mps"}.difference(here):
        with pytest.raises(ConfigError, match=f"device={name}: must be one of those here: auto"):
            pick_device(name)
