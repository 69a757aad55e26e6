"""Digits to be made like those of MNIST: printed ones, and small ones of scikit-learn."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from numpy.random import RandomState
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from forger.data.members import resize
from forger.data.module import Split
from forger.data.torchvision_sets import MNIST

_FONTS = (
    *("DejaVuSans", "DejaVuSans-Bold", "DejaVuSans-Oblique", "DejaVuSans-BoldOblique"),
    *("DejaVuSansMono", "DejaVuSansMono-Bold", "DejaVuSansMono-Oblique"),
    *("DejaVuSerif", "DejaVuSerif-Bold", "DejaVuSerif-Italic", "DejaVuSerif-BoldItalic"),
    *("STIXGeneral", "STIXGeneralBol", "STIXGeneralItalic", "STIXGeneralBolIta"),
    *("cmr10", "cmb10", "cmss10", "cmti10", "cmtt10"),
)
_LARGE = 56  # pixels, side of glyphs; halved, which smooths the digits
_POINTS = 54  # of the font: digits come out as high as MNIST's, 20 of 28 pixels
_STROKES = (0, 1, 2)  # pixels around the glyph, which make it thicker
_COUNTS: dict[Split, int] = {"train": 20_000, "test": 10_000}  # of rendered digits
_SEEDS: dict[Split, int] = {"train": 0, "test": 1}  # of the variations, whatever the run's
_TEST_EVERY = 6  # of scikit-learn's 1,797 digits this holds out 299


class RenderedDigits(MNIST):
    """MNIST digits, and as sources without pairs digits rendered from the fonts of matplotlib.

    They are 20,000 for training and 10,000 held out, white on black: each of a random font, size,
    place, slant and thickness, the same in every run. Sources and images have labels. Arguments
    and errors: see `MNIST`.
    """

    paired: ClassVar[bool] = False
    native_source_shape = (1, 28, 28)

    def read(self, split: Split) -> dict[str, Tensor]:
        """Reads MNIST's digits of one split, and draws the others."""
        sources, labels = render_digits(_COUNTS[split], _SEEDS[split])
        return super().read(split) | {"source": sources, "source_label": labels}


class DigitsToMNIST(MNIST):
    """MNIST digits, and as sources without pairs the 1,797 digits of 8x8 pixels of scikit-learn.

    They are enlarged to the 20 pixels that MNIST's digits take of 28; each sixth is held out.
    Alpaydin and Kaynak (1998). Sources and images have labels. Arguments and errors: see `MNIST`.
    """

    paired: ClassVar[bool] = False
    native_source_shape = (1, 28, 28)

    def read(self, split: Split) -> dict[str, Tensor]:
        """Reads the digits of both kinds of one split."""
        from sklearn.datasets import load_digits  # takes a second

        found = load_digits()
        held_out = np.arange(len(found.target)) % _TEST_EVERY == _TEST_EVERY - 1
        chosen = held_out if split == "test" else ~held_out
        pixels = np.rint(found.images[chosen] * (255 / 16)).astype(np.uint8)
        sources = F.pad(resize(torch.from_numpy(pixels).unsqueeze(1), 20), (4, 4, 4, 4))
        labels = torch.from_numpy(found.target[chosen].astype(np.int64))
        return super().read(split) | {"source": sources, "source_label": labels}


def render_digits(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Renders digits, white on black.

    Returns:
        uint8 `(count, 1, 28, 28)`, and their labels, int64 `(count,)`.
    """
    # RandomState: its numbers are promised to stay the same in all versions of NumPy.
    random, glyphs = RandomState(seed), _glyphs()
    labels, kinds = random.randint(10, size=count), random.randint(len(glyphs), size=count)
    drawn = [
        glyphs[kind][label]
        .transform(2 * (_LARGE,), Image.Transform.AFFINE, back, Image.Resampling.BILINEAR)
        .reduce(2)
        for label, kind, back in zip(labels, kinds, _random_transforms(random, count), strict=True)
    ]
    images = torch.from_numpy(np.stack([np.asarray(one) for one in drawn])).unsqueeze(1)
    return images, torch.from_numpy(labels.astype(np.int64))


def _random_transforms(random: RandomState, count: int) -> list[tuple[float, ...]]:
    """Draws sizes, slants and places, each as Pillow has it: the way back to the glyph."""
    width, height = random.uniform(0.75, 1.15, (2, count))
    slant = random.uniform(-0.3, 0.5, count) / width  # to the right, as people write
    right, down = random.uniform(-3, 3, (2, count)) + _LARGE / 2  # where the centre goes
    to_left = _LARGE / 2 - right / width - down * slant
    up, zero = _LARGE / 2 - down / height, np.zeros(count)
    rows = np.stack((1 / width, slant, to_left, zero, 1 / height, up), axis=1)
    return [tuple(row) for row in rows.tolist()]


def _glyphs() -> list[list[Image.Image]]:
    """Draws the ten digits in each font and thickness, centred."""
    from matplotlib import get_data_path  # imported where it is used, since it takes a while

    folder = Path(get_data_path(), "fonts", "ttf")
    fonts = [ImageFont.truetype(folder / f"{name}.ttf", _POINTS) for name in _FONTS]
    return [
        [_glyph(font, d, stroke) for d in "0123456789"] for font in fonts for stroke in _STROKES
    ]


def _glyph(font: ImageFont.FreeTypeFont, digit: str, stroke: int) -> Image.Image:
    left, top, right, bottom = font.getbbox(digit, stroke_width=stroke)
    image = Image.new("L", (_LARGE, _LARGE))
    place = ((_LARGE - left - right) / 2, (_LARGE - top - bottom) / 2)
    ImageDraw.Draw(image).text(place, digit, fill=255, font=font, stroke_width=stroke)
    return image
