"""DiffAugment: each change against NumPy or SciPy, what it draws, and its gradients."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from drawing import draws, images_of
from scipy import ndimage
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck

from forger.augment import Augment, DiffAugment
from forger.augment.diffaugment import centre, recolor, translate, whole_shift
from forger.augment.regions import cut_out
from forger.errors import ConfigError

POLICIES: tuple[Any, ...] = ("color", "translation", "cutout")


@pytest.mark.parametrize("channels", [1, 3])
def test_color_against_numpy(channels: int) -> None:
    images = images_of(channels)
    amounts = torch.rand(3, len(images), generator=torch.Generator().manual_seed(2)).double()
    found = recolor(images, amounts[0] - 0.5, amounts[1] * 2, amounts[2] + 0.5)
    for image, seen, (b, s, c) in zip(images.numpy(), found, amounts.numpy().T, strict=True):
        expected = image + (b - 0.5)
        grey = expected.mean(axis=0)
        expected = np.stack([(plane - grey) * (2 * s) + grey for plane in expected])
        expected = (expected - expected.mean()) * (c + 0.5) + expected.mean()
        np.testing.assert_allclose(seen.numpy(), expected, atol=1e-12)


@pytest.mark.parametrize("fill", [0.0, -1.0])
def test_translation_against_scipy(fill: float) -> None:
    images = images_of(3)
    down, right = torch.tensor([0, 1, -1, 3, -8, 20]), torch.tensor([0, -2, 1, 0, 0, -6])
    found = translate(images, down, right, fill)
    for image, seen, d, r in zip(images, found, down.tolist(), right.tolist(), strict=True):
        expected = ndimage.shift(image.numpy(), (0, d, r), order=0, cval=fill)
        assert np.array_equal(seen.numpy(), expected)


@pytest.mark.parametrize("size", [(4, 3), (3, 2)])
def test_the_hole_pixel_by_pixel(size: tuple[int, int]) -> None:
    """All places of its centre: it is cut where it reaches over an edge, and never vanishes."""
    height, width = 8, 6
    for v in np.arange(0.01, 1, 0.06):
        u = torch.full((1,), float(v))
        row, column = centre(u, height, size[0]), centre(1 - u, width, size[1])
        found = cut_out(torch.ones(1, 1, height, width), row, column, size, -0.5)[0, 0]
        top, left = (
            int(at.item() - length / 2) for at, length in zip((row, column), size, strict=True)
        )
        expected = np.ones((height, width))
        expected[max(top, 0) : top + size[0], max(left, 0) : left + size[1]] = -0.5
        assert np.array_equal(found.numpy(), expected)
        assert (found == -0.5).any()


def test_shifts_and_holes_are_drawn_as_in_the_paper() -> None:
    """Whole pixels from -4 to 4 at 32, and centres from edge to edge, all equally often."""
    u = torch.rand(200_000, generator=torch.Generator().manual_seed(0))
    for values, expected in (
        (whole_shift(u, 32).double(), torch.arange(-4.0, 5)),
        (centre(u, 32, 16).double(), torch.arange(33.0)),
        (centre(u, 7, 3).double(), torch.arange(7.0) + 0.5),
    ):
        found, counts = values.unique(return_counts=True)
        assert torch.equal(found, expected.double())
        assert counts.max() / counts.min() < 1.15


def test_what_is_drawn_has_the_ranges_of_the_paper() -> None:
    """By images whose pixels tell: of a grey one the brightness, of a striped one the rest."""
    rows, augment = draws(), DiffAugment(["color"])
    found = augment(torch.zeros(5000, 3, 2, 2), rows)
    brightness = found[:, 0, 0, 0]
    assert torch.allclose(found, brightness[:, None, None, None], atol=1e-6)
    assert brightness.min() < -0.49
    assert brightness.max() > 0.49
    assert brightness.abs().max() <= 0.5
    striped = torch.zeros(5000, 1, 2, 2)
    striped[..., 0], striped[..., 1] = -1, 1
    contrast = augment(striped, rows).diff(dim=3)[:, 0, 0, 0] / 2
    assert 0.5 <= contrast.min() < 0.51
    assert 1.49 < contrast.max() <= 1.5
    red = torch.zeros(5000, 3, 1, 1)
    red[:, 0] = 1
    seen = augment(red, rows)  # of one color, so that contrast scales what saturation does
    product = seen[:, 0, 0, 0] - seen[:, 1, 0, 0]
    assert product.min() < 0.05
    assert 2.5 < product.max() <= 3
    assert product.mean().item() == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize("policy", [*POLICIES, None])
def test_gradients_and_those_of_gradients(policy: str | None) -> None:
    augment = DiffAugment([policy] if policy else POLICIES)  # type: ignore[list-item]
    images = images_of(3, rows=2, height=4, width=4).requires_grad_()

    def seen(given: Tensor) -> Tensor:
        out: Tensor = augment(given, draws())
        return out

    assert gradcheck(seen, images)
    assert gradgradcheck(lambda given: seen(given).square(), images)


def test_each_image_is_changed_by_numbers_of_its_own_and_those_of_its_process() -> None:
    """Rows of a batch that two processes share are changed as one process changes them."""
    images, augment = images_of(3, rows=8).float(), DiffAugment()
    whole = augment(images, draws(3))
    assert len({tuple(image.flatten().tolist()) for image in augment(images[:1], draws())}) == 1
    same = augment(images[:1].expand(8, -1, -1, -1), draws(3))
    assert len(same.flatten(1).unique(dim=0)) == 8
    for rank in range(2):
        share = augment(images[rank::2], draws(3, rank=rank, world_size=2))
        assert torch.equal(share, whole[rank::2])


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_types_stay(dtype: torch.dtype) -> None:
    for augment in (Augment(), DiffAugment()):
        assert augment(images_of(3).to(dtype), draws()).dtype == dtype


def test_no_augmentation_draws_nothing_and_gives_what_it_was_given() -> None:
    images = images_of(1)
    assert Augment()(images, None) is images  # type: ignore[arg-type]
    assert not Augment().state_dict()
    assert Augment().describe() == ""


@pytest.mark.parametrize("policy", [[], ["colour"], ["color", "color"]])
def test_policies_that_are_none(policy: list[Any]) -> None:
    told = r"augment\.policy=.*must name some of color, translation, cutout, each once; for none"
    with pytest.raises(ConfigError, match=told):
        DiffAugment(policy)


def test_a_fill_that_is_no_pixel() -> None:
    with pytest.raises(ConfigError, match=r"augment\.fill=2: must be a number from -1 to 1"):
        DiffAugment(fill=2)
