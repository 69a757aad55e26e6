"""MNIST digits drawn in colours, with captions that say exactly what they look like."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from numpy.random import RandomState
from numpy.typing import NDArray
from torch import Tensor

from forger.data.captions import CaptionTable, PromptSet
from forger.data.digit_captions import (
    INKS,
    UNSEEN_WORDINGS,
    VALUES,
    captions_of,
    draw_attributes,
)
from forger.data.measured_digits import measure, values_of, width_slant_place
from forger.data.module import Split
from forger.data.sample import MNISTSample
from forger.data.strokes import distances, thin
from forger.data.torchvision_sets import MNIST

SIDE = 32  # pixels
WIDTHS = (1.9, 3.1, 4.7)  # pixels, of thin, medium and thick strokes
SLANTS = (-0.4, 0.0, 0.4)  # pixels to the right for each one up
PLACES = ((-3.5, 0.0), (0.0, 0.0), (3.5, 0.0), (0.0, -3.5), (0.0, 3.5))  # pixels right and down
_SEEDS: dict[Split, int] = {"train": 0, "test": 1}  # of what is drawn, whatever the run's
_SCALE = 0.85  # of digits, which then stay inside wherever they stand
_INK = 100  # of 255: what is brighter is ink
_TRIES = 4  # drawings of a digit until its measures are right
_COLOUR, _WIDTH, _SLANT, _PLACE = 10.0, 0.1, 0.05, 0.5  # how far each varies, to both sides
_CHUNK = 2000  # images drawn at a time
_PROMPTS = 5000  # in each set


class DrawnDigits:
    """Draws the digits of a data set in colours, `(3, 32, 32)`, with four captions each.

    A digit is thinned to its lines and drawn anew: in one of 8 inks on one of 7 other grounds, in
    strokes of about 1.9, 3.1 or 4.7 pixels, with a slant of about -0.4, 0 or 0.4, and with its
    centre of mass about in the middle or 3.5 pixels to a side. It is the same in every run. The
    captions tell all of this in four wordings with synonyms, and `measure` finds it in the image.

    Of each digit one ground in seven never occurs with an ink, neither in training nor in held-out
    images: `prompt_sets` has captions of these, too.
    """

    native_shape = (3, SIDE, SIDE)
    measured: ClassVar[tuple[str, ...]] = tuple(VALUES)[1:]  # the digit is read by a classifier
    together: ClassVar[dict[str, tuple[str, ...]]] = {
        "colours": ("ink", "ground"),
        "class_and_colours": ("class", "ink", "ground"),
    }

    def draw(self, members: Mapping[str, Tensor], split: Split) -> dict[str, Tensor]:
        """Returns the members of a split with its digits drawn anew."""
        labels, random = members["label"], RandomState(_SEEDS[split])
        asked = draw_attributes(labels.numpy(), random, unseen=False)
        images, looks = draw_digits(members["image"], asked, random)
        captions = self.captions.add(captions_of(looks, random))
        attributes = torch.from_numpy(looks)
        return {
            "image": images,
            "label": labels,
            "caption": captions,
            "attributes": attributes,
        }

    @cached_property
    def captions(self) -> CaptionTable:
        """All captions."""
        return CaptionTable()

    @cached_property
    def prompt_sets(self) -> dict[str, PromptSet]:
        """Captions to generate images of, 5,000 each, and which attributes these should have.

        `seen` are of combinations and wordings that training has, `unseen` of combinations of digit
        and colours that it has not, `reworded` of seen ones in wordings that it has not.
        """
        return {
            "seen": _prompts(2, unseen=False),
            "unseen": _prompts(3, unseen=True),
            "reworded": _prompts(4, unseen=False, wordings=UNSEEN_WORDINGS),
        }

    def measure(self, images: Tensor) -> Tensor:
        """Measures the attributes of images, uint8 `(N, 3, H, W)`: numbers of values, `(N, 5)`."""
        return measure(images)


class CaptionedMNIST(DrawnDigits, MNIST):
    """MNIST, drawn in colours and with captions, see `DrawnDigits`.

    Arguments and errors: see `MNIST`.
    """

    min_accuracy = 0.93

    def read(self, split: Split) -> dict[str, Tensor]:
        """Reads the digits of one split, and draws them."""
        return self.draw(super().read(split), split)

    @property
    def test_attributes(self) -> Tensor:
        """What the held-out images look like, int64 `(M, 6)`."""
        return self._split("test")["attributes"]


class CaptionedSample(DrawnDigits, MNISTSample):
    """The 5,000 digits of `data=mnist_sample`, drawn in colours and with captions.

    See `DrawnDigits`. Arguments and errors: see `MNISTSample`.
    """

    min_accuracy = 0.7

    def read(self, split: Split) -> dict[str, Tensor]:
        """Reads the digits of one split, and draws them."""
        return self.draw(super().read(split), split)

    @property
    def test_attributes(self) -> Tensor:
        """What the held-out images look like, int64 `(M, 6)`."""
        return self._split("test")["attributes"]


def draw_digits(
    digits: Tensor, looks: NDArray[np.int64], random: RandomState
) -> tuple[Tensor, NDArray[np.int64]]:
    """Draws digits, uint8 `(N, 1, H, W)`, as attributes say, `(N, 6)`.

    Returns:
        images, uint8 `(N, 3, 32, 32)`, and attributes: in a few images, which cannot be what was
        asked, those that are measured.
    """
    ink, ground, *shapes = torch.from_numpy(looks[:, 1:].copy()).unbind(1)
    varied = torch.from_numpy(random.uniform(-1, 1, (len(digits), 10))).float()
    palette = torch.tensor(list(INKS.values())).float()
    bare, inked = (
        (palette[one] + _COLOUR * of_it).clamp_(0, 255)[:, :, None, None]
        for one, of_it in zip((ground, ink), varied[:, 4:].view(-1, 2, 3).unbind(1), strict=True)
    )
    middle = torch.tensor([*zip(WIDTHS, SLANTS, strict=True)])
    wanted = torch.stack((middle[shapes[0], 0], middle[shapes[1], 1]), 1)
    wanted = torch.cat((wanted, torch.tensor(PLACES)[shapes[2]]), 1)
    wanted *= 1 + torch.tensor([_WIDTH, 0, 0, 0]) * varied[:, :1]
    wanted += torch.tensor([0, _SLANT, _PLACE, _PLACE]) * varied[:, :4]
    images, found = torch.empty(len(digits), 3, SIDE, SIDE, dtype=torch.uint8), looks.copy()
    for rows in torch.split(torch.arange(len(digits)), _CHUNK):
        asked = torch.stack(shapes, 1)[rows]
        cover, shown = _strokes(digits[rows].float(), wanted[rows], asked)
        drawn = torch.lerp(bare[rows], inked[rows], cover.unsqueeze(1))
        images[rows] = drawn.round_().to(torch.uint8)
        found[rows, 3:] = shown
    return images, found


def _strokes(digits: Tensor, wanted: Tensor, asked: Tensor) -> tuple[Tensor, Tensor]:
    """Draws strokes until what is measured is what was asked, or goes on in a few tries.

    Args:
        digits: `(N, 1, H, W)`.
        wanted: width, slant, and place right and down, `(N, 4)`.
        asked: what they mean, numbers of values, `(N, 3)`.

    Returns:
        how much ink covers each pixel, `(N, 32, 32)`, and what is measured, `(N, 3)`.
    """
    aims, left = wanted.clone(), torch.arange(len(digits))
    cover, shown = torch.empty(len(digits), SIDE, SIDE), torch.empty_like(asked)
    for _ in range(_TRIES):
        width, lean, *centre = aims[left].unbind(1)
        lines = thin(_moved(digits[left], lean, torch.stack(centre, 1)) > _INK)
        cover[left] = (width[:, None, None] / 2 - distances(lines) + 0.5).clamp_(0, 1)
        found = torch.stack(width_slant_place(cover[left]), 1)
        shown[left] = values_of(found)
        aims[left] += wanted[left] - found
        left = left[(shown[left] != asked[left]).any(1)]
    return cover, shown


def _moved(digits: Tensor, lean: Tensor, centre: Tensor) -> Tensor:
    """Moves the centre of mass of digits, and changes their slant, `(N, 32, 32)`."""
    height, width = digits.shape[2:]
    down = torch.arange(height, dtype=torch.float32).view(1, 1, -1, 1)
    right = torch.arange(width, dtype=torch.float32)
    mass = digits.sum((1, 2, 3)).clamp(min=1)
    y, x = ((digits * one).sum((1, 2, 3)) / mass for one in (down, right))
    dy, dx = down - y.view(-1, 1, 1, 1), right - x.view(-1, 1, 1, 1)
    moments = ((digits * dy * dx).sum((1, 2, 3)), (digits * dy * dy).sum((1, 2, 3)).clamp(min=1))
    shear = moments[0] / moments[1] + lean  # pixels to the right for each one down
    # From places in the new image, whose middle is 0, to those in the old one.
    steps = torch.arange(SIDE, dtype=torch.float32) - (SIDE - 1) / 2
    new_x, new_y = (steps - one.view(-1, 1) for one in centre.unbind(1))
    from_y = new_y / _SCALE + y.view(-1, 1)
    from_x = (new_x.unsqueeze(1) + shear.view(-1, 1, 1) * new_y.unsqueeze(2)) / _SCALE
    from_x = from_x + x.view(-1, 1, 1)
    grid = torch.stack((from_x, from_y.unsqueeze(2).expand_as(from_x)), 3)
    scaled = (2 * grid + 1) / torch.tensor([width, height]) - 1
    return F.grid_sample(digits, scaled, align_corners=False)[:, 0]


def _prompts(seed: int, *, unseen: bool, wordings: Sequence[str] | None = None) -> PromptSet:
    random = RandomState(seed)
    labels = np.arange(_PROMPTS) % len(VALUES["digit"])
    looks = draw_attributes(labels, random, unseen)
    worded = captions_of(looks, random, *(() if wordings is None else (wordings,)))
    chosen = random.randint(len(worded[0]), size=len(worded)).tolist()
    captions = [of_one[number] for of_one, number in zip(worded, chosen, strict=True)]
    return PromptSet(tuple(captions), torch.from_numpy(looks))
