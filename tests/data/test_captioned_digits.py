"""Digits drawn as their captions say, and measured again."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.random import RandomState
from torch import Tensor

from forger.data.captioned_digits import CaptionedSample, draw_digits
from forger.data.digit_captions import UNSEEN_WORDINGS, VALUES, captions_of, draw_attributes
from forger.data.measured_digits import measure, width_slant_place
from forger.data.sample import MNISTSample
from forger.data.strokes import distances, thin


def look(**values: str) -> list[int]:
    usual = {"thickness": "medium", "slant": "upright", "place": "middle"}
    return [names.index({**usual, **values}[name]) for name, names in VALUES.items()]


@pytest.fixture(scope="module")
def digits() -> dict[str, Tensor]:
    return MNISTSample().read("test")


def test_what_is_drawn_is_measured_again_and_is_the_same_in_every_run(digits) -> None:
    random = RandomState(3)
    asked = draw_attributes(digits["label"].numpy(), random, unseen=False)
    images, found = draw_digits(digits["image"], asked, random)
    assert images.shape == (500, 3, 32, 32)
    assert (found[:, :3] == asked[:, :3]).all()
    assert (found == asked).all(1).mean() > 0.98  # few cannot be drawn so
    right = measure(images) == torch.from_numpy(found[:, 1:])
    assert right.all(1).float().mean() > 0.99
    again = RandomState(3)
    draw_attributes(digits["label"].numpy(), again, unseen=False)
    assert torch.equal(draw_digits(digits["image"], asked, again)[0], images)


def test_strokes_have_the_width_slant_and_place_that_they_are_measured_to_have() -> None:
    cover = torch.zeros(1, 32, 32)
    cover[0, 4:28, 17:20] = 1  # 24 by 3, two and a half pixels right of the middle
    width, slant, right, down = (float(one) for one in width_slant_place(cover))
    assert width == pytest.approx(2 * 24 * 3 / (2 * (24 + 3)), rel=0.05)
    assert (slant, right, down) == pytest.approx((0, 2.5, 0), abs=1e-3)
    rows = torch.arange(32)[:, None]
    columns = torch.arange(32)
    leaning = ((columns - 16 + 0.5 * (rows - 16)).abs() < 2).float()
    leaning[:4] = leaning[28:] = 0
    assert float(width_slant_place(leaning[None])[1]) == pytest.approx(0.5, abs=0.03)


def test_thinned_ink_is_a_line_in_its_middle_that_hangs_together() -> None:
    ink = torch.zeros(2, 20, 20, dtype=torch.bool)
    ink[0, 5:8, 3:17] = True
    ink[1, 4:16, 4:16] = True
    ink[1, 8:12, 8:12] = False  # a ring
    lines = thin(ink)
    assert lines[0].sum(1).tolist() == [0] * 6 + [int(lines[0, 6].sum())] + [0] * 13
    assert 10 <= int(lines[0].sum()) <= 14
    assert not lines[1, 9:11, 9:11].any()
    ring = lines[1].nonzero()
    near = (ring[:, None] - ring).abs().amax(2) <= 1
    assert (near.sum(1) >= 3).all()  # itself and two others: closed
    assert torch.equal(thin(lines), lines)


def test_distances_are_euclidean_up_to_seven_pixels() -> None:
    line = torch.zeros(1, 20, 20, dtype=torch.bool)
    line[0, 5, 5] = True
    found = distances(line)[0]
    assert found[5, 5] == 0
    assert float(found[8, 9]) == 5
    assert float(found[5, 12]) == 7
    assert float(found[19, 19]) == 8


def test_captions_say_all_that_is_unusual_in_four_wordings() -> None:
    rows = np.array(
        [
            look(digit="7", ink="red", ground="blue", thickness="thick", slant="right"),
            look(digit="8", ink="orange", ground="white"),
        ]
    )
    seven, eight = captions_of(rows, RandomState(0))
    assert len(seven) == len(eight) == 4
    for caption in seven:
        words = set(caption.replace(",", "").split())
        assert words & {"seven", "7"}
        assert words & {"thick", "bold"}
        assert words & {"slanted", "right-leaning"}
        assert {"red", "blue"} <= words
        assert caption.index("red") < caption.index("blue")
    assert eight[0] in ("an eight, orange on white", "an 8, orange on white")
    assert eight[1] in ("an orange eight on white", "an orange 8 on white")
    assert eight[2] in ("orange eight, white background", "orange 8, white background")
    for caption in (*eight, *captions_of(rows, RandomState(1), UNSEEN_WORDINGS)[1]):
        assert "  " not in caption
        assert ",," not in caption.replace(" ", "")
        assert not caption.endswith((",", ":"))


def test_colours_of_a_digit_that_are_held_out_are_in_no_image() -> None:
    labels = np.arange(20_000) % 10
    seen, unseen = (
        {tuple(row) for row in draw_attributes(labels, RandomState(0), how)[:, :3].tolist()}
        for how in (False, True)
    )
    assert not seen & unseen
    assert (len(seen), len(unseen)) == (10 * 8 * 6, 10 * 8)
    for digit in range(10):  # each colour is seen with each digit
        assert {ink for d, ink, _ in seen if d == digit} == set(range(8))
        assert {ground for d, _, ground in seen if d == digit} == set(range(8))


def test_prompts_are_of_three_kinds() -> None:
    data = CaptionedSample()
    sets = data.prompt_sets
    assert {name: len(one.captions) for name, one in sets.items()} == dict.fromkeys(
        ("seen", "unseen", "reworded"), 5000
    )
    assert all(one.wanted.shape == (5000, 6) for one in sets.values())
    assert "paint over" in " ".join(sets["reworded"].captions)
    assert "paint over" not in " ".join(sets["seen"].captions + sets["unseen"].captions)
