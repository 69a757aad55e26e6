"""The network of the classifier extractor. Owns its layers, not its training."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from forger.metrics.extractor import Features

VERSION = 1  # raise when the same weights would give other features
NUM_FEATURES = 128
_SMALLEST = 4  # pixels: stages halve the map until it is no larger
_LARGE = 64  # pixels: a larger map is halved by its convolution, to bound memory and time


class ClassifierNetwork(nn.Module):
    """Convolutions that halve the map down to 4 x 4 pixels or less, then 128 features, then logits.

    Each stage is a 3 x 3 convolution, a 2 x 2 maximum, BatchNorm and ReLU. BatchNorm comes after
    the maximum, where it has a quarter of the work and gives the same kind of function. The last
    three stages have `width`, 2 `width` and 4 `width` channels, earlier ones `width`.

    Args:
        image_shape: `(C, H, W)`.
        num_classes: K.
        width: channels of the third stage from the end.
    """

    def __init__(self, image_shape: tuple[int, int, int], num_classes: int, width: int) -> None:
        super().__init__()
        channels, *sides = image_shape
        # The mean and deviation of all training pixels: zero padding then has the mean colour.
        layers: list[nn.Module] = [nn.BatchNorm2d(channels, affine=False, momentum=None)]
        plan = _plan((sides[0], sides[1]))
        for number, stage in enumerate(plan):
            out = width * 2 ** max(0, number + 3 - len(plan))
            layers += _layers(channels, out, stage)
            channels, sides = out, list(stage.sides)
        self.stages = nn.Sequential(*layers)
        self.hidden = nn.Linear(channels * sides[0] * sides[1], NUM_FEATURES)
        self.output = nn.Linear(NUM_FEATURES, num_classes)
        self.to(memory_format=torch.channels_last)  # twice as fast on a CPU

    def forward(self, images: Tensor) -> Features:
        """Sees uint8 `(B, C, H, W)` as features `(B, 128)`, none negative, and logits `(B, K)`."""
        pixels = images.to(torch.float32, memory_format=torch.channels_last)
        features = torch.relu(self.hidden(self.stages(pixels).flatten(1)))
        return Features(features, self.output(features))


class _Stage(NamedTuple):
    """How a stage makes the map smaller."""

    steps: tuple[int, int]  # by what each side is divided
    strided: bool  # by the convolution itself
    sides: tuple[int, int]  # of the map that it returns


def _plan(sides: tuple[int, int]) -> list[_Stage]:
    plan = []
    while max(sides) > _SMALLEST:
        strided = max(sides) > _LARGE
        rows, columns = (2 if side > _SMALLEST else 1 for side in sides)
        up = (rows - 1, columns - 1) if strided else (0, 0)  # a stride keeps the odd last row
        sides = ((sides[0] + up[0]) // rows, (sides[1] + up[1]) // columns)
        plan.append(_Stage((rows, columns), strided, sides))
    return plan


def _layers(channels: int, out: int, stage: _Stage) -> list[nn.Module]:
    stride = stage.steps if stage.strided else 1
    convolution = nn.Conv2d(channels, out, 3, stride=stride, padding=1, bias=False)
    maximum = [] if stage.strided else [nn.MaxPool2d(stage.steps)]
    return [convolution, *maximum, nn.BatchNorm2d(out), nn.ReLU(inplace=True)]
