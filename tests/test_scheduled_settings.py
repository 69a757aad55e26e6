"""Settings other than learning rates that follow schedules."""

from __future__ import annotations

import math
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import SHAPE, LabelledSquares, fit, make_gan
from lightning import Callback
from resuming import assert_resumes, labelled
from torch import Tensor

from forger import losses as L
from forger.conditions import Labels
from forger.errors import ConfigError
from forger.gan import GAN
from forger.networks import mlp, r3gan
from forger.noise import Draws
from forger.schedules import Constant, Cosine, Linear
from forger.tasks import FromNoise
from forger.updates import Updates

ADAM = partial(torch.optim.Adam, lr=1e-2, betas=(0.0, 0.9), fused=True)
LENGTH = 40  # images of D: five iterations of 8
R3GAN = {  # of arXiv:2501.05441, by iterations and by images
    "penalty": Cosine(final=0.1, images=LENGTH),
    "beta2": Cosine(final=0.1, iterations=5),
    "ema": Linear(initial=0.0, final=1.0, images=LENGTH),
}


def scheduled_gan(schedules: Any = R3GAN, **arguments: Any) -> GAN:
    updates = Updates(optimizer=ADAM, schedule=Linear(final=0.5, images=LENGTH))
    both = {"generator_updates": updates, "discriminator_updates": updates}
    settings: dict[str, Any] = {"loss": L.R3GAN(gamma=2.0), "ema_half_life": 64.0, **both}
    return make_gan(schedules=schedules, **(settings | arguments))


class Watch(Callback):
    """Keeps what an iteration was made with."""

    def __init__(self) -> None:
        self.rows: list[dict[str, float]] = []

    def on_train_batch_end(self, trainer: Any, pl_module: Any, *_: Any) -> None:
        metrics = trainer.callback_metrics
        names = ("lr_d", "penalty_factor", "beta2_g", "beta2_d", "ema_half_life")
        row = {name: metrics[f"train/{name}"].item() for name in names}
        group = trainer.optimizers[1].param_groups[0]
        self.rows.append(row | {"betas": group["betas"]})


def test_all_follow_their_curves_from_the_first_iteration_on(tmp_path: Path) -> None:
    """Images count once though R3GAN's generator takes as many of its own."""
    watch = Watch()
    gan = scheduled_gan()
    fit(gan, tmp_path, max_steps=7, callbacks=[watch])
    assert (gan.images_seen, gan.images_judged) == (7 * 16, 7 * 8)
    for iteration, row in enumerate(watch.rows):
        done = min(iteration / 5, 1)
        cosine = 0.1 + 0.9 * (1 + math.cos(math.pi * done)) / 2
        assert row["lr_d"] == pytest.approx(1e-2 * (1 - 0.5 * done))
        assert row["penalty_factor"] == pytest.approx(cosine)
        assert row["beta2_g"] == row["beta2_d"] == pytest.approx(1 - 0.1 * cosine)
        assert row["betas"] == (0.0, pytest.approx(1 - 0.1 * cosine))
        assert row["ema_half_life"] == pytest.approx(64 * done)


def test_a_half_life_counts_images_of_the_discriminator(tmp_path: Path) -> None:
    """After an iteration of 8 images the average of weights that were 0 is 1 - 2^(-8 / 64)."""
    gan = scheduled_gan({})
    with torch.no_grad():
        for p in gan.ema_generator.module.parameters():
            p.zero_()
    fit(gan, tmp_path, max_steps=1)
    for average, weight in zip(
        gan.ema_generator.module.parameters(), gan.generator.parameters(), strict=True
    ):
        torch.testing.assert_close(average, weight * (1 - 0.5 ** (8 / 64)))


def test_a_half_life_of_0_keeps_a_plain_copy(tmp_path: Path) -> None:
    gan = scheduled_gan({"ema": Linear(initial=0.0, final=1.0)})
    fit(gan, tmp_path, max_steps=1)
    pairs = zip(gan.ema_generator.module.parameters(), gan.generator.parameters(), strict=True)
    assert all(torch.equal(average, weight) for average, weight in pairs)


def test_the_factor_of_penalties_scales_their_weight() -> None:
    gan = scheduled_gan()
    real = {"image": torch.randn(4, 1, 16, 16)}
    fake = {"image": torch.randn(4, 1, 16, 16)}

    def terms() -> dict[str, Tensor]:
        return gan.task._penalties(real, fake, Draws(0), 1)

    whole = terms()
    gan.task.factors["penalty"] = 0.25
    quarter = terms()
    assert set(whole) == {"penalty_r1", "penalty_r2"}
    for name, term in whole.items():
        torch.testing.assert_close(quarter[name], term / 4)


def test_a_factor_of_1_changes_no_bit(tmp_path: Path) -> None:
    plain, scheduled = (
        scheduled_gan(schedules) for schedules in ({}, {"penalty": Linear(final=1.0)})
    )
    for gan in (plain, scheduled):
        fit(gan, tmp_path, max_steps=3)
    state = scheduled.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in plain.state_dict().items())


def test_a_resume_follows_the_same_curves(tmp_path: Path) -> None:
    """With R3GAN's networks, which are told classes."""
    sizes = {"width": 4, "group_size": 4, "blocks": 1, "num_classes": 3}

    def make() -> GAN:
        torch.manual_seed(0)
        return scheduled_gan(
            generator=r3gan.Generator(SHAPE, 6, **sizes),
            discriminator=r3gan.Discriminator(SHAPE, **sizes),
            condition=Labels(LabelledSquares.classes),
        )

    assert_resumes(tmp_path, make, labelled, kills=(3,), max_steps=6)


@pytest.mark.parametrize(
    ("schedules", "arguments", "message"),
    [
        ({"penalty": Linear()}, {"loss": L.Hinge()}, r"schedule.penalty: .*loss.r1_gamma=1"),
        (
            {"ema": Linear()},
            {"ema_half_life": None},
            r"schedule.ema: .*ema_half_life=<images>",
        ),
        ({"augment": Linear()}, {}, r"schedule.augment: .*augment.p="),
        ({"instance_noise": Linear()}, {}, r"schedule.instance_noise: .*task.instance_noise=0.1"),
        ({"gamma": Linear()}, {}, r"schedule.gamma: .*allowed here: beta2, ema, penalty"),
    ],
)
def test_what_is_off_has_no_schedule(schedules, arguments, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        scheduled_gan(schedules, **arguments)


def test_what_only_the_optimizers_and_the_trainer_tell_is_refused() -> None:
    gan = scheduled_gan({"beta2": Linear()})
    sgd = [torch.optim.SGD(side.parameters()) for side in (gan.generator, gan.discriminator)]
    with pytest.raises(ConfigError, match=r"schedule.beta2: SGD has no betas; .*optimizer=adam"):
        gan.scheduled.follow(sgd, 10)
    with pytest.raises(ConfigError, match=r"schedule.beta2=linear: .*trainer.max_steps"):
        gan.scheduled.follow([], math.inf)


def test_a_constant_is_no_schedule_and_the_plan_names_the_others() -> None:
    gan = scheduled_gan({"penalty": Constant(), "beta2": Cosine(), "instance_noise": Constant()})
    assert gan.scheduled.describe() == "beta2 cosine"


class Own(FromNoise):
    """A game with a setting of its own that can be scaled."""

    factor_names = frozenset({"cycle"})  # type: ignore[assignment]


def test_a_task_of_ones_own_says_what_it_scales() -> None:
    task = Own(mlp.Generator(SHAPE), mlp.Discriminator(SHAPE))
    gan = GAN(task, schedules={"cycle": Linear(iterations=4)})
    gan.scheduled.apply(iterations=1, images=0)
    assert gan.task.factors == {"cycle": 0.75}
    assert gan.scheduled.values == {"cycle_factor": 0.75}
