"""A run of StyleGAN2: its plan, and truncation by `generate.py` and in a notebook."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir
from PIL import Image
from training import NARROW, ROOT, Compose, rows, short, trained

import forger
from forger.app.run.generate import generate
from forger.app.run.train import train
from forger.checkpoints.reading import read_checkpoint
from forger.errors import ConfigError

WORDS = ["model=stylegan2", *NARROW["stylegan2"], "condition=label", "loss.r1_gamma=1"]
WORDS += ["loss.path_length=2", "loss.path_length_interval=2"]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("styles")
    return trained(folder, *WORDS, "model.discriminator.group_size=3")


def generated(run: Path, *overrides: str) -> Path:
    with initialize_config_dir(str(ROOT / "configs"), version_base="1.3"):
        words = [f"run={run}", "n=3", "device=cpu", "label=[3,8]", *overrides]
        return generate(compose("generate", overrides=words))


def images_in(folder: Path) -> np.ndarray:
    return np.stack([np.asarray(Image.open(path)) for path in sorted(folder.glob("images/*.png"))])


def test_the_penalty_is_logged_where_it_is_due_and_its_mean_is_kept(run: Path) -> None:
    first, second = [row["train/penalty_path_length"] for row in rows(run)]
    assert first == ""
    assert float(second) > 0
    state = read_checkpoint(run / "checkpoints" / "last.ckpt")["state_dict"]
    assert state["task.path_length.mean"] > 0


def test_truncation_brings_images_together_in_a_folder_of_its_own(run: Path) -> None:
    plain, one = generated(run), generated(run, "truncation=0")
    assert one.name == f"{plain.name}_truncation0"
    assert len(np.unique(images_in(plain), axis=0)) == 6
    assert len(np.unique(images_in(one), axis=0)) == 1
    assert json.loads((one / "generated.json").read_text())["truncation"] == 0
    assert "truncation" not in json.loads((plain / "generated.json").read_text())
    sampler = forger.load(run)
    assert torch.equal(sampler.sample(4, truncation=1), sampler.sample(4))
    near = sampler.sample(4, truncation=0.5)
    assert torch.equal(near, sampler.truncated(0.5).sample(4))
    walk = generated(run, "truncation=0.5", "walk.labels=[3,8]", "frames=2")
    assert (walk / "walk.gif").is_file()


def test_the_plan_tells_of_the_penalty(
    composed: Compose, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        train(composed(*short(tmp_path, "metrics=none", *WORDS, "dry_run=true")))
    assert "penalties r1 x 1, path_length x 2" in caplog.text
    assert "MinibatchDeviation" in caplog.text  # the table of layers
    assert "not known" not in caplog.text


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["loss.path_length=2"], "loss.path_length=2: is for generators with styles"),
        (
            [*WORDS, "condition.generator=concat"],
            "condition.generator=concat: a style mixed in would be of no class",
        ),
        (
            [*WORDS, "condition.generator=batchnorm"],
            "condition.generator=batchnorm: forger.networks.stylegan2 has no BatchNorm; write",
        ),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_written(
    words: list[str], message: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError) as caught:
        trained(tmp_path, *words)
    assert message in str(caught.value)
    assert not (tmp_path / "logs").exists()


def test_a_run_without_styles_is_not_truncated(tmp_path: Path) -> None:
    run = trained(tmp_path, "model=vanilla")
    with initialize_config_dir(str(ROOT / "configs"), version_base="1.3"):
        words = [f"run={run}", "n=3", "device=cpu", "truncation=0.7"]
        with pytest.raises(ConfigError, match=r"truncation=0\.7: is for generators with styles"):
            generate(compose("generate", overrides=words))
    assert not (run / "generated").exists()
