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


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_the_first_loss_that_is_not_finite_is_noted_without_waiting(
    bad: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is read from the device until `check`."""
    watch = FiniteWatch({name: nn.Linear(2, 2) for name in NETWORKS}, torch.device("cpu"))
    with monkeypatch.context() as patch:
        patch.setattr(torch.Tensor, "item", lambda _: pytest.fail("waited for the device"))
        patch.setattr(torch.Tensor, "__bool__", lambda _: pytest.fail("waited for the device"))
        for iteration, value in enumerate([3e38, bad, 2.0, math.inf], start=10):
            watch.see("discriminator", torch.tensor(1.0), iteration)
            watch.see("generator", torch.tensor(value), iteration)
    with pytest.raises(DivergedError) as caught:
        watch.check(20)
    message = "training diverged at iteration 11: the generator's loss was not finite"
    assert str(caught.value) == message


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
    with pytest.raises(DivergedError, match=r"at iteration 3: the \w+'s loss was not finite"):
        fit(make_gan(), tmp_path, callbacks=[Break(name, 2)], max_steps=9)


@pytest.mark.parametrize("name", NETWORKS)
def test_a_checkpoint_of_broken_weights_is_not_written(name: str, tmp_path: Path) -> None:
    gan = make_gan()
    trainer = fit(gan, tmp_path, max_steps=2)
    break_weights(getattr(gan, name))
    with pytest.raises(DivergedError, match=f"iteration 2: the {name}'s weights are not finite"):
        trainer.save_checkpoint(tmp_path / "broken.ckpt")
    assert not (tmp_path / "broken.ckpt").exists()
