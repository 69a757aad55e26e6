"""ADA: each change against NumPy or SciPy, how often they happen, and its gradients."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from drawing import Known, draws, images_of
from scipy import ndimage
from scipy.spatial.transform import Rotation
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck

from forger.augment import ADA
from forger.augment.ada import drawn_blit, drawn_colors, drawn_geometry
from forger.augment.colors import recolor
from forger.augment.controller import Controller
from forger.augment.warping import doubled, rotation, scaling, shifting, warp
from forger.errors import ConfigError

BLIT: dict[str, Any] = {"geometry": 0.0, "color": 0.0}
HALFWAY = np.array([3, -25, 150, 150, -25, 3]) / 256


def twice(line: np.ndarray) -> np.ndarray:
    """A row of pixels with a value behind each, by convolution of the mirrored row."""
    padded = np.pad(line, (2, 3), mode="reflect")
    return np.stack([line, np.correlate(padded, HALFWAY, "valid")], axis=1).ravel()


def twice_both_ways(plane: np.ndarray) -> np.ndarray:
    return np.apply_along_axis(twice, 0, np.apply_along_axis(twice, 1, plane))


def number(value: float) -> Tensor:
    return torch.tensor([value])


def test_doubling_against_a_convolution() -> None:
    images = images_of(2, height=8, width=7)
    expected = [[twice_both_ways(plane) for plane in image] for image in images.numpy()]
    np.testing.assert_allclose(doubled(images).numpy(), np.array(expected), atol=1e-12)


def test_doubling_keeps_curves_of_the_fifth_degree() -> None:
    x = torch.linspace(-1, 1, 12, dtype=torch.float64)
    fine = torch.linspace(-1, 1 + 1 / 11, 24, dtype=torch.float64)
    found = doubled((x**5 - x**2).expand(1, 1, 12, 12))[0, 0, 0]
    torch.testing.assert_close(found[4:-6], (fine**5 - fine**2)[4:-6], atol=1e-12, rtol=0)


def test_warps_against_scipy() -> None:
    """Turned, stretched, moved far outside: read from the doubled image, as in a mirror."""
    images, known = images_of(2, rows=40), Known()
    maps = drawn_geometry(known, 40, (8, 6), 0.8)
    found = warp(images, maps)
    y, x = np.mgrid[:8, :6]
    for image, seen, inverse in zip(images.numpy(), found, maps.double().numpy(), strict=True):
        places = np.stack([x - 2.5, y - 3.5, np.ones((8, 6))])
        column, row, _ = np.tensordot(inverse, places, axes=1)
        coordinates = [2 * (row + 3.5), 2 * (column + 2.5)]
        for plane, own in zip(image, seen, strict=True):
            fine = twice_both_ways(plane)[:-1, :-1]  # from the first pixel to the last
            expected = ndimage.map_coordinates(fine, coordinates, order=1, mode="mirror")
            np.testing.assert_allclose(own.numpy(), expected, atol=1e-4)


def test_where_things_go() -> None:
    """The inverse of a map says from where; whole steps leave pixels as they are, in bits."""
    image, one, zero = images_of(3, rows=1, height=6), number(1.0), number(0.0)
    plain = image[0].numpy()
    turned = warp(image, rotation(zero, one))[0].numpy()  # each place shows what lies a turn on
    mirrored = warp(image, scaling(-one, one))[0].numpy()
    assert np.array_equal(turned, np.rot90(plain, axes=(1, 2)))
    assert np.array_equal(mirrored, plain[:, :, ::-1])
    moved = warp(image, shifting(-2 * one, one))[0].numpy()  # two to the right, one up
    padded = np.pad(plain, [(0, 0), (2, 2), (2, 2)], mode="reflect")
    assert np.array_equal(moved, padded[:, 3:9, 0:6])


def matrix(*rows: list[float]) -> np.ndarray:
    return np.array([*rows, [0, 0, 1]])


def turn(angle: float) -> np.ndarray:
    c, s = math.cos(angle), math.sin(angle)
    return matrix([c, -s, 0], [s, c, 0])


def stretch(x: float, y: float) -> np.ndarray:
    return matrix([x, 0, 0], [0, y, 0])


def move(x: float, y: float) -> np.ndarray:
    return matrix([1, 0, x], [0, 1, y])


def test_blits_against_numpy() -> None:
    known, p = Known(1), 0.7
    maps = drawn_blit(known, 300, (16, 24), p).numpy()
    for u, inverse in zip(known.u.double().numpy(), maps, strict=True):
        forward = stretch(-1 if u[0] < p and u[3] >= 0.5 else 1, 1)
        forward = turn(-math.pi / 2 * math.floor(4 * u[4]) * (u[1] < p)) @ forward
        x, y = (np.round((2 * u[5] - 1) * 3), np.round((2 * u[6] - 1) * 2)) if u[2] < p else (0, 0)
        forward = move(x, y) @ forward
        np.testing.assert_allclose(inverse, np.linalg.inv(forward), atol=1e-6)
        assert np.array_equal(inverse, inverse.round())


def test_geometry_against_numpy() -> None:
    known, p = Known(2), 0.6
    maps = drawn_geometry(known, 300, (16, 24), p).numpy()
    often = 1 - math.sqrt(1 - p)
    pairs = zip(known.u.double().numpy(), known.bell.double().numpy(), maps, strict=True)
    for u, bell, inverse in pairs:
        scale, ratio = (2 ** (0.2 * bell[i]) if u[i] < p else 1 for i in (0, 1))
        before, after = ((2 * u[i + 2] - 1) * math.pi if u[i] < often else 0 for i in (2, 3))
        x, y = (bell[2] * 3, bell[3] * 2) if u[6] < p else (0, 0)
        forward = stretch(ratio, 1 / ratio) @ turn(-before) @ stretch(scale, scale)
        forward = move(x, y) @ turn(-after) @ forward
        np.testing.assert_allclose(inverse, np.linalg.inv(forward), atol=1e-4)


@pytest.mark.parametrize("channels", [1, 2, 3])
def test_colors_against_numpy(channels: int) -> None:
    """Pixel by pixel; grey ones have no hue and no saturation, two channels no hue."""
    known, p = Known(3), 0.6
    images = images_of(channels, rows=60, height=2, width=2)
    found = recolor(images, drawn_colors(known, 60, channels, p)).numpy()
    axis = np.ones(channels) / math.sqrt(channels)
    drawn = zip(known.u.double().numpy(), known.bell.double().numpy(), strict=True)
    for image, seen, (u, bell) in zip(images.numpy(), found, drawn, strict=True):
        pixels = (colors.reshape(channels, -1).T for colors in (image, seen))
        for pixel, own in zip(*pixels, strict=True):
            color = pixel + (0.2 * bell[0] if u[0] < p else 0)
            color = color * (2 ** (0.5 * bell[1]) if u[1] < p else 1)
            if u[2] < p and u[5] >= 0.5:
                color = color - 2 * axis * (axis @ color)
            if channels == 3 and u[3] < p:
                color = Rotation.from_rotvec(axis * (2 * u[6] - 1) * math.pi).apply(color)
            if channels > 1 and u[4] < p:
                grey = axis * (axis @ color)
                color = grey + (color - grey) * 2 ** bell[2]
            np.testing.assert_allclose(own, color, atol=1e-5)


def test_the_hole_is_half_of_each_side_and_anywhere() -> None:
    images = torch.ones(4000, 1, 8, 16)
    seen = ADA(0.4, blit=0, geometry=0, color=0, cutout=0.5, fill=-1)(images, draws())
    holes = (seen == -1).flatten(1).sum(1)
    hit = holes > 0
    assert hit.double().mean().item() == pytest.approx(0.2, abs=0.03)
    assert holes.max() == 4 * 8
    often = (seen[hit] == -1).double().mean((0, 1))
    assert often[4, 8].item() == pytest.approx(1 / 4, abs=0.05)
    assert often[0, 0].item() == pytest.approx(5 / 16 * 9 / 32, abs=0.03)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("channels", [1, 3])
def test_at_p_0_images_stay_as_they_are_in_bits(channels: int, dtype: torch.dtype) -> None:
    """By a fixed p, a factor of 0, and a controller that has not begun."""
    images = images_of(channels, height=9).to(dtype)
    assert ADA(0.0, cutout=1)(images, None) is images  # type: ignore[arg-type]
    assert ADA(0.7, cutout=1)(images, None, factor=0.0) is images  # type: ignore[arg-type]
    seen = ADA(cutout=1)(images, draws())
    assert torch.equal(seen, images)
    assert seen.dtype == dtype


def test_blits_only_place_pixels_elsewhere() -> None:
    images = torch.randperm(64, generator=torch.Generator().manual_seed(0)).view(1, 1, 8, 8)
    seen = ADA(1.0, **BLIT)(images.float().expand(200, -1, -1, -1), draws())
    assert torch.equal(seen, seen.round())
    assert len(seen.flatten(1).unique(dim=0)) > 50


def test_each_group_happens_as_often_as_p_says() -> None:
    """With 0.2: nothing of n independent changes happens with 0.8^n; both turns count as one."""
    images = images_of(3, rows=6000, height=4, width=4).float()
    for group, changes in (("geometry", 4), ("color", 5)):
        off = {name: 0.0 for name in ("blit", "geometry", "color") if name != group}
        seen = ADA(0.4, **{group: 0.5}, **off)(images, draws())  # type: ignore[arg-type]
        same = (seen == images).flatten(1).all(1).double().mean().item()
        # of five color changes one does nothing in half the cases
        expected = 0.8**changes if group == "geometry" else 0.8**4 * 0.9
        assert same == pytest.approx(expected, abs=0.03)
    seen = ADA(0.2)(images, draws(), factor=0.0)
    assert torch.equal(seen, images)


@pytest.mark.parametrize("groups", [BLIT, {"blit": 0.0, "color": 0.0}, {"cutout": 1.0}])
def test_gradients_and_those_of_gradients(groups: dict[str, float]) -> None:
    augment = ADA(0.8, **groups)  # type: ignore[arg-type]
    images = images_of(3, rows=2, height=4, width=4).requires_grad_()

    def seen(given: Tensor) -> Tensor:
        out: Tensor = augment(given, draws())
        return out

    assert gradcheck(seen, images)
    assert gradgradcheck(lambda given: seen(given).square(), images)


def test_two_processes_change_their_rows_as_one_does() -> None:
    images, augment = images_of(3, rows=8).float(), ADA(0.8, cutout=1)
    whole = augment(images, draws(3))
    for rank in range(2):
        share = augment(images[rank::2], draws(3, rank=rank, world_size=2))
        torch.testing.assert_close(share, whole[rank::2])


def test_the_controller_follows_the_rule() -> None:
    """Every 4 updates of 50 images p moves by 200 / 1,000, or less where it ends."""
    controller, boundary = Controller(target=0.6, interval=4, ramp_images=1000), -1.0
    sure = torch.full((50,), -0.5)
    even = torch.cat([torch.zeros(40), torch.full((10,), -2.0)])  # E sign = 0.6
    lost = torch.cat([torch.zeros(39), torch.full((11,), -2.0)])
    found = []
    for logits, updates in ((sure, 3), (sure, 1), (even, 4), (lost, 4), (lost, 4), (sure, 24)):
        for _ in range(updates):
            controller.see(logits, boundary)
            controller.adapt()
        found.append(controller.p.item())
    assert found == pytest.approx([0, 0.2, 0.2, 0, 0, 1])


def test_the_controller_counts_images_of_all_batches_of_an_update_and_signs_of_all_parts() -> None:
    controller = Controller(target=0.5, interval=1, ramp_images=100)
    maps = torch.ones(4, 3)
    maps[0] = -1  # E sign = 0.5
    controller.see(maps, 0.0)
    controller.see(torch.ones(6), 0.0)
    controller.adapt()
    assert controller.p.item() == pytest.approx(0.1)
    controller.see(-torch.ones(4, 3), 0.0)
    controller.adapt()
    assert controller.p.item() == pytest.approx(0.06)


def test_the_controller_loses_nothing_in_16_bits_and_in_a_checkpoint() -> None:
    one, other = (ADA(interval=2, ramp_images=10_000).bfloat16() for _ in range(2))
    assert one.controller is not None
    assert other.controller is not None
    for _ in range(7):
        one.see(torch.ones(1), 0.0)
        one.adapt()
    assert one.controller.p.item() == pytest.approx(6e-4)
    other.load_state_dict(one.state_dict())
    for augment in (one, other):
        augment.see(torch.ones(1), 0.0)
        augment.adapt()
    assert one.controller.p.item() == other.controller.p.item() == pytest.approx(8e-4)
    logged = one.logged(1.0, torch.device("cpu"))["augment_p"]
    assert logged.item() == pytest.approx(8e-4)
    assert ADA(0.5).logged(0.5, torch.device("cpu"))["augment_p"].item() == 0.25


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"p": 1.2}, r"augment\.p=1\.2: must be a number from 0 to 1"),
        ({"color": -1.0}, r"augment\.color=-1\.0: must be a number from 0 to 1"),
        ({"interval": 0}, r"augment\.interval=0: must be a whole number of at least 1"),
        ({"blit": 0, "geometry": 0, "color": 0}, "blit, geometry, color, cutout are all 0, which"),
    ],
)
def test_what_is_refused(settings: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        ADA(**settings)
