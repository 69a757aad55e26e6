"""Sizes that a network takes, and images that are made to have them."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn.functional import pad

from forger.networks import resnet_translator, unet
from forger.sampling.any_size import fitting_sides, reflected


@pytest.mark.parametrize(
    ("sides", "fitting"), [((8, 12), (8, 12)), ((9, 3), (12, 8)), ((1, 31), (8, 32))]
)
def test_a_network_or_a_part_of_it_tells_which_sides_it_takes(
    sides: tuple[int, int], fitting: tuple[int, int]
) -> None:
    shape = (1, 8, 8)
    network = resnet_translator.Generator(shape, shape, width=2, blocks=1)
    assert fitting_sides(nn.Sequential(network), *sides) == fitting
    assert fitting_sides(nn.Identity(), *sides) == sides


def test_a_u_net_takes_any_sides_but_smaller_ones() -> None:
    network = unet.Generator((1, 16, 16), (1, 16, 16), width=2, downs=3)
    assert fitting_sides(network, 7, 21) == (8, 21)
    assert network(torch.zeros(1, 1, 8, 21)).shape == (1, 1, 8, 21)


def test_images_go_on_as_in_a_mirror_however_far() -> None:
    images = torch.rand(2, 3, 5, 4)
    assert torch.equal(reflected(images, 8, 6), pad(images, (0, 2, 0, 3), mode="reflect"))
    assert torch.equal(reflected(images, 5, 4), images)
    row = torch.arange(3.0).view(1, 1, 1, 3)
    assert reflected(row, 1, 8).flatten().tolist() == [0, 1, 2, 1, 0, 1, 2, 1]
    assert reflected(row[..., :1], 2, 3).flatten().tolist() == [0] * 6
