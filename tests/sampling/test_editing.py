"""Edits by strokes: masked colours and lines are met, the rest is kept, and D has its say."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from forger.errors import ConfigError
from forger.sampling.editing import Strokes
from forger.sampling.sampler import Sampler

SIDE = 16


class Bars(nn.Module):
    """A bright bar: where it stands, how wide and how bright it is, and whether it lies."""

    latent_dim = 4

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, noise: Tensor) -> Tensor:
        places = torch.arange(SIDE) - SIDE / 2 + 0.5
        centre, width = 3 * noise[:, :1], 1.5 + noise[:, 1:2].sigmoid()
        line = (-(((places - centre) / width) ** 2)).exp() * noise[:, 2:3].sigmoid()
        lies = (4 * noise[:, 3]).sigmoid()[:, None, None]
        bar = lies * line[:, :, None] + (1 - lies) * line[:, None, :]
        return (2 * self.scale * bar.clamp(0, 1) - 1)[:, None]


@pytest.fixture(scope="module")
def sampler() -> Sampler:
    return Sampler(Bars())


def column(at: int) -> Tensor:
    drawn = torch.zeros(SIDE, SIDE)
    drawn[:, at - 1 : at + 1] = 1
    return drawn


def test_colours_are_met_and_candidates_are_sorted(sampler: Sampler) -> None:
    mask = column(4)
    done = sampler.edit(mask, torch.ones(1, SIDE, SIDE), candidates=3, starts=8, steps=40, frames=5)
    assert done.images.shape == (3, 1, SIDE, SIDE)
    assert done.images[0, 0][mask > 0].mean() > 0.3
    assert done.images[0, 0][:, 10:].mean() < -0.8  # no one asked for more
    assert (done.loss.diff() >= 0).all()
    assert done.frames.shape == (5, 3, 1, SIDE, SIDE)
    torch.testing.assert_close(done.frames[-1], sampler(done.noise))
    again = sampler.edit(mask, torch.ones(1, SIDE, SIDE), candidates=3, starts=8, steps=40)
    assert torch.equal(done.noise, again.noise)


def test_a_line_counts_by_its_direction(sampler: Sampler) -> None:
    empty, colours = torch.zeros(SIDE, SIDE), torch.zeros(1, SIDE, SIDE)
    for edges, lies in ((column(8), False), (column(8).T, True)):
        done = sampler.edit(empty, colours, edges, candidates=1, starts=8, steps=40)
        assert bool(done.noise[0, 3] > 0) == lies


def test_it_stays_near_a_start(sampler: Sampler) -> None:
    """A bar that stands is asked to be darker: it stands where it stood."""
    start = torch.tensor([-1.2, 0.0, 2.0, -1.5])
    before = sampler(start[None])[0]
    mask, wanted = column(4), torch.full((1, SIDE, SIDE), -0.2)
    done = sampler.edit(mask, wanted, noise=start, candidates=2, starts=4, steps=40, frames=3)
    torch.testing.assert_close(done.frames[0, 0], before)
    apart = [(one[0][mask > 0] + 0.2).abs().mean() for one in (before, done.images[0])]
    assert apart[1] < apart[0] / 2
    tight = sampler.edit(mask, wanted, noise=start, stay=100.0, candidates=1, starts=4, steps=40)
    assert (tight.noise[0] - start).norm() < 0.05 < (done.noise[0] - start).norm()


def test_realism_has_its_say(sampler: Sampler) -> None:
    """A critic that likes bars which lie, and strokes that do not mind."""
    mask = torch.zeros(SIDE, SIDE)
    mask[7:9, 7:9] = 1

    def lying(images: Tensor, given: tuple[Tensor, ...]) -> Tensor:
        rows, columns = images.mean(3), images.mean(2)
        return 20 * (rows.amax((1, 2)) - columns.amax((1, 2)))

    settings = {"candidates": 4, "starts": 8, "steps": 30, "realism_weight": 1.0}
    done = sampler.edit(mask, torch.ones(1, SIDE, SIDE), realism=lying, **settings)
    assert (done.noise[:, 3] > 0).all()


def test_a_loss_by_hand() -> None:
    strokes = Strokes(torch.tensor([[1.0, 0.5], [0.0, 0.0]]), torch.zeros(1, 2, 2))
    images = torch.tensor([[[[1.0, 2.0], [9.0, 9.0]]]])
    torch.testing.assert_close(strokes.loss(images), torch.tensor([(1 + 0.5 * 4) / 1.5]))


def test_nothing_drawn_and_wrong_sizes_are_refused(sampler: Sampler) -> None:
    empty, colours = torch.zeros(SIDE, SIDE), torch.zeros(1, SIDE, SIDE)
    with pytest.raises(ConfigError, match="nothing is drawn"):
        sampler.edit(empty, colours, empty)
    with pytest.raises(ConfigError, match=r"mask \(3, 3\): must be \(16, 16\)"):
        sampler.edit(torch.ones(3, 3), colours)
    with pytest.raises(ConfigError, match="candidates=0: must be"):
        sampler.edit(column(4), colours, candidates=0)
