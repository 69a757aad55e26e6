"""What samples a translator: held-out sources, a user's images, both directions, Dropout."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from helpers import SHAPE
from torch import Tensor, nn
from translating import Dark, make_task

from forger.errors import ConfigError
from forger.sampling.translator import Translator


def sampler_of(name: str = "cut") -> Translator:
    task = make_task(name)
    task.setup(Dark())
    found = task.sampler(task.generator)
    assert isinstance(found, Translator)
    return found


def test_a_seed_means_the_same_translations_whatever_their_number() -> None:
    sampler = sampler_of()
    many = sampler.sample(300, seed=1)
    assert torch.equal(many[:3], sampler.sample(3, seed=1))
    assert not torch.equal(many[:50], many[250:])
    assert not torch.equal(many[:3], sampler.sample(3, seed=2))
    (sources,) = sampler.inputs(0, 3, 1, {})
    assert torch.equal(many[:3], sampler.generator(sources))
    assert sorted(sampler.rows(0, 64, 1).tolist()) == list(range(64))  # each once
    assert torch.equal(sampler.sources[sampler.rows(0, 3, 1)] / 127.5 - 1, sources)


def test_a_chunk_tells_its_sources_and_takes_those_that_are_given() -> None:
    sampler = sampler_of("paired")
    drawn = sampler.chunk(0, 4, seed=1)
    assert torch.equal(drawn["source"], sampler.inputs(0, 4, 1, {})[0])
    given = sampler.chunk(0, 2, given={"source": drawn["source"][2:]})
    assert torch.equal(given["image"], drawn["image"][2:])
    assert sampler.paired


def test_images_of_a_user_are_translated_in_any_number_type_and_size() -> None:
    sampler = sampler_of()
    pixels = torch.randint(0, 256, (20, 1, 24, 40), dtype=torch.uint8)
    found = sampler.translate(pixels)
    assert found.shape == (20, 1, 24, 40)
    torch.testing.assert_close(found, sampler.generator(pixels / 127.5 - 1))
    assert torch.equal(found, sampler.translate(pixels / 127.5 - 1))


def test_the_way_back_is_that_of_a_cycle_alone() -> None:
    cycle = sampler_of("cycle")
    images = torch.rand(2, *SHAPE) * 2 - 1
    back = cycle.translate(images, direction="b_to_a")
    torch.testing.assert_close(back, cycle.generator.back(images))
    assert torch.equal(back, cycle.reversed().translate(images))
    assert torch.equal(cycle.reversed().sources, cycle.images)
    with pytest.raises(ConfigError, match="direction=b_to_a: the run has no way back"):
        sampler_of("cut").translate(images, direction="b_to_a")
    with pytest.raises(ConfigError, match="direction=there: must be one of a_to_b, b_to_a"):
        cycle.translate(images, direction="there")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"images \(2, 3, 8, 8\): must be \(N, 1, H, W\)"):
        cycle.translate(torch.zeros(2, 3, 8, 8))


class Dropping(nn.Module):
    """Dropout and BatchNorm of a source."""

    def __init__(self) -> None:
        super().__init__()
        self.drop, self.norm = nn.Dropout(0.5), nn.BatchNorm2d(1)

    def forward(self, source: Tensor) -> Tensor:
        found: Tensor = self.norm(self.drop(source))
        return found


def test_dropout_gives_other_images_by_seed_and_all_else_stays_in_eval_mode() -> None:
    sources = torch.full((4, *SHAPE), 200, dtype=torch.uint8)
    sampler, images = Translator(Dropping(), sources, sources), sources / 127.5 - 1
    plain = sampler.translate(images)
    torch.testing.assert_close(plain, images / (1 + 1e-5) ** 0.5)
    state = torch.random.get_rng_state()
    dropped = sampler.translate(images, 1, dropout=True)
    assert torch.equal(dropped, sampler.translate(images, 1, dropout=True))
    assert not torch.equal(dropped, sampler.translate(images, 2, dropout=True))
    assert set(dropped.unique().tolist()) <= {0.0, *(2 * plain.unique()).tolist()}
    assert torch.equal(plain, sampler.translate(images))
    assert torch.equal(state, torch.random.get_rng_state())


def test_the_grid_shows_sources_outputs_and_what_pairs_should_become() -> None:
    sampler = sampler_of("paired")
    images, columns, names = sampler.grid(64, seed=2)
    assert (images.shape, columns, names) == ((63, *SHAPE), 9, ())
    rows = sampler.rows(0, 21, 2)
    shown = (sampler.sources[rows], None, sampler.images[rows])
    for place, expected in enumerate(shown):
        found = images[place::3]
        assert torch.equal(
            found, sampler.sample(21, 2) if expected is None else expected / 127.5 - 1
        )
    assert sampler_of("cut").grid(64).columns == 8
    assert sampler.grid(1).images.shape == (3, *SHAPE)


def test_the_grid_of_a_cycle_shows_both_directions_and_the_way_round() -> None:
    sampler = sampler_of("cycle")
    images, columns, _ = sampler.grid(64, seed=2)
    assert (len(images), columns) == (60, 6)
    source, made, again, other, back, there = (images[place::6] for place in range(6))
    two_way: Any = sampler.generator
    for found, way, given in (
        *((made, two_way.there, source), (again, two_way.back, made)),
        *((back, two_way.back, other), (there, two_way.there, back)),
    ):
        torch.testing.assert_close(found, way(given))
    assert torch.equal(source, sampler.given(10, 2)["source"])


def test_grey_and_small_sources_are_shown_beside_large_colours() -> None:
    class Enlarged(nn.Module):
        side_multiple = 4

        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(()))

        def forward(self, source: Tensor) -> Tensor:
            assert source.shape[2] % 4 == source.shape[3] % 4 == 0
            return source.repeat_interleave(2, 2).repeat_interleave(2, 3).expand(-1, 3, -1, -1)

    sources = torch.randint(0, 256, (4, 1, 8, 8), dtype=torch.uint8)
    sampler = Translator(Enlarged(), sources, torch.zeros(4, 3, 16, 16, dtype=torch.uint8))
    shown, made = sampler.grid(8).images.unflatten(0, (-1, 2)).unbind(1)
    assert torch.equal(shown, made)
    odd = torch.rand(2, 1, 5, 7)
    found = sampler.translate(odd)  # larger ones go through the network
    assert torch.equal(found, odd.repeat_interleave(2, 2).repeat_interleave(2, 3).expand_as(found))
