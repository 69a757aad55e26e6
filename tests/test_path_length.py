"""The path-length penalty against an explicit Jacobian, and where training adds it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.autograd.functional import jacobian

from forger.errors import ConfigError
from forger.losses import Hinge, NonSaturating
from forger.networks import mlp
from forger.networks.stylegan2 import Discriminator, Generator
from forger.noise import Draws, normal
from forger.path_length import PathLength, path_lengths
from forger.seeds import Purpose
from forger.tasks import FromNoise

SHAPE = (2, 8, 8)
ROWS = 3


def make_task(**loss: float) -> FromNoise:
    torch.manual_seed(0)
    generator = Generator(SHAPE, 5, 4, mapping_layers=1, channel_base=16, channel_max=3)
    discriminator = Discriminator(SHAPE, channel_base=16, channel_max=3)
    for layer in generator.layers:
        torch.nn.init.ones_(layer.noise_strength)
    return FromNoise(generator.double(), discriminator.double(), NonSaturating(**loss))


def by_jacobian(generator: Generator, styles: Tensor, extra: Tensor, y: Tensor) -> Tensor:
    """The length of `J^T y` of each image, layer by layer, `J` with every pixel by every style."""
    lengths = []
    for style, noise, direction in zip(styles, extra, y / 8, strict=True):

        def image(at: Tensor, noise: Tensor = noise) -> Tensor:
            return generator.synthesize(at[None], noise[None])[0]

        each = jacobian(image, style)  # (C, H, W, layers, style_dim)
        moved = torch.einsum("chw,chwls->ls", direction, each)
        lengths.append((moved.norm(dim=1) ** 2).mean().sqrt())
    return torch.stack(lengths)


def test_lengths_are_those_of_the_jacobian() -> None:
    generator = make_task().generator
    extra = torch.randn(ROWS, generator.extra_noise).double()
    styles = generator.styles(torch.randn(ROWS, 5).double(), extra=extra)
    y = torch.randn(ROWS, *SHAPE).double()
    found = path_lengths(generator.synthesize(styles, extra), styles, y)
    torch.testing.assert_close(found, by_jacobian(generator, styles.detach(), extra, y))
    found.sum().backward()
    assert generator.constant.grad.any()  # it can be learned from


def test_the_mean_follows_the_lengths_and_the_term_keeps_them_near() -> None:
    penalty = PathLength(weight=2.0, interval=4, decay=0.25)
    lengths = torch.tensor([1.0, 3.0], requires_grad=True)
    term = penalty(lengths)  # a: 0 + 0.25 * 2
    assert penalty.mean.item() == 0.5
    assert term.item() == pytest.approx(2 * 4 * (0.5**2 + 2.5**2) / 2)
    term.backward()
    assert lengths.grad.tolist() == pytest.approx([2 * 4 * 0.5, 2 * 4 * 2.5])
    penalty(lengths)
    assert penalty.mean.item() == 0.5 + 0.25 * 1.5
    assert list(penalty.state_dict()) == ["mean"]


def terms_of(task: FromNoise, iteration: int) -> dict[str, Tensor]:
    draws = Draws(seed=3, dtype=torch.float64)
    draws.start(iteration)
    batch = {"image": torch.zeros(ROWS, *SHAPE).double()}
    return dict(task.generator_terms(batch, task.fakes(batch, draws), draws).added)


def test_training_adds_it_for_fresh_fakes_when_it_is_due() -> None:
    task = make_task(path_length=2.0, path_length_interval=3)
    assert terms_of(task, 4) == terms_of(task, 5) == {}
    (found,) = terms_of(task, 6).values()
    draws = Draws(seed=3, dtype=torch.float64)
    draws.start(6)
    count = task.generator.extra_noise
    for _ in range(2):  # the second ones
        noise = draws.rows(Purpose.TRAINING_NOISE, normal, ROWS, 5)
        extra = draws.rows(Purpose.GENERATOR_NOISE, normal, ROWS, count)
    y = draws.rows(Purpose.PENALTIES, normal, ROWS, *SHAPE)
    styles = task.generator.styles(noise, extra=extra).detach()
    lengths = by_jacobian(task.generator, styles, extra, y)
    mean = 0.01 * lengths.mean()
    assert found.item() == pytest.approx((2.0 * 3 * (lengths - mean).square().mean()).item())
    assert task.state_dict()["path_length.mean"].item() == pytest.approx(mean.item(), rel=1e-5)


def test_bfloat16_networks_are_penalised_in_float32() -> None:
    task = make_task(path_length=2.0)
    task.generator.bfloat16(), task.discriminator.bfloat16()
    draws = Draws(seed=3, dtype=torch.bfloat16)
    draws.start(4)
    batch = {"image": torch.zeros(ROWS, *SHAPE).bfloat16()}
    terms = task.generator_terms(batch, task.fakes(batch, draws), draws)
    term = terms.added["penalty_path_length"]
    assert term.dtype == torch.float32
    term.backward()
    assert task.generator.constant.grad.dtype == torch.bfloat16


def test_fakes_are_of_noise_that_only_the_seed_decides() -> None:
    task, batch = make_task(), {"image": torch.zeros(4, *SHAPE).double()}
    images = []
    for seed, iteration, global_noise in [(1, 1, 0), (1, 1, 5), (1, 2, 0), (2, 1, 0)]:
        torch.manual_seed(global_noise)
        draws = Draws(seed=seed, dtype=torch.float64)
        draws.start(iteration)
        images.append(task.fakes(batch, draws)["image"])
    assert torch.equal(images[0], images[1])
    assert not torch.allclose(images[0], images[2])
    assert not torch.allclose(images[0], images[3])
    draws.start(1)
    noise = draws.rows(Purpose.TRAINING_NOISE, normal, 4, 5)
    extra = draws.rows(Purpose.GENERATOR_NOISE, normal, 4, task.generator.extra_noise)
    assert torch.equal(task.generator(noise, extra=extra), images[3])
    assert not torch.allclose(task.generator(noise), images[3])  # fixed noise, no mixing


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: FromNoise(
                mlp.Generator(SHAPE), mlp.Discriminator(SHAPE), Hinge(path_length=2.0)
            ),
            r"loss\.path_length=2\.0: is for generators with styles; write model=stylegan2",
        ),
        (
            lambda: Hinge(path_length_interval=8),
            r"loss\.path_length_interval=8: is for loss\.path_length, off here",
        ),
        (lambda: Hinge(path_length=-1.0), r"loss\.path_length=-1\.0: must be a number of at least"),
    ],
)
def test_what_cannot_be_penalised_says_what_to_write(
    make: Callable[[], object], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        make()
