"""A run from image to image used: its grids, a user's images, and the scores of both directions."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from composing import compose_config
from helpers import Squares
from PIL import Image
from training import colour_folder, latest, trained
from translating import Dark

import forger
from forger.app.run import translate as module
from forger.app.run.evaluate import evaluate
from forger.app.run.generate import generate
from forger.app.run.record import fingerprint
from forger.errors import ConfigError, UserError
from forger.pictures import image_grid, png_bytes, to_pixels
from forger.sampling.translator import Translator

Generate = Callable[..., Path]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cycle from grey to colours, of two iterations."""
    folder = tmp_path_factory.mktemp("cycle")
    images = colour_folder(folder / "images")
    words = ["data=grey_to_colour_folder", f"data.root={images}", "data.image_size=16"]
    words += ["task=cycle", "task.lambda_identity=0", "task.pool=4", "loss=least_squares"]
    words += ["model=simgan", "model.generator.width=4", "model.generator.blocks=1"]
    return trained(folder, *words)


@pytest.fixture
def into(run: Path, tmp_path: Path) -> Generate:
    def made(*overrides: str, of: Path = run) -> Path:
        words = [f"run={of}", "device=cpu", f"output={tmp_path / 'out'}", *overrides]
        return generate(compose_config("generate", *latest(words)))

    return made


@pytest.fixture
def inputs(tmp_path: Path) -> Path:
    """Images of three sizes and kinds, and a file that is none."""
    folder, random = tmp_path / "mine", np.random.default_rng(0)
    folder.mkdir()
    for name, shape in (("a.png", (9, 21, 3)), ("b c.jpg", (30, 8, 3)), ("d.tif", (16, 16))):
        Image.fromarray(random.integers(0, 256, shape).astype(np.uint8)).save(folder / name)
    (folder / "notes.txt").write_text("no image")
    return folder


def pixels(path: Path) -> Any:
    with Image.open(path) as picture:
        return np.asarray(picture)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_grids_of_training_show_both_directions_and_the_way_round(
    run: Path, into: Generate
) -> None:
    sampler = forger.load(run)
    expected = png_bytes(image_grid(*sampler.grid(4)))  # one row, see `training.short`
    assert (run / "samples" / "last.png").read_bytes() == expected
    output = into("n=1")  # a held-out source
    assert (output / "grid.png").read_bytes() == expected
    found = torch.from_numpy(pixels(output / "images/000000.png").copy()).permute(2, 0, 1)
    assert torch.equal(found, to_pixels(sampler.sample(1))[0])


def test_a_users_images_keep_names_and_sizes(run: Path, into: Generate, inputs: Path) -> None:
    output = into(f"input={inputs}")
    assert names(output / "images") == ["a.png", "b c.png", "d.png"]
    assert [pixels(output / "images" / name).shape for name in names(output / "images")] == [
        *((9, 21, 3), (30, 8, 3), (16, 16, 3)),
    ]
    sampler = forger.load(run)
    assert isinstance(sampler, Translator)
    grey = torch.from_numpy(pixels(inputs / "d.tif").copy())[None, None]
    expected = to_pixels(sampler.translate(grey))[0].permute(1, 2, 0).numpy()
    assert np.array_equal(pixels(output / "images/d.png"), expected)
    record = json.loads((output / "generated.json").read_text())
    assert (record["input"], record["n"]) == ("mine", 1)
    assert record["translated"]["b c.png"] == "b c.jpg"
    alone = into(f"input={inputs / 'd.tif'}")  # takes the place of the earlier ones
    assert names(alone / "images") == ["d.png"]
    assert np.array_equal(pixels(alone / "images/d.png"), expected)


def test_the_way_back_has_a_folder_of_its_own_in_the_run(run: Path, inputs: Path) -> None:
    words = [f"run={run}", "device=cpu", f"input={inputs}", "direction=b_to_a"]
    output = generate(compose_config("generate", *words))
    assert output == run / "generated" / "last_ema_seed0_b_to_a_mine"
    assert pixels(output / "images/a.png").shape == (9, 21)  # grey


def test_outputs_of_one_input_differ_by_dropout_alone(
    into: Generate, inputs: Path, tmp_path: Path
) -> None:
    plain = torch.nn.Conv2d(1, 1, 1)
    network = torch.nn.Sequential(plain, torch.nn.Dropout(0.5))
    sources = torch.zeros(2, 1, 8, 8, dtype=torch.uint8)
    sampler, found = Translator(network, sources, sources).dropping(), module.find_inputs(inputs)
    (tmp_path / "x").mkdir()
    told = module.write_translations(tmp_path / "x", sampler, found, 2, seed=3)
    assert names(tmp_path / "x" / "images")[:2] == ["a_0.png", "a_1.png"]
    assert told["translated"]["a_1.png"] == "a.png"
    first, second = (pixels(tmp_path / "x/images" / f"a_{k}.png") for k in range(2))
    assert not np.array_equal(first, second)
    source = module.read_source(inputs / "a.png", sampler)
    assert np.array_equal(second, to_pixels(sampler.translate(source, 4))[0, 0].numpy())
    for words, told_of in (
        (("n=2",), "n=2: outputs of one input differ by Dropout alone; write dropout=true"),
        (("dropout=true",), "dropout=true: the run's generator has no Dropout"),
    ):
        with pytest.raises(ConfigError, match=told_of):
            into(f"input={inputs}", *words)


def test_inputs_that_cannot_be_translated_are_refused_and_nothing_is_left(
    into: Generate, inputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "x.png").write_text("none")
    cases = [
        (tmp_path / "missing", "there is no such file or folder"),
        (tmp_path / "empty", "holds no image directly in it"),
        (tmp_path / "x.png", r"x\.png cannot be read: not an image"),
    ]
    for path, message in cases:
        with pytest.raises(UserError, match=message):
            into(f"input={path}")
    assert names(tmp_path) == ["empty", "mine", "x.png"]
    with pytest.raises(UserError, match="holds the input, and would be replaced"):
        into(f"input={inputs}", f"output={tmp_path}")
    (inputs / "a.bmp").write_bytes((inputs / "a.png").read_bytes())
    with pytest.raises(UserError, match=r"a\.bmp and a\.png would both become a\.png"):
        into(f"input={inputs}")
    monkeypatch.setattr(module, "_MOST", 3)
    with pytest.raises(UserError, match="holds 4 images; allowed: up to 3"):
        into(f"input={inputs}")


def test_a_run_from_noise_has_nothing_to_translate(tmp_path: Path, into: Generate) -> None:
    run = trained(tmp_path / "noise")
    for word in (f"input={run}/samples", "direction=b_to_a", "dropout=true"):
        with pytest.raises(ConfigError, match=f"{word}: the run translates no images"):
            into(word, of=run)
    with pytest.raises(ConfigError, match="direction=b_to_a: the run does not translate"):
        scored(run, "direction=b_to_a")


def test_the_fingerprint_of_data_is_of_its_sources_too() -> None:
    class Darker(Dark):
        def read(self, split: str) -> dict[str, torch.Tensor]:
            found = super().read(split)
            return found | {"source": found["source"] // 2}

    found: list[Any] = [fingerprint(data()) for data in (Squares, Dark, Darker)]
    plain, dark, darker = found
    assert plain.keys() == {"images", "hash"}
    assert dark["hash"] == darker["hash"]
    assert dark["sources"] != darker["sources"]


def scored(run: Path, *overrides: str) -> dict[str, Any]:
    words = [f"run={run}", "metrics/features=pixels", "device=cpu", "metrics.coverage_k=1"]
    words += ["metrics.precision_k=1", "metrics.splits=1", *overrides]
    (record,) = evaluate(compose_config("evaluate", *words))
    return record


def test_both_directions_are_scored(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    there, back = scored(run), scored(run, "direction=b_to_a")
    told = capsys.readouterr().out
    assert "floor: of the sources as they are" in told
    pairs = {"psnr", "l1", "ssim", "pixels_feature_distance"}
    for record in (there, back):
        assert pairs <= record["scores"].keys()
    assert there["floor"]["psnr"] > there["scores"]["psnr"]  # grey is nearer than two iterations
    assert not pairs & back["floor"].keys()  # colours are no grey images
    assert there["protocol"]["data"]["sources"] != back["protocol"]["data"]["sources"]
    assert json.loads((run / "scores_b_to_a.json").read_text()) == back
    protocol = compose_config("evaluate", f"run={run}", f"protocol={run}/scores_b_to_a.json")
    assert evaluate(protocol) == [back]
