"""What a trained run gives on a GPU: images and scores, which are those of the CPU."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from composing import compose_config
from training import choices_of, colour_folder, trained

import forger
from forger.app.run.evaluate import evaluate
from forger.metrics import classifier
from forger.metrics.extractor import float32_only

RUNS = {
    **{name: [] for name in ("vanilla", "dcgan", "sngan", "stylegan2")},
    "biggan": ["condition=label"],
    "cycle": [
        *("task=cycle", "model=simgan", "loss=least_squares", "task.lambda_identity=0"),
        *("model.generator.width=4", "model.generator.blocks=1", "task.pool=4"),
    ],
}
SMALL = ("metrics.num_fake=1000", "metrics.kid_subsets=20", "metrics.kid_subset_size=300")


@pytest.fixture(scope="module", params=RUNS)
def run(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, device: torch.device
) -> Path:
    """A run of a few iterations on the CPU."""
    folder, name = tmp_path_factory.mktemp("run"), request.param
    if name == "cycle":
        images = colour_folder(folder / "images")
        words = ["data=grey_to_colour_folder", f"data.root={images}", "data.image_size=16"]
    else:
        words = choices_of(name, "hinge", "mnist_sample", folder)
    return trained(folder, *words, *RUNS[name], steps=8)


def test_samples_are_those_of_the_cpu(run: Path, device: torch.device) -> None:
    here, there = forger.load(run), forger.load(run).to(device)
    with float32_only(device):  # a GPU rounds the inputs of convolutions otherwise
        images = there.sample(300, seed=3)
    assert images.device.type == device.type
    torch.testing.assert_close(images.cpu(), here.sample(300, seed=3), rtol=0, atol=1e-4)


@pytest.mark.parametrize("features", ["classifier", "pixels"])
def test_scores_are_those_of_the_cpu(
    features: str, device: torch.device, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By one classifier for both, of a generator that has learned something."""
    monkeypatch.setattr(classifier, "RECIPE", classifier.Recipe(images=20_000))
    cache = f"paths.cache_dir={tmp_path / 'cache'}"
    run = trained(
        tmp_path, "model=dcgan", "model.generator.width=8", "data.batch_size=32", steps=60
    )
    words = [f"run={run}", cache, f"metrics/features={features}", *SMALL]
    found: list[Any] = [
        evaluate(compose_config("evaluate", *words, f"device={where}"))[0]["scores"]
        for where in ("cpu", device.type)
    ]
    assert found[0].keys() == found[1].keys()
    for name, value in found[0].items():  # a share may differ by one of 500 images
        assert found[1][name] == pytest.approx(value, rel=1e-3, abs=2e-3), name
