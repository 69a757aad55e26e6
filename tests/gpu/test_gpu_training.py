"""What trains on a GPU: every choice, at the speed of the device, and found out where it breaks."""

from __future__ import annotations

import math
import resource
from pathlib import Path
from typing import Any

import pytest
import torch
from composing import compose_config
from helpers import make_dcgan, make_gan, make_trainer
from lightning import Callback
from on_device import PRECISIONS, Game, dark, each_game, fused, never_waiting, precise
from resuming import ManySquares, squares
from test_divergence import Break
from training import (
    LOSSES,
    MODELS,
    captioned_images,
    choices_of,
    colour_folder,
    rows,
    run_folder,
    short,
)

from forger.app.run.train import train
from forger.checkpoints.reading import read_checkpoint
from forger.compiling import compile_networks
from forger.errors import DivergedError

TASKS = {  # with the networks that the docs give them
    "paired": ["model=unet_patchgan", "model.discriminator.layers=1"],
    "cycle": ["model=resnet_patchgan", "model.generator.blocks=1", "task.pool=4"],
    "cut": ["model=resnet_patchgan", "model.generator.blocks=1", "task.nce_layers=[0,4]"],
    "refine": ["model=simgan", "model.generator.blocks=1", "task.generator_warmup=1"],
}
CHOICES = [
    *(f"model={name}" for name in MODELS),
    *(f"loss={name}" for name in LOSSES),
    *(f"condition.discriminator={how}" for how in ("projection", "auxiliary", "concat")),
    "condition=text",
    *("augment=diffaugment", "augment=ada", "optimizer=rmsprop", "optimizer=sgd"),
    *(f"task={name}" for name in TASKS),
]


def words_of(choice: str, folder: Path) -> list[str]:
    """What is typed to train with a choice; networks are narrow."""
    group, _, name = choice.partition("=")
    if group == "task":
        images = colour_folder(folder / "images")
        sizes = [f"model.{side}.width=8" for side in ("generator", "discriminator")]
        data = ["data=masked_to_whole_folder", f"data.root={images}", "data.image_size=32"]
        return [choice, *TASKS[name], *sizes, *data, "loss=least_squares", "data.batch_size=4"]
    if choice == "condition=text":
        data = ["data=captioned_folder", f"data.root={captioned_images(folder / 'images')}"]
        sizes = ["model.generator.width=8", "model.discriminator.width=8", "data.image_size=32"]
        own = ["model=dfgan", "loss=hinge", "loss.matching=1", "text=learned", "text.dim=8"]
        return [choice, *own, *data, *sizes]
    if group in ("model", "loss"):
        chosen = {"model": "dcgan", "loss": "hinge", group: name}
        return choices_of(chosen["model"], chosen["loss"], "mnist_sample", folder)
    words = choices_of("dcgan", "hinge", "mnist_sample", folder)
    return [*words, *(["condition=label"] if "condition" in group else []), choice]


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("choice", CHOICES)
def test_every_choice_trains(
    choice: str, precision: str, device: torch.device, tmp_path: Path
) -> None:
    """As a user types it, with a row of finite numbers for each iteration."""
    if (precision, device.type) == ("16-mixed", "cpu"):
        pytest.skip("16-mixed is for GPUs")
    kind = {"cuda": "gpu"}.get(device.type, device.type)
    own = [f"trainer={kind}", f"trainer.precision={precision}", "metrics=none"]
    words = [*words_of(choice, tmp_path), *own]
    train(compose_config("train", *short(tmp_path, *words, steps=3)))
    found = rows(run_folder(tmp_path))
    assert [int(row["step"]) for row in found] == [1, 2, 3]
    losses = [float(row[f"train/loss_{side}"]) for row in found for side in "gd"]
    assert all(map(math.isfinite, losses))
    last = read_checkpoint(run_folder(tmp_path) / "checkpoints/last.ckpt")
    assert ("cuda" in last["exact_resume"]["ranks"][0]["now"]) == (device.type == "cuda")


class NeverWaiting(Callback):
    """Has nothing wait for the device from one iteration to a later one, data and all."""

    def __init__(self, device: torch.device, first: int, last: int) -> None:
        self.first, self.last, self.ended = first, last, 0
        self.context = never_waiting(device)

    def on_train_batch_start(self, trainer: Any, gan: Any, *_: Any) -> None:
        if trainer.global_step == self.first:
            gan._reals.check = None  # of a GPU's batches the first alone is checked
            self.context.__enter__()

    def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
        if trainer.global_step == self.last:
            self.context.__exit__(None, None, None)
            self.ended = trainer.global_step

    def on_exception(self, *_: Any) -> None:
        self.context.__exit__(None, None, None)


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])  # a scaler waits in each step
@each_game
def test_no_iteration_waits(
    game: Game, precision: str, device: torch.device, on: dict[str, Any], tmp_path: Path
) -> None:
    """Beyond those in which D is looked at, within an epoch, between two rows."""
    make, data = game
    watch = NeverWaiting(device, first=12, last=18)
    settings = {"max_steps": 19, "log_every_n_steps": 1000, "callbacks": [watch]}
    settings |= precise(device, precision)
    make_trainer(tmp_path, **on, **settings).fit(fused(make()), datamodule=data())
    assert watch.ended == 18


@pytest.mark.parametrize("where", ["cpu", "accelerator"])
def test_no_iteration_waits_for_data(
    where: Any, device: torch.device, on: dict[str, Any], tmp_path: Path
) -> None:
    watch = NeverWaiting(device, first=12, last=18)
    settings = {"max_steps": 19, "log_every_n_steps": 1000, "callbacks": [watch]}
    data = ManySquares(batch_size=8, flip=True, device=where)
    make_trainer(tmp_path, **on, **settings).fit(fused(make_gan()), datamodule=data)
    assert watch.ended == 18


def test_a_wait_is_noticed(device: torch.device) -> None:
    numbers = torch.ones(3, device=device)
    for wait in (
        lambda: numbers.sum().item(),
        lambda: numbers.nonzero(),
        lambda: torch.tensor([1.0, 2.0], device=device),
    ):
        with pytest.raises(RuntimeError), never_waiting(device):
            wait()


def test_divergence_is_found_at_the_next_row(on: dict[str, Any], tmp_path: Path) -> None:
    gan = make_gan()
    settings = {"max_steps": 30, "log_every_n_steps": 10, "callbacks": [Break("generator", 12)]}
    with pytest.raises(DivergedError, match="at iteration 13: the discriminator's loss"):
        make_trainer(tmp_path, **on, **settings).fit(gan, datamodule=squares())
    assert gan.iteration == 20


class Memory(Callback):
    """Notes the peak of memory up to some iterations, in bytes."""

    def __init__(self, device: torch.device, *iterations: int) -> None:
        self.device, self.iterations = device, iterations
        self.peaks: list[int] = []

    def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
        if trainer.global_step in self.iterations:
            used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
            if self.device.type == "cuda":
                used = torch.cuda.max_memory_allocated(self.device)
            self.peaks.append(used)


@pytest.mark.parametrize("game", [(make_dcgan, squares), (make_gan, squares)], ids=["dcgan", "mlp"])
def test_memory_stays_flat(
    game: Game, device: torch.device, on: dict[str, Any], tmp_path: Path
) -> None:
    make, data = game
    memory = Memory(device, 200, 2000)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    settings = {"max_steps": 2000, "log_every_n_steps": 50, "callbacks": [memory]}
    make_trainer(tmp_path, **on, **settings).fit(make(), datamodule=data())
    early, late = memory.peaks
    assert late - early <= (0 if device.type == "cuda" else 20 * 2**20)  # of all the process


@pytest.mark.parametrize("make", [make_gan, make_dcgan])
def test_compiled_networks_compute_the_same(
    make: Any, on: dict[str, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "inductor"))
    plain, compiled = make(), make()
    compile_networks(compiled.generator, compiled.discriminator)
    for gan in (plain, compiled):
        trainer = make_trainer(tmp_path, precision="64-true", **on)
        trainer.fit(gan, datamodule=squares())
    torch.compiler.reset()
    for name, value in plain.state_dict().items():
        torch.testing.assert_close(compiled.state_dict()[name], value, rtol=0, atol=1e-6, msg=name)


def test_sources_train_where_they_lie(on: dict[str, Any], tmp_path: Path) -> None:
    """Unpaired images and sources stay on the device, or do not."""
    for where in ("cpu", "accelerator"):
        data = dark(device=where)
        trainer = make_trainer(tmp_path, **on)
        trainer.fit(make_gan(), datamodule=data)
        held = {one.device.type for one in data.train_dataloader().loader.members.values()}
        kind = trainer.strategy.root_device.type
        assert held == {kind if where == "accelerator" else "cpu"}
