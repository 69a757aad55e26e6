"""Doubling and halving maps through a filter, against sums written out."""

import numpy as np
import pytest
import torch
from scipy.signal import upfirdn

from forger.networks.resampling import (
    Downsample2x,
    Upsample2x,
    blur,
    downsample2x,
    fir_kernel,
    upsample2x,
)


def _along(axis: int, values: np.ndarray, taps: list[float], up: int, down: int, skip: int):
    """SciPy's own upsample, filter, downsample of one axis, without the first `skip` values."""
    filtered = upfirdn(taps, values, up=up, axis=axis)
    size = values.shape[axis] * up // down
    return filtered.take(range(skip, skip + size * down, down), axis)


@pytest.mark.parametrize("taps", [[1.0, 3, 3, 1], [1.0, 1], [1.0, 2, 5, 7, 4, 3]])
def test_both_are_scipys_up_fir_down(taps):
    images = np.random.default_rng(0).normal(size=(2, 3, 6, 6))
    kernel = fir_kernel(taps).double()
    unit, skip = np.array(taps) / sum(taps), len(taps) // 2 - 1
    doubled = images
    for axis in (2, 3):
        doubled = _along(axis, doubled, 2 * unit, up=2, down=1, skip=skip)
    np.testing.assert_allclose(upsample2x(torch.tensor(images), kernel), doubled, atol=1e-7)
    # A convolution layer slides its weight as it is; a filter is turned round.
    halved, skip = images, len(taps) // 2
    for axis in (2, 3):
        halved = _along(axis, halved, unit[::-1], up=1, down=2, skip=skip)
    np.testing.assert_allclose(downsample2x(torch.tensor(images), kernel), halved, atol=1e-7)


def test_a_single_pixel_spreads_by_the_products_of_1_3_3_1():
    image = torch.zeros(1, 1, 3, 3)
    image[0, 0, 1, 1] = 16.0
    row = torch.tensor([0.0, 1, 3, 3, 1, 0])
    assert torch.equal(Upsample2x()(image)[0, 0], torch.outer(row, row))


def test_a_flat_map_stays_flat_inside_and_halving_undoes_doubling_it():
    flat = torch.full((1, 2, 8, 8), 0.5)
    assert torch.allclose(Upsample2x()(flat)[..., 1:-1, 1:-1], torch.tensor(0.5))
    assert torch.allclose(Downsample2x()(Upsample2x()(flat))[..., 1:-1, 1:-1], torch.tensor(0.5))


def test_halving_is_the_transpose_of_doubling_divided_by_four():
    torch.manual_seed(0)
    small, large = torch.randn(1, 2, 5, 5).double(), torch.randn(1, 2, 10, 10).double()
    up, down = Upsample2x().double(), Downsample2x().double()
    assert torch.allclose((up(small) * large).sum(), 4 * (small * down(large)).sum())


@pytest.mark.parametrize("padding", [1, 2])
def test_a_blur_is_a_correlation_with_zeros_around(padding):
    images, kernel = np.random.default_rng(0).normal(size=(2, 3, 6, 6)), fir_kernel()
    found = blur(torch.tensor(images), kernel.double(), padding)
    around = np.pad(images, ((0, 0), (0, 0), (padding, padding), (padding, padding)))
    windows = np.lib.stride_tricks.sliding_window_view(around, (4, 4), (2, 3))
    np.testing.assert_allclose(found, (windows * kernel.numpy()).sum((4, 5)), atol=1e-6)


def test_filters_in_16_bits_and_under_autocast_are_those_in_32():
    images = torch.randn(2, 3, 8, 8)
    for module in (Upsample2x(), Downsample2x()):
        expected = module(images)
        with torch.autocast("cpu", torch.bfloat16):
            assert torch.equal(module(images), expected)
        short = images.bfloat16()
        assert torch.equal(module(short), module(short.float()).bfloat16())


def test_maps_keep_their_layout_and_their_precision():
    images = torch.randn(2, 4, 8, 8).to(torch.bfloat16, memory_format=torch.channels_last)
    for module in (Upsample2x(), Downsample2x()):
        resampled = module(images)
        assert resampled.dtype == torch.bfloat16
        assert resampled.is_contiguous(memory_format=torch.channels_last)
        assert not module.state_dict()
