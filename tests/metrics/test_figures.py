"""The figures of an evaluation: what they show, read back from their pixels."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from forger.metrics import figures

WARNING = (193, 18, 31)  # red
EMPTY = (236, 236, 236)
RATES = {"d_tpr": 0.9, "d_fnr": 0.1, "d_fpr": 0.3, "d_tnr": 0.7}
RATES |= {key.replace("d_", "d_relative_"): value for key, value in RATES.items()}


def read(png: bytes) -> np.ndarray:
    """Decodes to `(height, width, 3)`."""
    image = Image.open(io.BytesIO(png))
    assert image.format == "PNG"
    assert not image.text  # no date, no program: the same bytes tomorrow
    return np.asarray(image.convert("RGB"))


def is_warned(png: bytes) -> bool:
    """Whether letters are red; thin ones mix with what is behind them."""
    return bool((np.abs(read(png).astype(int) - WARNING) < 40).all(-1).any())


def plain(shade: int, channels: int = 3, side: int = 32) -> Tensor:
    """An image of one shade that nothing else in a figure has."""
    return torch.full((channels, side, side), shade, dtype=torch.uint8)


def where(png: bytes, shade: int) -> tuple[int, int, int, int]:
    """Top, bottom, left and right of the square of a shade of grey; edges of letters are thin."""
    mask = (read(png) == shade).all(-1)
    rows = np.nonzero(mask.sum(1) >= 48)[0]
    columns = np.nonzero(mask[rows].sum(0) >= 48)[0]
    return rows.min(), rows.max() + 1, columns.min(), columns.max() + 1


def class_grid(predicted: list[int], classes: list[str], **settings: int) -> bytes:
    images = torch.stack([plain(20 + index, side=28) for index in range(len(predicted))])
    confidence = torch.full((len(predicted),), 0.75)
    return figures.class_grid(images, torch.tensor(predicted), confidence, classes, **settings)


def test_a_class_that_was_never_generated_is_marked() -> None:
    assert not is_warned(figures.class_histogram([0.25, 0.75], [0.5, 0.5], ["a", "b"]))
    assert is_warned(figures.class_histogram([1.0, 0.0], [0.5, 0.5], ["a", "b"]))


def test_shares_of_very_many_classes_stay_on_one_screen() -> None:
    names = [str(number) for number in range(1000)]
    picture = read(figures.class_histogram([0.002] * 500 + [0.0] * 500, [0.001] * 1000, names))
    assert max(picture.shape) < 1000


@pytest.mark.parametrize("boundary", [0.0, None])
def test_confusion_matrix_shades_each_cell_by_its_share(boundary: float | None) -> None:
    shade = read(figures.confusion_matrix(RATES, boundary)).astype(int).sum(-1)
    height, width = shade.shape
    cells = {
        (row, column): shade[int(y * height), int(x * width)]
        for row, y in (("real", 0.12), ("fake", 0.55))
        for column, x in (("called real", 0.25), ("called fake", 0.85))
    }
    assert sorted(cells, key=lambda cell: cells[cell]) == [
        ("real", "called real"),
        ("fake", "called fake"),
        ("fake", "called real"),
        ("real", "called fake"),
    ]


@pytest.mark.parametrize("channels", [1, 3])
def test_neighbours_stand_in_the_row_of_their_sample(channels: int) -> None:
    samples = torch.stack([plain(30, channels), plain(40, channels)])
    shades = [[31, 32, 33], [41, 42, 43]]
    neighbours = torch.stack([torch.stack([plain(s, channels) for s in row]) for row in shades])
    png = figures.nearest_neighbours(samples, neighbours, torch.rand(2, 3) * 100)
    for sample, row in ((30, shades[0]), (40, shades[1])):
        top, bottom, left, right = where(png, sample)
        assert (bottom - top, right - left) == (64, 64)  # enlarged by a whole factor, not blurred
        ends = [right]
        for shade in row:
            place = where(png, shade)
            assert place[:2] == (top, bottom)
            ends.append(place[2])
        gap, *between = np.diff(ends)
        assert gap > 24
        assert set(between) == {72}
    assert where(png, 40)[0] > where(png, 30)[1] + 12  # room for the distance


def test_class_grid_takes_the_first_of_each_class_in_order() -> None:
    png = class_grid([1, 0, 1, 1, 0, 1], ["cat", "dog", "owl"], per_class=3)
    cats, dogs = ([where(png, 20 + i) for i in members] for members in ((1, 4), (0, 2, 3)))
    for row in (cats, dogs):
        assert len({place[:2] for place in row}) == 1
        assert [place[2] for place in row] == sorted(place[2] for place in row)
    assert [place[2] for place in cats] == [place[2] for place in dogs[:2]]
    assert dogs[0][0] > cats[0][0]
    assert (read(png) == 25).all(-1).sum() < 28 * 28  # the fourth dog, but for edges of letters
    side = 56  # 28 pixels twice as large
    missing = (read(png) == EMPTY).all(-1).sum()
    assert 4 * side * side <= missing < 5 * side * side  # one cat and three owls
    assert is_warned(png)  # no owl


@pytest.mark.parametrize("name", ["$5", "a_$b$_{", "犬", "<i>"])
def test_names_of_any_kind_are_drawn_and_a_notebooks_own_plots_are_left_alone(name: str) -> None:
    from matplotlib import pyplot as plt

    backend = plt.get_backend()
    for png in (
        class_grid([0, 0], [name]),
        figures.class_histogram([0.5, 0.5], [0.5, 0.5], [name, "b"]),
    ):
        assert (read(png) < 255).any()
    assert (plt.get_fignums(), plt.get_backend()) == ([], backend)


def test_classes_seen_as_asked_are_dark_and_mistaken_ones_are_visible() -> None:
    """The axes lie below the title, right of the names: cells are found by their shades."""
    seen = [[10, 0, 0], [0, 10, 0], [4, 0, 0]]  # the last is never seen as itself
    picture = read(figures.asked_classes(seen, ["a", "b", "c"], ["a", "b", "c"]))
    dark = (picture == (8, 48, 107)).all(-1)  # the end of matplotlib's Blues: the whole row
    rows, columns = dark.any(1).nonzero()[0], dark.any(0).nonzero()[0]
    height, width = rows.max() + 1 - rows.min(), columns.max() + 1 - columns.min()
    assert height == pytest.approx(1.5 * width, rel=0.03)  # three rows, two columns of cells
    for row, column in ((0, 0), (1, 1), (2, 0)):
        y, x = rows.min() + (row + 0.15) * height / 3, columns.min() + (column + 0.15) * width / 2
        assert dark[int(y), int(x)], (row, column)
    few = read(figures.asked_classes([[90, 10], [0, 100]], ["a", "b"], ["a", "b"])).astype(int)
    tenth = few[(few.sum(-1) > 420) & (few.sum(-1) < 640) & (few[..., 2] > few[..., 0] + 30)]
    assert len(tenth) > 30 * 30  # where a linear scale would make it white nearly


@pytest.mark.parametrize("count", [2, 20, 21, 100, 151])
def test_matrices_of_any_number_of_classes_are_drawn(count: int) -> None:
    seen = (5 * torch.eye(count, dtype=torch.int64)).tolist()
    names = [f"$class_{number}" for number in range(count)]
    height, width, _ = read(figures.asked_classes(seen, names, names)).shape
    assert 200 < height < 2000
    assert 400 < width < 2000
