"""The losses against closed forms, computed in plain Python from the formulas of the papers."""

from __future__ import annotations

import math
from statistics import mean

import pytest
import torch

from forger import losses as L
from forger.errors import ConfigError

REAL = [0.7, -1.3, 2.4, -0.2]
FAKE = [-0.9, 0.4, 1.6, -2.2]
R = torch.tensor(REAL, dtype=torch.float64)
F = torch.tensor(FAKE, dtype=torch.float64)


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def bce(logit: float, target: float) -> float:
    p = sigmoid(logit)
    return -target * math.log(p) - (1 - target) * math.log(1 - p)


BCE_D = mean(bce(r, 1) for r in REAL) + mean(bce(f, 0) for f in FAKE)
SMOOTH_D = mean(bce(r, 0.9) for r in REAL) + mean(bce(f, 0) for f in FAKE)
MEAN_R, MEAN_F = mean(REAL), mean(FAKE)
CRITIC = MEAN_F - MEAN_R

CASES = {
    "non_saturating": (L.NonSaturating(), BCE_D, mean(bce(f, 1) for f in FAKE)),
    "smoothed": (L.NonSaturating(label_smoothing=0.1), SMOOTH_D, mean(bce(f, 1) for f in FAKE)),
    "minimax": (L.Minimax(), BCE_D, mean(math.log(1 - sigmoid(f)) for f in FAKE)),
    "least_squares": (
        L.LeastSquares(),
        mean((r - 1) ** 2 / 2 for r in REAL) + mean(f**2 / 2 for f in FAKE),
        mean((f - 1) ** 2 / 2 for f in FAKE),
    ),
    "least_squares_smoothed": (
        L.LeastSquares(label_smoothing=0.2),
        mean((r - 0.8) ** 2 / 2 for r in REAL) + mean(f**2 / 2 for f in FAKE),
        mean((f - 1) ** 2 / 2 for f in FAKE),
    ),
    "hinge": (
        L.Hinge(),
        mean(max(0, 1 - r) for r in REAL) + mean(max(0, 1 + f) for f in FAKE),
        -MEAN_F,
    ),
    "wasserstein": (L.Wasserstein(weight_clip=0.01), CRITIC, -MEAN_F),
    "dragan": (L.Dragan(), BCE_D, mean(bce(f, 1) for f in FAKE)),
    "relativistic_average": (
        L.RelativisticAverage(),
        mean(bce(r - MEAN_F, 1) for r in REAL) + mean(bce(f - MEAN_R, 0) for f in FAKE),
        mean(bce(r - MEAN_F, 0) for r in REAL) + mean(bce(f - MEAN_R, 1) for f in FAKE),
    ),
    "relativistic_pairing": (
        L.RelativisticPairing(),
        mean(bce(r - f, 1) for r, f in zip(REAL, FAKE, strict=True)),
        mean(bce(f - r, 1) for r, f in zip(REAL, FAKE, strict=True)),
    ),
    "r3gan": (
        L.R3GAN(),
        mean(bce(r - f, 1) for r, f in zip(REAL, FAKE, strict=True)),
        mean(bce(f - r, 1) for r, f in zip(REAL, FAKE, strict=True)),
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_equals_its_closed_form(name: str) -> None:
    loss, for_discriminator, for_generator = CASES[name]
    assert loss.discriminator(R, F).item() == pytest.approx(for_discriminator, rel=1e-12)
    assert loss.generator(F, R).item() == pytest.approx(for_generator, rel=1e-12)


@pytest.mark.parametrize("name", CASES)
def test_gradients_point_the_right_way(name: str) -> None:
    """D raises the logits of real images and lowers those of fake ones; G raises those of fakes."""
    loss = CASES[name][0]
    # Undecided logits: least squares would pull those beyond its targets back.
    real = torch.tensor([0.3, 0.6], requires_grad=True)
    fake = torch.tensor([0.2, 0.7], requires_grad=True)
    loss.discriminator(real, fake).backward()
    assert real.grad is not None
    assert fake.grad is not None
    assert real.grad.sum() < 0 < fake.grad.sum()
    fake.grad = None
    loss.generator(fake, real.detach()).backward()
    assert fake.grad.sum() < 0


@pytest.mark.parametrize("loss", [L.NonSaturating(), L.Minimax(), L.RelativisticAverage()])
def test_extreme_logits_stay_finite(loss: L.AdversarialLoss) -> None:
    far = torch.tensor([200.0, -200.0], requires_grad=True)
    total = loss.discriminator(far, -far) + loss.generator(far, far)
    total.backward()
    assert total.isfinite()
    assert far.grad is not None
    assert far.grad.isfinite().all()


def test_penalties_that_a_loss_brings() -> None:
    assert L.Hinge().penalties == {}
    assert set(L.Hinge(r1_gamma=10).penalties) == {"r1"}
    lazy = L.Hinge(r1_gamma=10, r2_gamma=1, penalty_interval=16).penalties
    assert {name: (p.weight, p.interval) for name, p in lazy.items()} == {
        "r1": (10, 16),
        "r2": (1, 16),
    }
    assert set(L.Wasserstein(gradient_penalty=10).penalties) == {"interpolates"}
    assert set(L.Dragan(r1_gamma=1).penalties) == {"around_real", "r1"}
    assert {n: p.weight for n, p in L.R3GAN(gamma=2).penalties.items()} == {"r1": 2, "r2": 2}


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: L.Hinge(n_critic=0), "loss.n_critic=0: must be a whole number of at least 1"),
        (lambda: L.Hinge(weight_clip=-1), "loss.weight_clip=-1: must be a number above 0"),
        (lambda: L.Hinge(r1_gamma=float("nan")), "loss.r1_gamma=nan: must be a number of at least"),
        (lambda: L.Hinge(penalty_interval=0), "loss.penalty_interval=0"),
        (lambda: L.NonSaturating(label_smoothing=1.0), "loss.label_smoothing=1.0: .* below 1"),
        (lambda: L.Wasserstein(), "nothing bounds the Wasserstein critic"),
        (lambda: L.R3GAN(r1_gamma=1.0), "r3gan sets both by loss.gamma"),
        (lambda: L.R3GAN(gamma=0), "loss.gamma=0: must be a number above 0"),
    ],
)
def test_refuses_what_makes_no_sense(make, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make()
