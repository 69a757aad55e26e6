from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import fit, make_gan
from lightning import Callback
from torch import nn

from forger.divergence import FiniteWatch, finite
from forger.errors import DivergedError

NETWORKS = ["discriminator", "generator"]


def break_weights(network: nn.Module) -> None:
    with torch.no_grad():
        next(network.parameters()).view(-1)[0] = math.inf


def watch() -> FiniteWatch:
    return FiniteWatch({name: nn.Linear(2, 2) for name in NETWORKS}, torch.device("cpu"))


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_loss_that_is_not_finite_names_network_and_iteration(value: float) -> None:
    watching = watch()
    watching.see("generator", torch.tensor(3e38), 6)
    with pytest.raises(DivergedError) as caught:
        watching.see("generator", torch.tensor(value), 7)
    assert str(caught.value) == f"training diverged at iteration 7: the generator's loss is {value}"


def test_the_network_whose_weights_broke_is_named_whoever_s_loss_shows_it() -> None:
    watching = watch()
    break_weights(watching.networks["generator"])
    with pytest.raises(DivergedError, match=r"the discriminator's .* weights of the generator"):
        watching.see("discriminator", torch.tensor(math.nan), 7)


def test_where_looking_would_wait_the_first_iteration_is_noted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As on a GPU, with tensors of the CPU: nothing is read until `check`."""
    watching = watch()
    watching._at_once = False
    with monkeypatch.context() as patch:
        patch.setattr(torch.Tensor, "item", lambda _: pytest.fail("waited for the device"))
        patch.setattr(torch.Tensor, "__bool__", lambda _: pytest.fail("waited for the device"))
        for iteration, value in enumerate([1.0, math.nan, 2.0, math.inf], start=10):
            watching.see("discriminator", torch.tensor(value), iteration)
    with pytest.raises(DivergedError, match="iteration 11: the discriminator's loss was not"):
        watching.check(20)


def test_large_weights_are_finite() -> None:
    network = nn.Linear(100, 100)
    for parameter in network.parameters():
        nn.init.constant_(parameter, 1e38)
    assert finite(network)
    assert finite(nn.Identity())


class Break(Callback):
    """Breaks a network's weights after an iteration."""

    def __init__(self, name: str, after: int) -> None:
        self.name, self.after = name, after

    def on_train_batch_end(self, trainer: Any, pl_module: Any, *_: Any) -> None:
        if pl_module.iteration == self.after:
            break_weights(getattr(pl_module, self.name))


@pytest.mark.parametrize("name", NETWORKS)
def test_training_stops_in_the_iteration_that_shows_it(name: str, tmp_path: Path) -> None:
    with pytest.raises(DivergedError, match=f"at iteration 3: .*{name}"):
        fit(make_gan(), tmp_path, callbacks=[Break(name, 2)], max_steps=9)


@pytest.mark.parametrize("name", NETWORKS)
def test_a_checkpoint_of_broken_weights_is_not_written(name: str, tmp_path: Path) -> None:
    gan = make_gan()
    trainer = fit(gan, tmp_path, max_steps=2)
    break_weights(getattr(gan, name))
    with pytest.raises(DivergedError, match=f"iteration 2: the {name}'s weights are not finite"):
        trainer.save_checkpoint(tmp_path / "broken.ckpt")
    assert not (tmp_path / "broken.ckpt").exists()
