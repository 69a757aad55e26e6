"""The numbers of the game against torchmetrics and by hand."""

from __future__ import annotations

import pytest
import torch
from torchmetrics.functional.classification import binary_confusion_matrix

from forger.scoreboard import scoreboard


def test_by_hand() -> None:
    board = scoreboard(torch.tensor([2.0, -1.0, 0.5, 0.1]), torch.tensor([-3.0, 1.0, -0.5, -2.0]))
    rates = {name: value.item() for name, value in board.items()}
    assert rates["tpr"] == 0.75
    assert rates["fnr"] == 0.25
    assert rates["fpr"] == 0.25
    assert rates["tnr"] == 0.75
    assert rates["accuracy"] == 0.75
    assert rates["d_real"] == pytest.approx(
        torch.tensor([2.0, -1.0, 0.5, 0.1]).sigmoid().mean().item()
    )


def test_agrees_with_torchmetrics() -> None:
    torch.manual_seed(0)
    real, fake = torch.randn(200) + 1, torch.randn(200) - 0.5
    logits, target = torch.cat([real, fake]), torch.cat([torch.ones(200), torch.zeros(200)]).int()
    matrix = binary_confusion_matrix(logits.sigmoid(), target, normalize="true")
    board = scoreboard(real, fake)
    expected = torch.stack([board["tnr"], board["fpr"], board["fnr"], board["tpr"]]).view(2, 2)
    torch.testing.assert_close(matrix, expected)
