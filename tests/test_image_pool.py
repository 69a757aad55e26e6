"""Old fakes take the place of new ones, as the rule says."""

from __future__ import annotations

import torch
from torch import Tensor

from forger.augment.base import uniform
from forger.image_pool import ImagePool
from forger.noise import Draws
from forger.seeds import Purpose


def numbered(*numbers: int) -> Tensor:
    return torch.tensor(numbers, dtype=torch.float32)[:, None, None, None].expand(-1, 1, 2, 2)


def numbers_in(images: Tensor | None) -> list[int]:
    assert images is not None
    return images[:, 0, 0, 0].int().tolist()


def started(iteration: int = 1) -> Draws:
    draws = Draws(4)
    draws.start(iteration)
    return draws


def test_images_pass_and_are_kept_until_it_is_full() -> None:
    pool = ImagePool(4)
    assert numbers_in(pool(numbered(1, 2, 3), started())) == [1, 2, 3]
    assert numbers_in(pool.images) == [1, 2, 3]


def test_returns_what_an_explicit_loop_does() -> None:
    """Image after image, by the same draws: a batch that fills it, whole ones, a large one."""
    pool, held, next_number = ImagePool(5), list[int](), 0
    for iteration, rows in enumerate((3, 4, 4, 2, 4, 9), start=1):
        new = list(range(next_number, next_number + rows))
        next_number += rows
        found = numbers_in(pool(numbered(*new), started(iteration)))
        draws, expected, room = started(iteration), [], 5 - len(held)
        chance = order = None
        for place, image in enumerate(new):
            if len(held) < 5:
                held.append(image)
                expected.append(image)
                continue
            if chance is None:
                chance = draws.rows(Purpose.OWN_TASK, uniform, rows).tolist()
                order = draws.rows(Purpose.OWN_TASK, uniform, 1, 5)[0].argsort().tolist()
            met = place - max(room, 0)
            if met < 5 and chance[place] < 0.5:
                expected.append(held[order[met]])
                held[order[met]] = image
            else:
                expected.append(image)
        assert found == expected
        assert numbers_in(pool.images) == held
    assert max(held) > 15
    assert min(held) < 20


def test_half_are_old_and_none_is_met_twice() -> None:
    pool = ImagePool(400)
    pool.images = numbered(*range(400)).clone()
    found = numbers_in(pool(numbered(*range(1000, 1400)), started()))
    old = [one for one in found if one < 1000]
    assert len(set(old)) == len(old)
    assert 160 < len(old) < 240
    assert sorted(old + numbers_in(pool.images)) == sorted(
        [*range(400), *(one for one in range(1000, 1400) if one not in found)]
    )


def test_no_pool_and_no_gradient() -> None:
    images = numbered(1, 2).clone().requires_grad_()
    assert numbers_in(ImagePool(0)(images, started())) == [1, 2]
    assert not ImagePool(3)(images, started()).requires_grad
