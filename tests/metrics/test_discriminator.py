"""Scores of the discriminator against counts done by hand, and that it stays as it is."""

from __future__ import annotations

import pytest
import torch
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from forger.errors import ConfigError
from forger.metrics.judging import logits_of
from forger.scoreboard import discriminator_scores
from forger.tasks import FromNoise


def judged(discriminator: nn.Module) -> Tensor:
    generator = nn.Identity()
    generator.latent_dim = 1
    return logits_of(FromNoise(generator, discriminator), {"image": images()})


def logits(*values: float) -> Tensor:
    return torch.tensor(values)


def test_by_hand() -> None:
    scores = discriminator_scores(
        train_logits=logits(3.0, 5.0),
        test_logits=logits(2.0, 1.0, -1.0, 4.0),
        fake_logits=logits(-2.0, 3.0),
        boundary=0.0,
    )
    assert scores == pytest.approx(
        {
            "d_tpr": 3 / 4,
            "d_fnr": 1 / 4,
            "d_tnr": 1 / 2,
            "d_fpr": 1 / 2,
            "d_accuracy": 5 / 8,
            "d_auroc": 5 / 8,  # pairs: all four above -2, one above 3
            "d_train_logit": 4.0,
            "d_test_logit": 1.5,
            "d_gap": 2.5,
            "d_gap_auroc": 7 / 8,  # 3 is below 4
        }
    )
    assert all(type(value) is float for value in scores.values())


def test_ranks_of_a_critic_with_large_values() -> None:
    """A sigmoid would make all of them equal."""
    torch.manual_seed(0)
    real, fake = 1e4 + 50 * torch.randn(300), 1e4 - 20 + 50 * torch.randn(200)
    scores = discriminator_scores(real + 10, real, fake, 0.0)
    target = [1] * 300 + [0] * 200
    expected = roc_auc_score(target, torch.cat([real, fake]).double().numpy())
    assert scores["d_auroc"] == pytest.approx(expected, abs=1e-6)


def test_at_the_boundary_of_the_loss_and_without_one() -> None:
    real, fake = logits(0.9, 0.6, 0.4), logits(0.1, 0.3)
    scores = discriminator_scores(real, real, fake, boundary=0.5)
    assert (scores["d_tpr"], scores["d_tnr"]) == (pytest.approx(2 / 3), 1)
    real, fake = logits(-7.0, -8.0), logits(-9.0, -12.0)
    scores = discriminator_scores(real, real, fake, boundary=None)
    assert "d_accuracy" not in scores
    assert (scores["d_relative_accuracy"], scores["d_relative_tpr"]) == (1, 1)


class Restless(nn.Module):
    """Draws, counts its calls and keeps a running mean, even in eval mode."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("calls", torch.zeros((), dtype=torch.int64))
        self.register_buffer("mean", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        self.mean.lerp_(x.detach().mean().to(self.mean), 0.1)
        return x + 0 * torch.randn_like(x)


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        spectral_norm(nn.Conv2d(1, 4, 3)),
        nn.BatchNorm2d(4),
        nn.Dropout(0.5),
        Restless(),
        nn.Flatten(),
        nn.Linear(16, 1),
    )


def images(count: int = 6) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (count, 1, 4, 4), dtype=torch.uint8, generator=generator)


def test_leaves_no_trace_in_the_discriminator() -> None:
    discriminator = network()
    discriminator[1].eval()  # modes may differ
    discriminator(torch.rand(8, 1, 4, 4) * 2 - 1).sum().backward()
    state = {name: value.clone() for name, value in discriminator.state_dict().items()}
    gradients = [parameter.grad.clone() for parameter in discriminator.parameters()]
    modes = [module.training for module in discriminator.modules()]
    stream = torch.get_rng_state()

    judged(discriminator)

    for name, value in discriminator.state_dict().items():
        assert torch.equal(value, state[name]), name
    for parameter, gradient in zip(discriminator.parameters(), gradients, strict=True):
        assert torch.equal(parameter.grad, gradient)
        assert parameter.requires_grad
    assert [module.training for module in discriminator.modules()] == modes
    assert torch.equal(torch.get_rng_state(), stream)
    with pytest.raises(ConfigError, match="one logit each"):
        judged(nn.Flatten(0))


def test_scales_images_and_flattens_logits_in_eval_mode_and_float32() -> None:
    discriminator = network()
    found = judged(discriminator)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(judged(discriminator), found)
    expected = discriminator.eval()(images().float() / 127.5 - 1).flatten()
    torch.testing.assert_close(found, expected.detach())
    assert not found.requires_grad
    halved = judged(discriminator.bfloat16())
    assert halved.dtype == torch.float32
    assert discriminator[-1].weight.dtype == torch.bfloat16
