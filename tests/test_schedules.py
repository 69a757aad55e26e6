"""The curves of schedules, their lengths, and the optimizers that follow them."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from forger.errors import ConfigError
from forger.schedules import Constant, Cosine, Linear, factor_at
from forger.updates import Updates


@pytest.mark.parametrize(
    ("schedule", "factors"),
    [
        (Constant(), [1, 1, 1, 1, 1]),
        (Linear(), [1, 0.75, 0.5, 0.25, 0]),
        (Linear(start=0.5, final=0.2), [1, 1, 1, 0.6, 0.2]),
        (Cosine(), [1, 0.8535533905932737, 0.5, 0.14644660940672627, 0]),
        (Cosine(final=0.5), [1, 0.9267766952966369, 0.75, 0.5732233047033631, 0.5]),
        (Linear(initial=0.0, final=1.0), [0, 0.25, 0.5, 0.75, 1]),
        (Linear(start=0.5, initial=0.2, final=0.6), [0.2, 0.2, 0.2, 0.4, 0.6]),
        (Cosine(initial=0.0, final=1.0), [0, 0.14644660940672627, 0.5, 0.8535533905932737, 1]),
    ],
)
def test_curves(schedule, factors) -> None:
    assert [schedule(x) for x in (0, 0.25, 0.5, 0.75, 1)] == pytest.approx(factors)


def test_the_default_optimizer_is_that_of_dcgan_and_its_rate_ends_with_the_last_iteration() -> None:
    updates = Updates(schedule=Linear(final=0.1))
    optimizer = updates.make_optimizer(nn.Linear(1, 1))
    assert isinstance(optimizer, torch.optim.Adam)
    assert optimizer.param_groups[0]["betas"] == (0.5, 0.999)
    scheduler = updates.make_scheduler(optimizer, total=4)
    rates = []
    for _ in range(5):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    assert rates == pytest.approx([2e-4, 1.55e-4, 1.1e-4, 0.65e-4, 0.2e-4])


@pytest.mark.parametrize(
    ("schedule", "factor"),
    [
        (Linear(), 0.97),  # 30 of 1,000 iterations of the run
        (Linear(iterations=100), 0.7),
        (Linear(images=2_000), 0.55),
        (Linear(images=900, final=0.2), 0.2),  # it is over
        (Linear(iterations=60, start=0.25), 2 / 3),
        (lambda progress: 5 * progress, 0.15),
        (Constant(), 1),
    ],
)
def test_a_curve_is_as_long_as_the_run_or_as_it_says(schedule, factor: float) -> None:
    assert factor_at(schedule, 30, 900, total=1000) == pytest.approx(factor)


@pytest.mark.parametrize("length", [{"iterations": 2}, {"images": 10}])
def test_a_schedule_with_a_length_of_its_own_goes_with_an_endless_run(length) -> None:
    updates = Updates(schedule=Linear(final=0.5, **length))
    optimizer = updates.make_optimizer(nn.Linear(1, 1))
    images, found = [0], []
    scheduler = updates.make_scheduler(optimizer, float("inf"), images=lambda: images[0])
    for _ in range(4):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        images[0] += 5
        scheduler.step()
    assert found == pytest.approx([2e-4, 1.5e-4, 1e-4, 1e-4])


def test_endless_run_with_a_schedule_is_refused() -> None:
    updates = Updates(schedule=Cosine())
    optimizer = updates.make_optimizer(nn.Linear(1, 1))
    with pytest.raises(ConfigError, match=r"schedule=cosine: .*trainer.max_steps"):
        updates.make_scheduler(optimizer, total=float("inf"))
    assert Updates().make_scheduler(optimizer, total=float("inf")) is None


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Linear(start=1.0), "schedule.start=1.0"),
        (lambda: Cosine(final=2), "schedule.final=2"),
        (lambda: Linear(initial=-1.0), "schedule.initial=-1.0"),
        (lambda: Linear(images=0), "schedule.images=0"),
        (lambda: Linear(images=5, iterations=7), "images=5, schedule.iterations=7: both say"),
        (lambda: Updates(accumulate=0), "model.accumulate=0"),
        (lambda: Updates(gradient_clip=0.0), "model.gradient_clip=0.0"),
    ],
)
def test_out_of_range(make, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make()
