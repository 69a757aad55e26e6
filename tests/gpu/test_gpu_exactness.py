"""The same numbers on a GPU: as the CPU's, again from the same seed, and after a resume."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from combinations import Combination, few, with_batch_statistics
from helpers import make_dcgan, make_gan, make_trainer
from on_device import PRECISIONS, Game, dark, draws_of_the_cpu, each_game, precise
from resuming import ManySquares, assert_resumes, last, squares, train
from same import differences
from torch import Tensor, distributed

ITERATIONS = 20
CPU: dict[str, Any] = {"accelerator": "cpu"}


def assert_near(one: dict[str, Tensor], other: dict[str, Tensor]) -> None:
    """Compares wherever they lie."""
    assert one.keys() == other.keys()
    for name, value in one.items():
        here = other[name].cpu()
        torch.testing.assert_close(value.cpu(), here, rtol=1e-6, atol=1e-6, msg=name)


def fitted(game: Game, folder: Path, **settings: Any) -> dict[str, Tensor]:
    """All weights after some iterations, the state of the task among them."""
    make, data = game
    gan = make()
    trainer = make_trainer(folder, **{"max_steps": 8, **settings})
    trainer.fit(gan, datamodule=data())
    return gan.state_dict()


@pytest.mark.parametrize("one", [*few(), *with_batch_statistics()], ids=str)
def test_float64_is_that_of_the_cpu(
    one: Combination, on: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Weights, averages and optimizers' states of losses, networks, conditions, augmentations."""
    with draws_of_the_cpu(monkeypatch):
        found = [one.train(tmp_path, max_steps=ITERATIONS, **where) for where in (CPU, on)]
    assert_near(*found)


@each_game
def test_float64_of_games_is_that_of_the_cpu(
    game: Game, on: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {"max_steps": ITERATIONS, "precision": "64-true"}
    with draws_of_the_cpu(monkeypatch):
        assert_near(*(fitted(game, tmp_path, **settings, **where) for where in (CPU, on)))


@pytest.mark.parametrize("precision", PRECISIONS)
@each_game
def test_it_resumes_to_the_same_bits(
    game: Game, precision: str, device: torch.device, on: dict[str, Any], tmp_path: Path
) -> None:
    make, data = game
    own = precise(device, precision)
    if "plugins" in own:  # with a state: made anew for each Trainer
        own = {"plugins": lambda: precise(device, precision)["plugins"]}
    assert_resumes(tmp_path, make, data, kills=(4,), deterministic=True, **on, **own)


@pytest.mark.parametrize("precision", PRECISIONS)
@each_game
def test_a_seed_gives_the_same_bits(
    game: Game, precision: str, device: torch.device, on: dict[str, Any], tmp_path: Path
) -> None:
    runs = []
    for _ in range(2):
        torch.rand(3, device=device)  # the global random state is none of its business
        own = precise(device, precision)
        runs.append(fitted(game, tmp_path, deterministic=True, **on, **own))
    assert not differences(*runs)


@pytest.mark.parametrize("data", [ManySquares, dark])
def test_it_does_not_matter_where_images_stay(
    data: Callable[..., Any], on: dict[str, Any], tmp_path: Path
) -> None:
    runs = []
    for where in ("cpu", "accelerator"):
        settings = {"batch_size": 8, "flip": True} if data is ManySquares else {}

        def held(where: str = where, settings: dict[str, Any] = settings) -> Any:
            return data(device=where, **settings)

        runs.append(fitted((make_dcgan, held), tmp_path, deterministic=True, **on))
    assert not differences(*runs)


@pytest.mark.parametrize("game", [(make_dcgan, squares), (make_gan, squares)], ids=["dcgan", "mlp"])
def test_one_process_of_ddp_is_one_process(
    game: Game, on: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By NCCL on a GPU: the exchange of gradients, and what checkpoints gather."""
    for name in ("MASTER_ADDR", "MASTER_PORT", "LOCAL_RANK", "NODE_RANK", "WORLD_SIZE"):
        monkeypatch.setenv(name, os.environ.get(name, "0"))  # put back in the end
        monkeypatch.delenv(name)
    alone = fitted(game, tmp_path, deterministic=True, **on)
    try:
        own = {"strategy": "ddp", "sync_batchnorm": on["accelerator"] == "gpu"}
        make, data = game
        gan = make()
        trainer = make_trainer(tmp_path, max_steps=8, deterministic=True, **on, **own)
        trainer.fit(gan, datamodule=data())
        wanted = "nccl" if on["accelerator"] == "gpu" else "gloo"
        assert distributed.get_backend() == wanted
        trainer.save_checkpoint(tmp_path / "one.ckpt")
    finally:
        distributed.destroy_process_group()
    assert not differences(alone, gan.state_dict())


@pytest.mark.parametrize("first", ["the device", "the CPU"])
@each_game
def test_a_run_goes_on_elsewhere(
    game: Game, first: str, on: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From a GPU to the CPU and the other way: with all it knows, to nearly the same weights."""
    (make, data), order = game, (on, CPU) if first == "the device" else (CPU, on)
    whole, cut, settings = tmp_path / "whole", tmp_path / "cut", {"precision": "64-true"}
    with draws_of_the_cpu(monkeypatch):
        train(whole, make(), data(), max_steps=10, **settings, **CPU)
        train(cut, make(), data(), max_steps=5, **settings, **order[0])
        path = cut / "checkpoints" / "last.ckpt"
        rows = train(cut, make(), data(), max_steps=10, ckpt_path=path, **settings, **order[1])
    assert [step for step, _ in rows] == [*range(6, 11)]
    assert last(cut)["global_step"] == 10
    assert_near(*(last(one)["state_dict"] for one in (whole, cut)))
