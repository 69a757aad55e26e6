"""Consistency terms against explicit computations."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from forger.consistency import changed, near
from forger.errors import ConfigError
from forger.losses import Hinge, LeastSquares
from forger.networks import mlp
from forger.noise import Draws
from forger.seeds import Purpose
from forger.tasks import FromNoise, from_noise, image_task

SHAPE = (1, 8, 8)


def rows_of(*numbers: Tensor) -> Any:
    """Draws what a test says, one tensor after the other."""
    left = list(numbers)
    return lambda draw, *shape: left.pop(0).expand(shape)


def test_changed_images_against_numpy() -> None:
    """Moved by up to a side's eighth, mirrored at the edges, and flipped below one half."""
    images = torch.arange(5 * 16 * 16.0).view(5, 1, 16, 16)
    u = torch.tensor([[0.0, 0.99, 0.9], [0.5, 0.5, 0.1], [0.99, 0.5, 0.4], [0.3, 0.7, 0.6]])
    u = torch.cat([u, u[:1].flip(1)])
    steps = np.floor(u[:, :2].numpy() * 5).astype(int) - 2
    for flip in (True, False):
        found = changed(images, rows_of(u), flip)[:, 0]
        for image, seen, (down, right), own in zip(images, found, steps, u, strict=True):
            plain = image[0].numpy()
            padded = np.pad(plain[:, ::-1] if flip and own[2] < 0.5 else plain, 2, mode="reflect")
            # a flip comes first, and what is moved to the right then moves so in the result
            expected = padded[2 - down : 18 - down, 2 - right : 18 - right]
            assert np.array_equal(seen.numpy(), expected)


def parts() -> tuple[Any, Any]:
    torch.manual_seed(0)
    return mlp.Generator(SHAPE, 5, hidden=(8,), norm="none"), nn.Sequential(
        nn.Flatten(), nn.Linear(64, 1)
    )


def test_terms_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    """T turned upside down, and noise moved by a known step."""
    generator, discriminator = parts()
    loss = Hinge(cr=2.0, cr_fake=3.0, zcr_d=5.0, zcr_g=7.0, zcr_radius=0.5)
    task = FromNoise(generator, discriminator, loss)
    step = torch.linspace(-1, 1, 5)
    monkeypatch.setattr(image_task, "changed", lambda images, rows, flip: images.flip(2))
    monkeypatch.setattr(from_noise, "near", lambda noise, rows, radius: noise + radius * step)
    draws = Draws(0)
    draws.start(1)
    real = {"image": torch.rand(6, *SHAPE)}
    fakes = task.fakes(real, draws)
    x, f, moved = real["image"], fakes["image"], generator(fakes["noise"] + 0.5 * step)
    added = task.discriminator_terms(real, fakes, draws, update=1).added
    expected = {
        "cr": 2 * (discriminator(x) - discriminator(x.flip(2))).square().mean(),
        "cr_fake": 3 * (discriminator(f) - discriminator(f.flip(2))).square().mean(),
        "zcr_d": 5 * (discriminator(f) - discriminator(moved)).square().mean(),
    }
    assert added.keys() == expected.keys()
    for name, value in expected.items():
        assert added[name].item() == pytest.approx(value.item(), rel=1e-4)
        assert value > 1e-6
    of_generator = task.generator_terms(real, fakes, draws).added
    expected = {"zcr_g": -7 * (f - moved).square().mean()}
    assert of_generator["zcr_g"].item() == pytest.approx(expected["zcr_g"].item(), rel=1e-4)
    slopes = torch.autograd.grad(of_generator["zcr_g"], list(generator.parameters()))
    assert any(slope.abs().max() > 0 for slope in slopes)


def test_noise_is_moved_by_a_normal_step_of_the_radius() -> None:
    draws = Draws(1)
    draws.start(1)
    noise = torch.zeros(20_000, 4)
    moved = near(noise, partial(draws.rows, Purpose.AUGMENTATION), 0.05)
    assert moved.std().item() == pytest.approx(0.05, rel=0.02)
    assert abs(moved.mean().item()) < 0.001


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"lecam_decay": 0.9}, r"loss\.lecam_decay=0\.9: is for loss\.lecam, off here; leave it"),
        ({"cr_flip": False}, r"loss\.cr_flip=False: is for loss\.cr and loss\.cr_fake, off here"),
        ({"zcr_radius": 0.1, "cr": 1.0}, r"loss\.zcr_radius=0\.1: is for loss\.zcr_d and"),
        ({"zcr_radius": 0.0, "zcr_d": 1.0}, r"loss\.zcr_radius=0\.0: must be a number above 0"),
        ({"lecam": -1.0}, r"loss\.lecam=-1\.0: must be a number of at least 0"),
    ],
)
def test_settings_of_terms_that_are_off_are_refused(settings: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        LeastSquares(**settings)
