"""Pictures from a run: which files, the same bytes again, and nothing of the user's lost."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, OmegaConf
from PIL import Image
from training import ROOT, colour_folder, run_folder, short

import forger
from forger import hardware
from forger.app.run import generate as module
from forger.app.run.devices import pick_device, threads
from forger.app.run.generate import generate
from forger.app.run.train import train
from forger.errors import ConfigError, UserError
from forger.pictures import to_pixels


def trained(folder: Path, *overrides: str) -> Path:
    with initialize_config_dir(str(ROOT / "configs"), version_base="1.3"):
        train(compose("train", overrides=short(folder, *overrides)))
    return run_folder(folder)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained(tmp_path_factory.mktemp("grey"))


@pytest.fixture(scope="module")
def colour_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("colour")
    root = colour_folder(folder / "images")
    data = ["data=image_folder", f"data.root={root}", "data.image_size=32"]
    return trained(folder, "model=dcgan", "model.prior=uniform", *data)


def config(run: Any, **settings: Any) -> DictConfig:
    defaults: dict[str, Any] = {
        **{"run": str(run), "checkpoint": "last", "n": 5, "seed": 0, "weights": "ema"},
        **{"npz": False, "walk": False, "frames": 2, "output": None},
        **{"device": "cpu", "threads": None},
    }
    return OmegaConf.create(defaults | settings)


@pytest.fixture
def into(run: Path, tmp_path: Path) -> Callable[..., Path]:
    """Generates from the run into a folder of the test's own."""
    defaults = {"run": str(run), "output": str(tmp_path / "out")}
    return lambda **settings: generate(config(**(defaults | settings)))


def contents(folder: Path) -> dict[str, bytes]:
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def test_images_in_their_true_size_a_grid_and_a_record(
    run: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    output = generate(config(run, seed=3))
    assert output == run / "generated" / "last_ema_seed3"
    names = [f"images/{index:06d}.png" for index in range(5)]
    assert list(contents(output)) == ["generated.json", "grid.png", *names]
    expected = to_pixels(forger.load(run).sample(5, seed=3))
    for name, image in zip(names, expected, strict=True):
        with Image.open(output / name) as picture:
            assert picture.mode == "L"
            assert np.array_equal(np.asarray(picture), image[0].numpy())
    with Image.open(output / "grid.png") as grid:
        assert grid.width > 3 * 28
    record = json.loads((output / "generated.json").read_text())
    assert record["run"] == run.name
    assert (record["iteration"], record["weights"], record["seed"], record["n"]) == (2, "ema", 3, 5)
    for part in (str(run), "last.ckpt, iteration 2, ema weights, on cpu", str(output / "grid.png")):
        assert part in caplog.text
    raw = generate(config(run / "checkpoints" / "last.ckpt", weights="raw", n=1))
    assert raw == run / "generated" / "last_raw_seed0"


def test_colour_arrays_and_walk(colour_run: Path, tmp_path: Path) -> None:
    output = generate(config(colour_run, npz=True, walk=True, output=str(tmp_path / "out")))
    with Image.open(output / "images" / "000004.png") as picture:
        assert (picture.mode, picture.size) == ("RGB", (32, 32))
        last = np.asarray(picture)
    with np.load(output / "images.npz") as arrays:
        assert list(arrays) == ["arr_0"]  # what ADM's evaluator reads
        assert (arrays["arr_0"].dtype, arrays["arr_0"].shape) == (np.uint8, (5, 32, 32, 3))
        assert np.array_equal(arrays["arr_0"][4], last)
    with Image.open(output / "walk.gif") as walk:
        assert (walk.n_frames, walk.info["loop"]) == (2 * module.STOPS, 0)


def test_the_walk_begins_with_the_first_images(into: Callable[..., Path]) -> None:
    output = into(walk=True, n=module.WALKERS)
    side = 3 * 28 + 2  # an image thrice as large, and a border
    with Image.open(output / "walk.gif") as walk:
        frame = np.asarray(walk.convert("L")).astype(int)
    for index in (0, 5, 15):
        with Image.open(output / "images" / f"{index:06d}.png") as picture:
            image = np.asarray(picture).astype(int)
        y, x = (place * side + 2 for place in divmod(index, 4))
        assert np.abs(frame[y : y + 84 : 3, x : x + 84 : 3] - image).max() <= 1


def test_the_same_seed_gives_the_same_bytes(into: Callable[..., Path], tmp_path: Path) -> None:
    settings = {"npz": True, "walk": True}
    first = contents(into(output=str(tmp_path / "a"), **settings))
    assert contents(into(output=str(tmp_path / "b"), **settings)) == first
    other = contents(into(output=str(tmp_path / "c"), seed=1, **settings))
    assert all(other[name] != first[name] for name in first)
    raw = contents(into(output=str(tmp_path / "d"), weights="raw", **settings))
    assert raw["images/000000.png"] != first["images/000000.png"]


def test_the_grid_of_training_shows_the_same_images(run: Path, tmp_path: Path) -> None:
    """`samples/last.png` of the run is `grid.png` of its last checkpoint, with the same seed."""
    grid = generate(config(run, n=4, output=str(tmp_path / "made"))) / "grid.png"
    with Image.open(run / "samples" / "last.png") as shown, Image.open(grid) as made:
        assert np.array_equal(np.array(shown), np.array(made))


def test_more_images_begin_with_the_same_ones(into: Callable[..., Path], tmp_path: Path) -> None:
    """Across chunks; a batch of another size may round differently by one level."""
    few = into(output=str(tmp_path / "few"), n=3, npz=True)
    many = into(output=str(tmp_path / "many"), n=503, npz=True)
    arrays = [np.load(output / "images.npz")["arr_0"].astype(int) for output in (few, many)]
    assert np.abs(arrays[0] - arrays[1][:3]).max() <= 1
    assert (many / "images" / "000502.png").is_file()
    assert len({image.tobytes() for image in arrays[1]}) > 490
    with Image.open(many / "grid.png") as grid:  # 400 images: 20 x 20
        assert grid.size == (20 * 30 + 2, 20 * 30 + 2)


def test_an_earlier_generation_is_replaced_whole(into: Callable[..., Path], tmp_path: Path) -> None:
    """What a killed process and a file manager left behind does no harm."""
    (tmp_path / "out").mkdir()
    (tmp_path / ".out.partial" / "images").mkdir(parents=True)
    (tmp_path / ".out.partial" / "images" / "000077.png").write_text("half")
    (into(n=9, npz=True, walk=True) / "images" / ".DS_Store").write_text("")
    images = ["images/000000.png", "images/000001.png"]
    assert list(contents(into(n=2))) == ["generated.json", "grid.png", *images]
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("name", ["thesis.tex", "000000.png", "images/000000.png", "images/a.txt"])
@pytest.mark.parametrize("earlier", [False, True])
def test_files_of_the_users_are_never_replaced(
    name: str, earlier: bool, into: Callable[..., Path], tmp_path: Path
) -> None:
    """A data set may well consist of images that are numbered like ours."""
    if earlier and name == "images/000000.png":
        pytest.skip("that one is ours")
    if earlier:
        into()
    foreign = tmp_path / "out" / name
    foreign.parent.mkdir(parents=True, exist_ok=True)
    foreign.write_text("precious")
    before = contents(tmp_path)
    with pytest.raises(UserError, match="did not write") as caught:
        into(n=2)
    assert str(tmp_path / "out") in str(caught.value)
    assert contents(tmp_path) == before


@pytest.mark.parametrize("error", [KeyboardInterrupt(), RuntimeError("out of memory")])
def test_a_failure_leaves_the_earlier_generation_alone(
    error: BaseException,
    into: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    into()
    before = contents(tmp_path)

    def fail(*_: object) -> bytes:
        raise error

    monkeypatch.setattr(module, "_walk", fail)
    with pytest.raises(type(error)):
        into(n=2, walk=True)
    assert contents(tmp_path) == before  # with nothing half-made beside it


def test_a_full_disk_leaves_nothing(
    into: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez", full)
    with pytest.raises(UserError) as caught:
        into(npz=True)
    where = tmp_path / "out"
    assert str(caught.value) == f"output={where}: cannot be written: No space left on device"
    assert list(tmp_path.iterdir()) == []


def test_a_swap_that_fails_puts_the_earlier_generation_back(
    into: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    into()
    before = contents(tmp_path)
    rename = Path.rename

    def sometimes(path: Path, target: Path) -> Path:
        if path.name.endswith(".partial"):
            raise OSError(16, "Device or resource busy")
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", sometimes)
    with pytest.raises(UserError, match="cannot be written: Device or resource busy"):
        into(n=2)
    assert contents(tmp_path) == before


@pytest.mark.parametrize("output", ["file", "file/below"])
def test_a_file_in_the_way(output: str, into: Callable[..., Path], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("precious")
    with pytest.raises(UserError, match=f"output={tmp_path / output}: (is a file|cannot be)"):
        into(output=str(tmp_path / output))
    assert (tmp_path / "file").read_text() == "precious"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_must_not_be_written(into: Callable[..., Path], tmp_path: Path) -> None:
    tmp_path.chmod(0o555)
    with pytest.raises(UserError, match="cannot be written: Permission denied"):
        into()
    tmp_path.chmod(0o755)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"weights": "both"}, "weights=both: must be one of ema, raw"),
        ({"checkpoint": "first"}, "checkpoint=first: must be one of last, best"),
        ({"device": "tpu"}, "device=tpu: must be one of those here: auto, "),
        ({"run": "no/such/run"}, "run=no/such/run: there is no such folder or file"),
    ],
)
def test_mistakes_are_refused_before_work(
    settings: dict[str, Any], message: str, into: Callable[..., Path], tmp_path: Path
) -> None:
    with pytest.raises(UserError) as caught:
        into(**settings)
    assert message in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_threads_hold_for_a_while(into: Callable[..., Path]) -> None:
    before = torch.get_num_threads()
    into(threads=before + 1)
    assert torch.get_num_threads() == before
    for count, inside in ((before + 1, before + 1), (None, before)):
        with threads(count):
            assert torch.get_num_threads() == inside
        assert torch.get_num_threads() == before


@pytest.mark.parametrize(
    ("gpus", "mps", "auto"), [(0, False, "cpu"), (0, True, "mps"), (2, False, "cuda")]
)
def test_auto_takes_the_best_device_there_is(
    gpus: int, mps: bool, auto: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hardware, "visible_gpus", lambda: [str(n) for n in range(gpus)])
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpus > 0)
    monkeypatch.setattr(hardware, "has_mps", lambda: mps)
    assert pick_device("auto") == torch.device(auto)
    assert pick_device("cpu") == torch.device("cpu")
    there = {"cuda": gpus > 0, "cuda:1": gpus > 1, "cuda:2": gpus > 2, "mps": mps}
    for name, exists in there.items():
        if exists:
            assert pick_device(name) == torch.device(name)
        else:
            with pytest.raises(
                ConfigError, match=f"device={name}: must be one of those here: auto"
            ):
                pick_device(name)
