"""The plan: true numbers, read off the objects without changing a bit of them."""

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
from torch import Tensor, nn
from training import ROOT

from forger import losses as L
from forger.app.run import memory
from forger.app.run.dry_run import describe_dry_run
from forger.app.run.layers import layer_table
from forger.app.run.length import describe_length
from forger.app.run.memory import Memory, estimate_memory, state_per_weight
from forger.app.run.plan import describe_memory, describe_plan, notes
from forger.app.run.trial import Trial
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
    assert cells[1] == ["layers.0", "ConvTranspose2d", "B x 128 x 7 x 7", "627,200"]
    assert cells[2] == ["layers.1", "BatchNorm2d", "B x 128 x 7 x 7", "256"]
    assert cells[-2] == ["layers.7", "Tanh", "B x 1 x 28 x 28", "0"]
    assert cells[-1] == ["all", "759,680"]
    assert len({len(line) for line in lines}) == 1


def test_a_spectral_norm_is_part_of_its_layer_and_nothing_is_left_out() -> None:
    table = layer_table(mlp.Discriminator(SHAPE, norm="spectral"), torch.zeros(2, *SHAPE))
    assert [line.split()[0] for line in table[1:]] == [
        *(f"layers.{number}" for number in (0, 1, 2, 3, 5, 6)),  # 4 is what normalises nothing
        "all",
    ]
    assert re.split(r"\s{2,}", table[2])[1:] == ["Linear + SpectralNorm", "B x 512", "131,584"]


class Scaled(nn.Module):
    """Holds a parameter beside its layers, and a layer whose weight alone is used."""

    latent_dim = 4

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(3))
        self.used = nn.Linear(4, 256)
        self.unused = nn.Linear(4, 7)

    def forward(self, noise: Tensor) -> Tensor:
        return (self.scale.sum() * self.used(noise) + self.unused.weight.sum()).view(-1, *SHAPE)


def test_parameters_beside_layers_are_counted() -> None:
    table = layer_table(Scaled(), torch.zeros(2, 4))
    cells = [re.split(r"\s{2,}", line.strip()) for line in table[1:]]
    assert cells == [
        ["used", "Linear", "B x 256", "1,280"],
        ["unused", "Linear", "?", "35"],
        ["others", "3"],
        ["all", "1,318"],
    ]


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
    assert not [line for line in lines if "no estimate" in line or "not known" in line]
    assert all(torch.equal(value, before[name]) for name, value in gan.state_dict().items())
    assert modes == [module.training for module in gan.modules()]
    assert hooks == [len(module._forward_hooks) for module in gan.modules()]
    assert all(p.grad is None and p.requires_grad for p in gan.generator.parameters())
    assert torch.equal(states[0], torch.get_rng_state())
    assert states[1:] == (np.random.get_state()[1].tolist(), random.getstate())


@pytest.mark.parametrize(
    ("settings", "n_critic", "expected"),
    [
        (
            {"max_steps": -1, "max_epochs": 5},
            1,
            "until 5 epochs: at most 40 iterations, 320 images",
        ),
        ({"max_steps": 7}, 3, "until 7 iterations: at most 7 iterations, 168 images"),
        ({"max_steps": 30, "max_epochs": 5}, 3, "5 epochs or 30 iterations: at most 10 iterations"),
        ({"max_steps": -1, "max_time": "00:01:30:00"}, 1, "until 1:30:00 hours"),
        ({"max_steps": 9, "max_time": "00:01:30:00"}, 1, "until 9 iterations or 1:30:00 hours: at"),
        ({"max_steps": -1, "max_epochs": 5, "limit_train_batches": 2}, 1, "at most 10 iterations"),
        ({"max_steps": -1, "max_epochs": 2, "limit_train_batches": 0.5}, 1, "at most 8 iterations"),
        ({"max_steps": -1, "max_epochs": 2, "overfit_batches": 1}, 1, "at most 2 iterations"),
    ],
)
def test_length(settings: dict[str, Any], n_critic: int, expected: str, tmp_path: Path) -> None:
    """64 images in batches of 8."""
    gan = make_gan(loss=L.Hinge(n_critic=n_critic))
    trainer = make_trainer(tmp_path, **settings)
    per_epoch, end = describe_length(gan, data(), trainer)
    assert expected in end
    if settings.get("limit_train_batches") is settings.get("overfit_batches") is None:
        whole = {1: "8 iterations per epoch, 64 images", 3: "2 iterations per epoch, 48 images"}
        assert per_epoch.endswith(whole[n_critic])
    if "max_time" not in settings:
        trainer.fit(gan, datamodule=data())
        assert f"at most {trainer.global_step} iterations" in end


def estimate(gan: GAN, folder: Path, batch: int = 8, **settings: Any) -> Memory:
    return estimate_memory(gan, Squares(batch_size=batch), make_trainer(folder, **settings), SHAPE)


def test_memory_of_weights_by_hand(tmp_path: Path) -> None:
    """Adam holds two numbers for each weight; gradients of DDP are exchanged in copies."""
    gan = make_gan()
    g, d = (
        sum(v.nbytes for v in n.state_dict().values()) for n in (gan.generator, gan.discriminator)
    )
    found = estimate(gan, tmp_path)
    assert found.lasting == {
        "weights": g + d,
        "gradients": g + d,
        "optimizer states": 2 * (g + d),
        "averaged generator": g,
    }
    assert found.images == 64 * 256
    assert found.iteration["batches"] == 8 * 256 * 5
    two = {"strategy": "ddp", "devices": 2}
    divided = estimate(gan, tmp_path, **two)
    assert divided.lasting["gradients"] == 2 * (g + d)
    assert divided.iteration["batches"] == 4 * 256 * 5
    whole = estimate(gan, tmp_path, precision="64-true")
    assert whole.lasting["gradients"] == pytest.approx(2 * (g + d), rel=1e-3)  # but for counters
    assert whole.iteration["activations"] == 2 * found.iteration["activations"]


def test_memory_of_images_that_stay_on_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    data = Squares()
    assert memory.images_on_device(data, torch.device("cpu")) == {}
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (4 * 64 * 256, 10**9))
    on_gpu = memory.images_on_device(data, torch.device("cuda"))
    assert on_gpu == {"training images": 64 * 256}


def test_a_mapped_file_is_no_memory_of_the_run() -> None:
    class Mapped(Squares):
        mapped = True

    assert memory.resident_bytes(Squares()) == 64 * 256
    assert memory.resident_bytes(Mapped()) == 0


@pytest.mark.parametrize(
    ("optimizer", "expected"),
    [
        (partial(torch.optim.Adam, lr=1), 2),
        (partial(torch.optim.SGD, lr=1), 0),
        (partial(torch.optim.SGD, lr=1, momentum=0.9), 1),
        (partial(torch.optim.RMSprop, lr=1), 1),
    ],
)
def test_state_of_any_optimizer(optimizer: Any, expected: int) -> None:
    assert state_per_weight(Updates(optimizer=optimizer)) == expected


@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: type(loss).__name__)
@pytest.mark.parametrize("make", [make_gan, make_dcgan])
@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_a_batch_is_as_large_as_trials_say(make: Any, loss: Any, precision: str) -> None:
    """What two trials of few images foretell is what the whole batch then keeps."""
    trial = Trial(make(loss=loss), precision, SHAPE)
    for update in (trial._discriminator_loss, trial._generator_loss):
        assert trial._kept_of_batch(update, 32) == trial._kept(update, 32)


def test_activations_by_hand(tmp_path: Path) -> None:
    """One layer each: G's update keeps noise, the tanh's result for it and for D, and logits."""
    generator = nn.Sequential(nn.Linear(6, 256), nn.Unflatten(1, SHAPE), nn.Tanh())
    generator.latent_dim = 6
    gan = GAN(
        generator=generator,
        discriminator=nn.Sequential(nn.Flatten(), nn.Linear(256, 1), nn.Flatten(0)),
        loss=L.NonSaturating(),
    )
    trial = Trial(gan, "32-true", SHAPE)
    assert sorted(trial._kept(trial._generator_loss, 8)) == [8 * 4, 8 * 6 * 4, 8 * 256 * 4]
    assert sorted(trial._kept(trial._discriminator_loss, 8)) == [8 * 4] * 2 + [8 * 256 * 4] * 2


def test_checkpoint_is_as_large_as_planned(tmp_path: Path) -> None:
    torch.manual_seed(0)
    networks = mlp.Generator(SHAPE), mlp.Discriminator(SHAPE)
    gan = GAN(generator=networks[0], discriminator=networks[1])
    planned = estimate(gan, tmp_path).checkpoint
    fit(gan, tmp_path).save_checkpoint(tmp_path / "last.ckpt")
    assert (tmp_path / "last.ckpt").stat().st_size == pytest.approx(planned, rel=0.02)


class Foreign(LightningDataModule):
    """Tells nothing of itself."""


def test_a_data_module_that_tells_nothing(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path)
    assert describe_length(make_gan(), Foreign(), trainer) == [
        "until 3 iterations: at most 3 iterations"
    ]
    assert "for a batch of one image" in describe_memory(make_gan(), Foreign(), trainer, SHAPE)


class Uncopied(mlp.Discriminator):
    """Cannot be copied."""

    def __deepcopy__(self, memo: Any) -> None:
        raise TypeError("a handle cannot be copied")


def test_a_network_that_cannot_be_tried_stops_no_run(tmp_path: Path) -> None:
    gan = make_gan()
    gan.discriminator = Uncopied(SHAPE)
    lines = everything(gan, tmp_path)
    assert "memory          no estimate: TypeError: a handle cannot be copied" in lines
    assert lines.count("    not known: TypeError: a handle cannot be copied") == 2
    assert any("layers.0  Linear" in line for line in lines)  # the generator's are shown


@pytest.mark.parametrize(
    ("trainer", "expected"),
    [
        (SimpleNamespace(world_size=1), []),
        (
            SimpleNamespace(world_size=2, accelerator=CPUAccelerator()),
            ["BatchNorm's statistics stay per process: torch has no SyncBatchNorm on CPUs"],
        ),
        (
            SimpleNamespace(world_size=2, accelerator=0, strategy=SimpleNamespace(_layer_sync=1)),
            ["BatchNorm's statistics are those of all processes: SyncBatchNorm is on"],
        ),
        (
            SimpleNamespace(
                world_size=2, accelerator=0, strategy=SimpleNamespace(_layer_sync=None)
            ),
            ["BatchNorm's statistics stay per process: trainer.sync_batchnorm is off"],
        ),
    ],
)
def test_notes_on_several_processes(trainer: Any, expected: list[str]) -> None:
    assert notes(make_gan(), trainer) == expected
    without = make_gan(generator=mlp.Generator(SHAPE, norm="none"))
    assert notes(without, trainer) == []


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
    train(compose("train", overrides=sys.argv[2:]))
print("growth", read("VmHWM") - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads Linux's /proc")
@pytest.mark.parametrize(
    "words",
    [
        ["model=vanilla"],
        ["model=vanilla", "model.generator.hidden=[2048,2048]"],
        ["model=dcgan", "data.batch_size=256"],
        ["model=dcgan", "data.image_size=64"],
        ["model=dcgan", "data.batch_size=256", "loss=wgan_gp"],
    ],
    ids=lambda words: "-".join(words),
)
def test_memory_is_estimated_within_a_factor_of_one_and_a_half(
    words: list[str], tmp_path: Path
) -> None:
    fixed = ["data=mnist_sample", "trainer=cpu", "trainer.max_steps=5", "metrics=none"]
    fixed += ["trainer.threads=1"]
    fixed += [f"paths.{name}_dir={tmp_path / name}" for name in ("log", "cache")]
    done = subprocess.run(
        [sys.executable, "-c", GROWTH, str(ROOT / "configs"), *words, *fixed],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    (estimated,) = re.findall(r"^memory +about ([\d.]+) MB", done.stdout, re.MULTILINE)
    (growth,) = re.findall(r"^growth (\d+)", done.stdout, re.MULTILINE)
    assert 1 / 1.5 < int(growth) / 1e6 / float(estimated) < 1.5, (estimated, growth)
