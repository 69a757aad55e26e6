"""The numbers of the game against torchmetrics and by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import SHAPE, fit, make_gan
from torch import Tensor, nn
from torchmetrics.functional.classification import binary_confusion_matrix

from forger import losses as L
from forger.networks import mlp
from forger.scoreboard import scoreboard


def test_agrees_with_torchmetrics() -> None:
    torch.manual_seed(0)
    real, fake = torch.randn(200) + 1, torch.randn(200) - 0.5
    logits, target = torch.cat([real, fake]), torch.cat([torch.ones(200), torch.zeros(200)]).int()
    matrix = binary_confusion_matrix(logits.sigmoid(), target, normalize="true")
    board = scoreboard(real, fake, L.NonSaturating())
    expected = torch.stack([board["tnr"], board["fpr"], board["fnr"], board["tpr"]]).view(2, 2)
    torch.testing.assert_close(matrix, expected)
    assert board["accuracy"] == (board["tpr"] + board["tnr"]) / 2
    assert board["d_real"] == pytest.approx(real.sigmoid().mean().item())


@pytest.mark.parametrize("a", [0.0, 0.1, 0.5])
@pytest.mark.parametrize("kind", [L.NonSaturating, L.Minimax, L.LeastSquares, L.Dragan])
def test_the_boundary_is_where_the_best_discriminator_is_undecided(kind: Any, a: float) -> None:
    """Found by minimising the loss of one logit, of an image that is as likely real as fake."""
    loss = kind(label_smoothing=a)
    logit = torch.zeros(1, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([logit], max_iter=100, tolerance_grad=1e-12)

    def closure() -> float:
        optimizer.zero_grad()
        value = loss.discriminator(logit, logit)
        value.backward()
        return value.item()

    for _ in range(5):
        optimizer.step(closure)
    assert loss.boundary == pytest.approx(logit.item(), abs=1e-4)


class Mine(L.AdversarialLoss):
    """A loss that says nothing about a boundary."""

    def discriminator(self, real_logits: Tensor, fake_logits: Tensor) -> Tensor:
        return (fake_logits - real_logits).mean()

    def generator(self, fake_logits: Tensor, real_logits: Tensor | None) -> Tensor:
        return -fake_logits.mean()


@pytest.mark.parametrize(
    "loss",
    [
        L.Wasserstein(weight_clip=0.01),
        L.RelativisticAverage(),
        L.RelativisticPairing(),
        L.R3GAN(),
        Mine(),
    ],
    ids=lambda loss: type(loss).__name__,
)
def test_without_a_boundary_rates_are_relative_and_named_so(loss: L.AdversarialLoss) -> None:
    real, fake = torch.tensor([105.0, 103.0, 98.0, 102.0]), torch.tensor([95.0, 97.0, 90.0, 102.0])
    assert loss.boundary is None
    board = scoreboard(real, fake, loss)  # the middle is 99
    moved = scoreboard(real - 1000, fake - 1000, loss)
    assert not {"tpr", "fnr", "tnr", "fpr", "accuracy"} & board.keys()
    assert board["relative_tpr"] == moved["relative_tpr"] == 0.75
    assert board["relative_tnr"] == moved["relative_tnr"] == 0.75
    assert board["relative_accuracy"] == 0.75
    assert board["d_real"] == 102


class Probabilities(mlp.Discriminator):
    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images).sigmoid()


@pytest.mark.parametrize(("kind", "told"), [(Probabilities, 1), (mlp.Discriminator, 0)])
def test_probabilities_in_place_of_logits_are_told_once(
    kind: type[nn.Module], told: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    fit(make_gan(discriminator=kind(SHAPE, hidden=(8,))), tmp_path, max_steps=25)
    found = [r for r in caplog.records if "lie in [0, 1]" in r.getMessage()]
    assert len(found) == told
