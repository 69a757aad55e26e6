"""What D sees of images: all of it augmented, real and fake alike, with noise where that is on."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import SHAPE, conditional, fit, make_gan
from resuming import assert_resumes, full_gan, last, squares
from torch import Tensor, nn

from forger import losses
from forger.augment import ADA, Augment, DiffAugment
from forger.errors import ConfigError
from forger.gan import GAN
from forger.losses import AdversarialLoss, Hinge
from forger.metrics.judging import logits_of
from forger.networks import dcgan, mlp
from forger.noise import Draws
from forger.seeds import Purpose
from forger.tasks import FromNoise

ROWS = 6
LOSSES: list[AdversarialLoss] = [
    losses.Hinge(r1_gamma=1.0, r2_gamma=1.0, cr=1.0, cr_fake=1.0, zcr_d=1.0, zcr_g=1.0),
    losses.R3GAN(),
    losses.Wasserstein(gradient_penalty=10.0),
    losses.Dragan(),
]


class Tripled(Augment):
    """Triples images, by one draw for each, so that what has not been seen through it shows."""

    def forward(self, images: Tensor, rows: Any, factor: float = 1.0) -> Tensor:
        drawn = rows(lambda shape, *_: torch.full(shape, 3.0), len(images), 1, 1, 1)
        seen: Tensor = images * drawn.to(images.dtype) + 100
        return seen


class Recorder(nn.Module):
    """A linear D that keeps what it was given."""

    def __init__(self, independent: bool = False) -> None:
        super().__init__()
        self.linear = nn.Linear(256, 1)
        self.independent_samples = independent
        self.given: list[Tensor] = []

    def forward(self, images: Tensor) -> Tensor:
        self.given.append(images.detach())
        logits: Tensor = self.linear(images.flatten(1).to(self.linear.weight)).squeeze(1).square()
        return logits

    def __deepcopy__(self, memo: Any) -> Recorder:
        return self


def make_task(loss: AdversarialLoss, **parts: Any) -> FromNoise:
    torch.manual_seed(0)
    discriminator = parts.pop("discriminator", None) or Recorder()
    return FromNoise(mlp.Generator(SHAPE, 5, hidden=(8,)), discriminator, loss, **parts)


def started(seed: int = 0) -> Draws:
    draws = Draws(seed)
    draws.start(1)
    return draws


def real_batch(rows: int = ROWS) -> dict[str, Tensor]:
    return {"image": torch.rand(rows, *SHAPE, generator=torch.Generator().manual_seed(1)) * 2 - 1}


@pytest.mark.parametrize("independent", [False, True])
@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: type(loss).__name__)
def test_nothing_reaches_d_past_the_augmentation(loss: AdversarialLoss, independent: bool) -> None:
    task = make_task(loss, augment=Tripled(), discriminator=Recorder(independent))
    draws, real = started(), real_batch()
    fakes = task.fakes(real, draws)
    task.discriminator_terms(real, fakes, draws, update=1)
    task.generator_terms(real, fakes, draws)
    task.judge(task.discriminator, real)
    given = task.discriminator.given
    assert len(given) >= (2 if independent else 3)
    assert all((images > 90).all() for images in given)
    images = torch.cat(given)
    for one in (real["image"], fakes["image"].detach()):
        seen = one * 3 + 100
        assert all((images == image).flatten(1).all(1).any() for image in seen)


def test_the_gradient_of_the_generator_comes_through_the_augmentation() -> None:
    task, draws, real = make_task(Hinge(), augment=Tripled()), started(), real_batch()
    image = torch.zeros(ROWS, *SHAPE, requires_grad=True)
    terms = task.generator_terms(real, {"image": image}, draws)
    (found,) = torch.autograd.grad(terms.loss, image)
    at = torch.full((ROWS, *SHAPE), 100.0, requires_grad=True)
    (without,) = torch.autograd.grad(-task.discriminator(at).mean(), at)
    torch.testing.assert_close(found, 3 * without)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_penalties_are_of_the_gradient_before_the_augmentation(dtype: torch.dtype) -> None:
    """By hand: D's gradient where D looks, times three; 16-bit networks in float32."""
    task = make_task(Hinge(r1_gamma=2.0), augment=Tripled())
    task.discriminator.to(dtype)
    real = real_batch()["image"]
    found = task.discriminator_terms({"image": real}, {"image": -real}, started(), update=1)
    linear = task.discriminator.linear.float()
    at = (real * 3 + 100).flatten(1).requires_grad_()
    (slopes,) = torch.autograd.grad(linear(at).square().sum(), at)
    expected = (3 * slopes).square().sum(1).mean()
    assert found.added["penalty_r1"].item() == pytest.approx(expected.item(), rel=1e-3)
    assert expected > 1e-3


@pytest.mark.parametrize(
    "parts",
    [
        {"augment": DiffAugment()},
        {"augment": ADA(0.5, cutout=1)},
        {"instance_noise": 0.3},
        {"augment": ADA(0.5, color=0), "instance_noise": 0.3},
    ],
)
@pytest.mark.parametrize("independent", [False, True])
def test_real_and_fake_images_are_changed_alike(parts: Any, independent: bool) -> None:
    """The same images as both: moments of each pixel agree, within five standard errors."""
    task = make_task(Hinge(), discriminator=Recorder(independent), **parts)
    image = real_batch(1)["image"].expand(3000, -1, -1, -1)
    task.discriminator_terms({"image": image}, {"image": image}, started(), update=1)
    real, fake = torch.cat(task.discriminator.given).chunk(2)
    assert not torch.equal(real, fake)
    for power in (1, 2):
        one, other = real.double() ** power, fake.double() ** power
        error = ((one.var(0) + other.var(0)) / len(one)).sqrt() + 1e-9
        assert ((one.mean(0) - other.mean(0)).abs() / error).max() < 5
    assert (real.std(0) > 0.05).all()


def test_instance_noise_is_normal_and_follows_its_factor() -> None:
    task, images = make_task(Hinge(), instance_noise=0.5), torch.zeros(400, *SHAPE)
    for factor, deviation in ((1.0, 0.5), (0.2, 0.1), (0.0, 0.0)):
        task.factors["instance_noise"] = factor
        task.discriminator.given.clear()
        task.judge(task.discriminator, {"image": images})
        (seen,) = task.discriminator.given
        assert seen.std().item() == pytest.approx(deviation, rel=0.01, abs=0)
        assert abs(seen.mean().item()) <= deviation / 50
        assert seen.unique().numel() > 50_000 or factor == 0


def test_the_augmentation_follows_its_factor() -> None:
    task, real = make_task(Hinge(), augment=ADA(1.0, geometry=0, color=0)), real_batch(200)
    for factor, unchanged in ((0.0, 1.0), (0.5, (0.75 * 0.625 * 0.52))):
        task.factors["augment"] = factor
        task.discriminator.given.clear()
        terms = task.discriminator_terms(real, real, started(), update=1)
        assert terms.logged["augment_p"].item() == factor
        same = (task.discriminator.given[0] == real["image"]).flatten(1).all(1).float().mean()
        assert same.item() == pytest.approx(unchanged, abs=0.1)


def test_by_default_nothing_is_drawn_and_nothing_is_kept() -> None:
    task, draws, real = make_task(Hinge(r1_gamma=1.0)), started(), real_batch()
    fakes = task.fakes(real, draws)
    terms = task.discriminator_terms(real, fakes, draws, update=1)
    assert fakes.keys() == {"image"}
    assert (terms.added.keys(), terms.logged.keys()) == ({"penalty_r1"}, set())
    task.generator_terms(real, fakes, draws)
    assert draws._begun == {Purpose.TRAINING_NOISE}
    assert not task.state_dict()
    assert task.describe_seen() == ""


def test_scores_see_what_their_seed_says_and_leave_no_trace() -> None:
    task = make_task(Hinge(), augment=ADA(0.8), instance_noise=0.1)
    batch = {"image": ((real_batch()["image"] + 1) * 127.5).to(torch.uint8)}
    state = torch.get_rng_state()
    first, again, other = (logits_of(task, batch, seed) for seed in (5, 5, 6))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("loss", [losses.R3GAN(), losses.Wasserstein(weight_clip=0.1)])
def test_a_controller_needs_a_boundary(loss: AdversarialLoss) -> None:
    told = rf"augment\.p=null: .* with {type(loss).__name__} no logit .* augment\.p=<probability>"
    with pytest.raises(ConfigError, match=told):
        make_task(loss, augment=ADA())
    make_task(loss, augment=ADA(0.5))


def adaptive() -> dict[str, Any]:
    return {"augment": ADA(target=0.0, interval=2, ramp_images=400), "instance_noise": 0.1}


EVERYTHING: dict[str, Any] = {
    **{"n_critic": 2, "r1_gamma": 1.0, "penalty_interval": 2, "lecam": 0.3, "lecam_start": 3},
    **{"cr": 1.0, "cr_fake": 1.0, "zcr_d": 1.0, "zcr_g": 0.1},
}


def test_a_cut_run_keeps_p_the_anchors_and_what_is_drawn(tmp_path: Path) -> None:
    def make(**arguments: Any) -> GAN:
        return make_gan(**adaptive(), **arguments)

    make_full = partial(full_gan, Hinge(**EVERYTHING), make)
    assert_resumes(tmp_path, make_full, squares, kills=(3, 8), precision="bf16-mixed")
    state = last(tmp_path / "cut")["state_dict"]
    assert state["task.augment.controller.level"] > 0
    assert (state["task.lecam.anchors"] != 0).all()


@pytest.mark.parametrize("how", ["", "projection", "auxiliary", "concat"])
@pytest.mark.parametrize("model", [mlp, dcgan])
@pytest.mark.parametrize("make", [DiffAugment, ADA, partial(ADA, 0.5)])
def test_augmentations_train_every_network_and_condition(
    make: Any, model: Any, how: str, tmp_path: Path
) -> None:
    networks = conditional(how, model) if how else {}
    trainer = fit(make_gan(model, augment=make(), **networks), tmp_path, max_steps=2)
    logged = trainer.callback_metrics
    assert torch.isfinite(torch.stack([logged["train/loss_g"], logged["train/loss_d"]])).all()
    assert ("train/augment_p" in logged) == (make is not DiffAugment)
