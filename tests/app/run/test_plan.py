"""The plan and the dry run: true numbers, read off the objects without changing a bit of them."""

from __future__ import annotations

import random
import re
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from helpers import (
    SHAPE,
    LabelledSquares,
    Squares,
    conditional,
    make_dcgan,
    make_gan,
    make_trainer,
)
from lightning import LightningDataModule
from torch import Tensor, nn
from training import ROOT

from forger import losses as L
from forger.app.run import dry_run
from forger.app.run.dry_run import describe_dry_run, estimate_memory, layer_table
from forger.app.run.plan import describe_length, describe_plan, notes
from forger.gan import GAN
from forger.networks import dcgan, mlp, r3gan, stylegan2

LOSSES = [L.Hinge(), L.Dragan(), L.R3GAN(), L.RelativisticPairing(), L.Wasserstein(weight_clip=1)]
DATA = Squares(batch_size=8)


def test_layers_with_outputs_and_parameters() -> None:
    lines = layer_table(dcgan.Generator((1, 28, 28)), torch.zeros(2, 100))
    cells = [re.split(r"\s{2,}", line.strip()) for line in lines]
    assert cells[:2] == [
        ["layer", "type", "output", "parameters"],
        ["network", "Generator", "B x 1 x 28 x 28", "759,680"],
    ]
    assert ["layers.0", "ConvTranspose2d", "B x 128 x 7 x 7", "627,200"] in cells
    table = layer_table(mlp.Discriminator(SHAPE, norm="spectral"), torch.zeros(2, *SHAPE))
    assert re.split(r"\s{2,}", table[4]) == ["layers.1", "ParametrizedLinear", "B x 512", "131,584"]


@pytest.mark.parametrize("how", ["projection", "auxiliary", "concat"])
def test_layers_of_conditional_networks(how: str, tmp_path: Path) -> None:
    gan = make_gan(dcgan, **conditional(how, dcgan))
    lines = describe_dry_run(gan, LabelledSquares(batch_size=8), make_trainer(tmp_path), SHAPE)
    assert not [line for line in lines if "not known" in line]
    cells = [re.split(r"\s{2,}", line.strip()) for line in lines]
    told = {  # of three classes, by which layer: D's last maps are 8 x 4 x 4
        "projection": ["class_head.embedding", "Embedding", "?", "384"],
        "auxiliary": ["class_head.classes", "Linear", "B x 3", "387"],
        "concat": ["embedding", "Embedding", "B x 2", "6"],
    }
    assert told[how] in cells
    assert (["layers.1.gain", "Embedding", "B x 8", "24"] in cells) == (how != "concat")


@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: type(loss).__name__)
@pytest.mark.parametrize("make", [make_gan, make_dcgan])
def test_planning_changes_nothing(make: Any, loss: L.AdversarialLoss, tmp_path: Path) -> None:
    gan, trainer = make(loss=loss), make_trainer(tmp_path)
    gan.generator.layers[1].eval()  # a module that is frozen on purpose
    before = {name: value.clone() for name, value in gan.state_dict().items()}

    def around() -> Any:
        states = torch.get_rng_state().tolist(), np.random.get_state()[1].tolist()
        modules = [(module.training, len(module._forward_hooks)) for module in gan.modules()]
        return states, random.getstate(), modules

    seen = around()
    lines = describe_plan(gan, DATA, trainer, tmp_path, SHAPE)
    assert len(lines) <= 11
    lines += describe_dry_run(gan, DATA, trainer, SHAPE)
    assert not [line for line in lines if "not known" in line]
    assert all(torch.equal(value, before[name]) for name, value in gan.state_dict().items())
    assert around() == seen
    assert all(p.grad is None and p.requires_grad for p in gan.generator.parameters())


def test_the_plan_of_a_run_makes_no_forward_pass(tmp_path: Path) -> None:
    gan = make_gan()
    for network in (gan.generator, gan.discriminator):
        network.forward = None  # type: ignore[assignment]
    lines = describe_plan(gan, DATA, make_trainer(tmp_path), tmp_path, SHAPE)
    assert any("parameters" in line for line in lines)


@pytest.mark.parametrize(
    ("settings", "n_critic", "expected"),
    [
        ({"max_epochs": 5}, 1, "until 5 epochs: at most 40 iterations, 320 images"),
        ({"max_steps": 7}, 3, "until 7 iterations: at most 7 iterations, 168 images"),
        ({"max_steps": 30, "max_epochs": 5}, 3, "5 epochs or 30 iterations: at most 10 iterations"),
        ({"max_steps": 9, "max_time": "00:01:30:00"}, 1, "until 9 iterations or 1:30:00 hours: at"),
        ({"max_epochs": 5, "limit_train_batches": 2}, 1, "at most 10 iterations"),
        ({"max_epochs": 2, "limit_train_batches": 0.5}, 1, "at most 8 iterations"),
        ({"max_epochs": 2, "overfit_batches": 1}, 1, "at most 2 iterations"),
    ],
)
def test_length(settings: dict[str, Any], n_critic: int, expected: str, tmp_path: Path) -> None:
    """64 images in batches of 8; as many iterations are made as are told."""
    gan = make_gan(loss=L.Hinge(n_critic=n_critic))
    trainer = make_trainer(tmp_path, **({"max_steps": -1} | settings))
    per_epoch, end = describe_length(gan, DATA, trainer)
    assert expected in end
    if not settings.keys() & {"limit_train_batches", "overfit_batches"}:
        whole = {1: "8 iterations per epoch, 64 images", 3: "2 iterations per epoch, 48 images"}
        assert per_epoch.endswith(whole[n_critic])
    if "max_time" not in settings:
        trainer.fit(gan, datamodule=Squares(batch_size=8))
        assert f"at most {trainer.global_step} iterations" in end


def estimate(gan: GAN, folder: Path, batch: int = 8, **settings: Any) -> dict[str, int]:
    return estimate_memory(gan, Squares(batch_size=batch), make_trainer(folder, **settings), SHAPE)


def test_memory_of_weights_by_hand(tmp_path: Path) -> None:
    """Adam holds two numbers for each weight; gradients of DDP are exchanged in copies."""
    gan = make_gan()
    g, d = (
        sum(v.nbytes for v in n.state_dict().values()) for n in (gan.generator, gan.discriminator)
    )
    found = estimate(gan, tmp_path)
    labelled = estimate_memory(gan, LabelledSquares(), make_trainer(tmp_path), SHAPE)
    assert labelled["training images"] == 64 * (256 + 8)
    assert (found["weights"], found["gradients"]) == (g + d, g + d)
    weights = sum(p.nbytes for n in (gan.generator, gan.discriminator) for p in n.parameters())
    assert found["optimizer states"] == pytest.approx(2 * weights, abs=4 * 50)  # and its counters
    assert (found["averaged generator"], found["training images"]) == (g, 64 * 256)
    assert found["real images"] == 8 * 256 * 5
    divided = estimate(gan, tmp_path, strategy="ddp", devices=2)
    assert (divided["gradients"], divided["real images"]) == (2 * (g + d), 4 * 256 * 5)
    whole = estimate(gan, tmp_path, precision="64-true")
    assert whole["gradients"] == pytest.approx(2 * (g + d), rel=1e-3)  # but for counters
    assert whole["activations"] == 2 * found["activations"]


def test_activations_by_hand(tmp_path: Path) -> None:
    """D's update keeps both kinds of images and their logits, of any number of images."""
    generator = nn.Sequential(nn.Linear(6, 256), nn.Unflatten(1, SHAPE), nn.Tanh())
    generator.latent_dim = 6
    discriminator = nn.Sequential(nn.Flatten(), nn.Linear(256, 1), nn.Flatten(0))
    gan = make_gan(generator=generator, discriminator=discriminator)
    for batch in (8, 32, 128):
        found = estimate(gan, tmp_path, batch)
        assert found["activations"] == 2 * batch * 4 + 2 * batch * 256 * 4
        assert found["backward passes"] == 4 * batch * 256 * 4


def styled() -> GAN:
    """What grows with the images, and what does not: weights of layers are scaled anew."""
    sizes: dict[str, Any] = {"channel_base": 64, "channel_max": 6}
    return make_gan(
        loss=L.NonSaturating(r1_gamma=1.0, path_length=2.0),
        generator=stylegan2.Generator(SHAPE, 6, 5, mapping_layers=2, **sizes),
        discriminator=stylegan2.Discriminator(SHAPE, group_size=4, **sizes),
    )


@pytest.mark.parametrize("make", [styled, partial(make_gan, r3gan, loss=L.R3GAN()), make_dcgan])
def test_two_small_batches_tell_of_a_large_one(
    make: Callable[[], GAN], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried, whole = estimate(make(), tmp_path, 32), (16, 32)
    monkeypatch.setattr(dry_run, "TRIED", whole)
    known = estimate(make(), tmp_path, 32)
    assert tried == pytest.approx(known, rel=2e-3)


def test_a_dry_run_of_a_large_batch_takes_few_images(tmp_path: Path) -> None:
    rows = list[int]()

    class Counting(mlp.Discriminator):
        def forward(self, images: Tensor) -> Tensor:
            rows.append(len(images))
            return super().forward(images)

    gan = make_gan(discriminator=Counting(SHAPE, (4,)))
    data, trainer = Squares(batch_size=64), make_trainer(tmp_path)
    lines = describe_dry_run(gan, data, trainer, SHAPE)
    assert "memory of each process, an estimate by updates of 2 and 4 images:" in lines
    assert set(rows) <= {2, 4, 8}  # 8: real and fake ones at once


class Uncopied(mlp.Discriminator):
    """Cannot be copied."""

    def __deepcopy__(self, memo: Any) -> None:
        raise TypeError("a handle cannot be copied")


def test_what_tells_nothing_and_cannot_be_tried_stops_no_run(tmp_path: Path) -> None:
    gan, trainer, foreign = make_gan(), make_trainer(tmp_path), LightningDataModule()
    only = ["until 3 iterations: at most 3 iterations"]
    assert describe_length(gan, foreign, trainer) == only
    assert any("for B = 1" in line for line in describe_dry_run(gan, foreign, trainer, SHAPE))
    gan.discriminator = Uncopied(SHAPE)
    lines = describe_dry_run(gan, DATA, trainer, SHAPE)
    assert lines.count("    not known: TypeError: a handle cannot be copied") == 3


def test_notes_on_several_processes() -> None:
    def noted(gan: GAN, layer_sync: Any = None, processes: int = 2) -> str:
        strategy = SimpleNamespace(_layer_sync=layer_sync)
        trainer: Any = SimpleNamespace(world_size=processes, strategy=strategy)
        return " ".join(notes(gan, trainer))

    assert "BatchNorm's statistics stay per process: " in noted(make_gan())
    assert noted(make_gan(), layer_sync=1) == noted(make_gan(), processes=1) == ""
    assert noted(make_gan(generator=mlp.Generator(SHAPE, norm="none"))) == ""


# Its own process, since what other tests left in memory would be used again.
GROWTH = """
import logging, sys
from hydra import compose, initialize_config_dir
from forger.app.cli import main
from forger.app.run.train import train

def read(name):
    with open("/proc/self/status") as lines:
        return next(int(line.split()[1]) for line in lines if line.startswith(name)) * 1024

before = read("VmRSS")
logging.basicConfig(level="INFO", format="%(message)s", stream=sys.stdout)
with initialize_config_dir(sys.argv[1], version_base="1.3"):
    train(compose("train", overrides=[*sys.argv[2:], "dry_run=true"]))
    train(compose("train", overrides=sys.argv[2:]))
print("growth", read("VmHWM") - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads Linux's /proc")
@pytest.mark.parametrize(
    "overrides",
    [
        "model=vanilla",
        "model=vanilla model.generator.hidden=[2048,2048]",
        "model=dcgan data.batch_size=256",
        "model=dcgan data.image_size=64",
        "model=dcgan data.batch_size=256 loss=wgan_gp",
    ],
)
def test_memory_is_estimated_within_a_factor_of_one_and_a_half(
    overrides: str, tmp_path: Path
) -> None:
    fixed = ["data=mnist_sample", "trainer=cpu", "trainer.max_steps=5", "metrics=none"]
    fixed += ["trainer.threads=1"]
    fixed += [f"paths.{name}_dir={tmp_path / name}" for name in ("log", "cache")]
    command = [sys.executable, "-c", GROWTH, str(ROOT / "configs"), *overrides.split(), *fixed]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    (estimated,) = re.findall(r"^ *in all +([\d.,]+) MB", done.stdout, re.MULTILINE)
    (growth,) = re.findall(r"^growth (\d+)", done.stdout, re.MULTILINE)
    ratio = int(growth) / 1e6 / float(estimated.replace(",", ""))
    assert 1 / 1.5 < ratio < 1.5, (estimated, growth)
