"""`generate.py project=` and `directions=`: what is written, what is refused, and nothing lost."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from composing import compose_config
from PIL import Image
from training import latest, run_folder, short

import forger
from forger.app.run.generate import generate
from forger.app.run.train import train
from forger.errors import ConfigError, DataError


@pytest.fixture(scope="module", params=["none", "label"])
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp(request.param)
    train(compose_config("train", *short(folder, f"condition={request.param}")))
    return run_folder(folder)


def drawn(run: Path, *overrides: str) -> Path:
    return generate(compose_config("generate", *latest([f"run={run}", "device=cpu", *overrides])))


def test_images_are_found_again(run: Path, tmp_path: Path) -> None:
    own = tmp_path / "mine"
    own.mkdir()
    sampler = forger.load(run)
    for name, level in (("dark", 30), ("large", 200)):
        Image.new("RGB", (90, 60), (level,) * 3).save(own / f"{name}.png")
    (own / "notes.txt").write_text("mine")
    output = drawn(run, f"project={own}", f"output={tmp_path / 'out'}")
    assert sorted(path.name for path in output.iterdir()) == [
        *("generated.json", "grid.png", "images", "noise.npz"),
    ]
    record = json.loads((output / "generated.json").read_text())
    assert record["n"] == 2
    assert record["project"] == "mine"
    assert [one["file"] for one in record["projected"].values()] == ["dark.png", "large.png"]
    arrays = np.load(output / "noise.npz")
    given = [torch.from_numpy(arrays["label"])] if "label" in arrays else []
    assert bool(given) == bool(sampler.condition.classes)
    images = sampler(torch.from_numpy(arrays["noise"]), *given)
    for image, name in zip(images, record["projected"], strict=True):
        with Image.open(output / "images" / name) as picture:
            pixels = torch.from_numpy(np.asarray(picture).copy()) / 127.5 - 1
        assert (pixels - image[0]).abs().max() < 0.01
        facts = record["projected"][name]
        assert 0 < facts["distance"] <= facts["random_distance"] + 0.05
    drawn(run, f"project={own / 'dark.png'}", f"output={output}")  # takes its own folder's place
    assert [path.name for path in (output / "images").iterdir()] == ["dark.png"]


def test_directions_stand_beside_the_images(run: Path, tmp_path: Path) -> None:
    words = ("n=2", "directions=3", "reach=2", "seed=4")
    output = drawn(run, *words, f"output={tmp_path / 'out'}")
    assert json.loads((output / "generated.json").read_text())["directions"] == {
        **{"n": 3, "reach": 2.0, "method": "sefa"},
    }
    first = (output / "directions.png").read_bytes()
    assert (output / "grid.png").is_file()
    again = drawn(run, *words, f"output={tmp_path / 'other'}")
    assert (again / "directions.png").read_bytes() == first
    named = drawn(run, "n=2", f"project={output / 'directions.png'}")
    assert named.parent == (run / "generated").resolve()
    assert named.name == "last_ema_seed0_project_directions"


def test_what_cannot_be_is_refused_and_leaves_nothing(run: Path, tmp_path: Path) -> None:
    damaged, output = tmp_path / "x.png", tmp_path / "out"
    damaged.write_bytes(b"%PDF-1.7")
    with pytest.raises(DataError, match=r"project: x.png cannot be read: not an image"):
        drawn(run, f"project={damaged}", f"output={output}")
    with pytest.raises(ConfigError, match=r"project=.*nothing.png: there is no such file"):
        drawn(run, f"project={tmp_path / 'nothing.png'}", f"output={output}")
    with pytest.raises(ConfigError, match=r"directions=9999: the latent space has"):
        drawn(run, "directions=9999", f"output={output}")
    assert not output.exists()
    if forger.load(run).condition.classes:
        image = tmp_path / "y.png"
        Image.new("L", (9, 9)).save(image)
        with pytest.raises(ConfigError, match="projected into one class"):
            drawn(run, f"project={image}", "label=[1,2]", f"output={output}")
