"""The plan and the dry run: true numbers, read off the objects without changing a bit of them."""

from __future__ import annotations

import random
import re
import subprocess
import sys
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from helpers import SHAPE, Squares, fit, make_dcgan, make_gan, make_trainer
from lightning import LightningDataModule
from lightning.pytorch.accelerators import CPUAccelerator
from torch import nn
from training import ROOT

from forger import losses as L
from forger.app.run.dry_run import describe_dry_run, layer_table
from forger.app.run.memory import estimate_memory, state_per_weight
from forger.app.run.plan import describe_length, describe_plan, notes
from forger.gan import GAN
from forger.networks import dcgan, mlp
from forger.updates import Updates

LOSSES = [L.Hinge(), L.Dragan(), L.R3GAN(), L.RelativisticPairing(), L.Wasserstein(weight_clip=1)]


def data() -> Squares:
    return Squares(batch_size=8)


def everything(gan: GAN, folder: Path, **settings: Any) -> list[str]:
    trainer = make_trainer(folder, **settings)
    plan = describe_plan(gan, data(), trainer, folder, SHAPE)
    return plan + describe_dry_run(gan, data(), trainer, SHAPE)


def test_layers_with_outputs_and_parameters() -> None:
    lines = layer_table(dcgan.Generator((1, 28, 28)), torch.zeros(2, 100))
    cells = [re.split(r"\s{2,}", line.strip()) for line in lines]
    assert cells[0] == ["layer", "type", "output", "parameters"]
    assert ["layers.0", "ConvTranspose2d", "B x 128 x 7 x 7", "627,200"] in cells
    assert ["layers.1", "BatchNorm2d", "B x 128 x 7 x 7", "256"] in cells
    assert cells[1] == ["network", "Generator", "B x 1 x 28 x 28", "759,680"]
    assert len({len(line) for line in lines}) == 1


def test_a_spectral_norm_is_part_of_its_layer() -> None:
    table = layer_table(mlp.Discriminator(SHAPE, norm="spectral"), torch.zeros(2, *SHAPE))
    assert not [line for line in table if "parametrizations" in line]
    assert re.split(r"\s{2,}", table[4]) == ["layers.1", "ParametrizedLinear", "B x 512", "131,584"]


@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: type(loss).__name__)
@pytest.mark.parametrize("make", [make_gan, make_dcgan])
def test_planning_changes_nothing(make: Any, loss: L.AdversarialLoss, tmp_path: Path) -> None:
    gan = make(loss=loss)
    gan.generator.layers[1].eval()  # a module that is frozen on purpose
    before = {name: value.clone() for name, value in gan.state_dict().items()}
    modes = [module.training for module in gan.modules()]
    states = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()
    hooks = [len(module._forward_hooks) for module in gan.modules()]
    lines = everything(gan, tmp_path)
    assert not [line for line in lines if "not known" in line]
    assert all(torch.equal(value, before[name]) for name, value in gan.state_dict().items())
    assert modes == [module.training for module in gan.modules()]
    assert hooks == [len(module._forward_hooks) for module in gan.modules()]
    assert all(p.grad is None and p.requires_grad for p in gan.generator.parameters())
    assert torch.equal(states[0], torch.get_rng_state())
    assert states[1:] == (np.random.get_state()[1].tolist(), random.getstate())


def test_the_plan_of_a_run_makes_no_forward_pass(tmp_path: Path) -> None:
    gan = make_gan()
    for network in (gan.generator, gan.discriminator):
        network.forward = None  # type: ignore[assignment]
    lines = describe_plan(gan, data(), make_trainer(tmp_path), tmp_path, SHAPE)
    assert len(lines) <= 10
    assert any("parameters" in line for line in lines)


@pytest.mark.parametrize(
    ("settings", "n_critic", "expected"),
    [
        ({"max_epochs": 5}, 1, "until 5 epochs: at most 40 iterations, 320 images"),
        ({"max_steps": 7}, 3, "until 7 iterations: at most 7 iterations, 168 images"),
        ({"max_steps": 30, "max_epochs": 5}, 3, "5 epochs or 30 iterations: at most 10 iterations"),
        ({"max_time": "00:01:30:00"}, 1, "until 1:30:00 hours"),
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
    per_epoch, end = describe_length(gan, data(), trainer)
    assert expected in end
    if not settings.keys() & {"limit_train_batches", "overfit_batches"}:
        whole = {1: "8 iterations per epoch, 64 images", 3: "2 iterations per epoch, 48 images"}
        assert per_epoch.endswith(whole[n_critic])
    if "max_time" not in settings:
        trainer.fit(gan, datamodule=data())
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
    assert (found["weights"], found["gradients"]) == (g + d, g + d)
    assert (found["optimizer states"], found["averaged generator"]) == (2 * (g + d), g)
    assert (found["resident images"], found["real images"]) == (64 * 256, 8 * 256 * 5)
    divided = estimate(gan, tmp_path, strategy="ddp", devices=2)
    assert (divided["gradients"], divided["real images"]) == (2 * (g + d), 4 * 256 * 5)
    whole = estimate(gan, tmp_path, precision="64-true")
    assert whole["gradients"] == pytest.approx(2 * (g + d), rel=1e-3)  # but for counters
    assert whole["activations"] == 2 * found["activations"]


def test_images_on_the_device_and_in_a_mapped_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Mapped(Squares):
        mapped = True

        def residence(self, device: torch.device) -> torch.device:
            return torch.device("cuda")

    found = estimate_memory(make_gan(), Mapped(), make_trainer(tmp_path), SHAPE)
    assert (found["training images"], found["resident images"]) == (64 * 256, 0)


@pytest.mark.parametrize(
    ("optimizer", "expected"),
    [
        (partial(torch.optim.Adam, lr=1), 2),
        (partial(torch.optim.SGD, lr=1), 0),
        (partial(torch.optim.SGD, lr=1, momentum=0.9), 1),
    ],
)
def test_state_of_any_optimizer(optimizer: Any, expected: int) -> None:
    assert state_per_weight(Updates(optimizer=optimizer)) == expected


def test_activations_by_hand(tmp_path: Path) -> None:
    """D's update keeps both kinds of images and their logits, of any number of images."""
    generator = nn.Sequential(nn.Linear(6, 256), nn.Unflatten(1, SHAPE), nn.Tanh())
    generator.latent_dim = 6
    discriminator = nn.Sequential(nn.Flatten(), nn.Linear(256, 1), nn.Flatten(0))
    gan = GAN(generator=generator, discriminator=discriminator, loss=L.NonSaturating())
    for batch in (8, 32):
        found = estimate(gan, tmp_path, batch)
        assert found["activations"] == 2 * batch * 4 + 2 * batch * 256 * 4
        assert found["backward passes"] == 4 * batch * 256 * 4


def test_checkpoint_is_as_large_as_planned(tmp_path: Path) -> None:
    gan = GAN(generator=mlp.Generator(SHAPE), discriminator=mlp.Discriminator(SHAPE))
    planned = estimate(gan, tmp_path)["a checkpoint"]
    fit(gan, tmp_path).save_checkpoint(tmp_path / "last.ckpt")
    assert (tmp_path / "last.ckpt").stat().st_size == pytest.approx(planned, rel=0.02)


class Foreign(LightningDataModule):
    """Tells nothing of itself."""


class Uncopied(mlp.Discriminator):
    """Cannot be copied."""

    def __deepcopy__(self, memo: Any) -> None:
        raise TypeError("a handle cannot be copied")


def test_what_tells_nothing_and_cannot_be_tried_stops_no_run(tmp_path: Path) -> None:
    gan, trainer = make_gan(), make_trainer(tmp_path)
    only = ["until 3 iterations: at most 3 iterations"]
    assert describe_length(gan, Foreign(), trainer) == only
    assert any("for B = 1" in line for line in describe_dry_run(gan, Foreign(), trainer, SHAPE))
    gan.discriminator = Uncopied(SHAPE)
    lines = everything(gan, tmp_path)
    assert lines.count("    not known: TypeError: a handle cannot be copied") == 2
    assert any("layers.0  Linear" in line for line in lines)  # the generator's are shown


def processes(accelerator: Any, layer_sync: Any) -> Any:
    strategy = SimpleNamespace(_layer_sync=layer_sync)
    return SimpleNamespace(world_size=2, accelerator=accelerator, strategy=strategy)


@pytest.mark.parametrize(
    ("trainer", "expected"),
    [
        (SimpleNamespace(world_size=1), []),
        (
            processes(CPUAccelerator(), None),
            ["BatchNorm's statistics stay per process: torch has no SyncBatchNorm on CPUs"],
        ),
        (
            processes(0, 1),
            ["BatchNorm's statistics are those of all processes: SyncBatchNorm is on"],
        ),
        (
            processes(0, None),
            ["BatchNorm's statistics stay per process: trainer.sync_batchnorm is off"],
        ),
    ],
)
def test_notes_on_several_processes(trainer: Any, expected: list[str]) -> None:
    assert list(notes(make_gan(), trainer)) == expected
    assert not list(notes(make_gan(generator=mlp.Generator(SHAPE, norm="none")), trainer))


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
        ["model=vanilla"],
        ["model=vanilla", "model.generator.hidden=[2048,2048]"],
        ["model=dcgan", "data.batch_size=256"],
        ["model=dcgan", "data.image_size=64"],
        ["model=dcgan", "data.batch_size=256", "loss=wgan_gp"],
    ],
    ids=lambda overrides: "-".join(overrides),
)
def test_memory_is_estimated_within_a_factor_of_one_and_a_half(
    overrides: list[str], tmp_path: Path
) -> None:
    fixed = ["data=mnist_sample", "trainer=cpu", "trainer.max_steps=5", "metrics=none"]
    fixed += ["trainer.threads=1"]
    fixed += [f"paths.{name}_dir={tmp_path / name}" for name in ("log", "cache")]
    done = subprocess.run(
        [sys.executable, "-c", GROWTH, str(ROOT / "configs"), *overrides, *fixed],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    (estimated,) = re.findall(r"^ *in all +([\d.,]+) MB", done.stdout, re.MULTILINE)
    (growth,) = re.findall(r"^growth (\d+)", done.stdout, re.MULTILINE)
    ratio = int(growth) / 1e6 / float(estimated.replace(",", ""))
    assert 1 / 1.5 < ratio < 1.5, (estimated, growth)
