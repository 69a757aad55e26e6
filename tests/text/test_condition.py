"""The condition of texts: what is drawn, what a mismatch is, and what D minimises by it."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
import torch
from captioned import CaptionedSquares, make_task, make_text
from helpers import make_trainer

from forger.errors import ConfigError
from forger.gan import GAN
from forger.losses import Hinge, NonSaturating
from forger.noise import Draws
from forger.seeds import Purpose
from forger.updates import Updates


def started(iteration: int = 1, rank: int = 0, world: int = 1) -> Draws:
    draws = Draws(0, rank, world)
    draws.start(iteration)
    return draws


def test_captions_of_fakes_are_drawn_as_often_as_images_have_them() -> None:
    data = CaptionedSquares(batch_size=8)
    condition = make_text(data)
    drawn = condition.draw(40_000, started())["caption"]
    own = data.train_captions
    expected = torch.bincount(own[own >= 0], minlength=len(data.captions.texts)).double()
    found = torch.bincount(drawn, minlength=len(expected)).double() / len(drawn)
    torch.testing.assert_close(found, expected / expected.sum(), atol=0.01, rtol=0)


def test_a_mismatch_is_never_the_same_text() -> None:
    condition = make_text(CaptionedSquares(batch_size=8))
    own = condition.draw(5000, started())["caption"]
    other = condition.mismatch({"caption": own}, started(2))["caption"]
    assert not (own == other).any()
    assert len(other.unique()) == len(own.unique()) == 4


def test_a_mismatch_is_found_also_where_nearly_all_texts_are_equal() -> None:
    condition = make_text(CaptionedSquares(batch_size=8))
    condition.drawn_from = torch.zeros(10_000, dtype=torch.int64)
    own = torch.zeros(64, dtype=torch.int64)
    assert (condition.mismatch({"caption": own}, started())["caption"] != own).all()


def test_processes_draw_what_one_would() -> None:
    condition = make_text(CaptionedSquares(batch_size=8))
    batch = {"caption": torch.arange(8) % 4}
    whole = condition.mismatch(batch, started())["caption"]
    for rank in range(2):
        part = {"caption": batch["caption"][rank::2]}
        draws = started(rank=rank, world=2)
        assert torch.equal(condition.mismatch(part, draws)["caption"], whole[rank::2])


def test_one_caption_for_all_is_no_condition() -> None:
    data = CaptionedSquares(batch_size=8)
    condition = make_text(data)
    data._splits["train"]["caption"][:] = 0
    with pytest.raises(ConfigError, match=r"condition=text: all images have the caption 'a square"):
        condition.setup(data)


def test_texts_are_read_in_turn_and_unknown_words_told(caplog: pytest.LogCaptureFixture) -> None:
    condition = make_text(CaptionedSquares(batch_size=8))
    rows = condition.read({"text": ["a square", "left zork"]}, 3)["text"]
    assert torch.equal(rows[0], rows[2])
    assert not torch.equal(rows[0], rows[1])
    assert [one.message for one in caplog.records if one.levelno == logging.WARNING] == [
        "text='left zork': training captions had no zork"
    ]
    for wrong, told in ((["a", " "], "is empty"), ([], "is empty"), ("zork", "has no word of")):
        with pytest.raises(ConfigError, match=told):
            condition.read({"text": wrong}, 1)
    with pytest.raises(ConfigError, match="label=left: the run was trained without labels"):
        condition.read({"label": "left"}, 1)


def test_half_of_what_is_fake_for_d_are_real_images_of_another_text() -> None:
    """Whether D computes the features of real images once or twice, by any loss."""
    data = CaptionedSquares(batch_size=8)
    for loss in (Hinge(), NonSaturating()):
        task = make_task(data, loss)
        batch = data.on_after_batch_transfer(next(iter(data.train_dataloader())), 0)[0]
        fakes = {name: one.detach() for name, one in task.fakes(batch, started()).items()}
        found = task.discriminator_terms(batch, fakes, started(), 1)
        d, texts = task.discriminator, task.condition.captions
        wrong = task.condition.mismatch(batch, started())["caption"]
        real, fake = (d(one["image"], texts[one["caption"]]) for one in (batch, fakes))
        other = d(batch["image"], texts[wrong])
        expected = (loss.discriminator(real, fake) + loss.discriminator(real, other)) / 2
        torch.testing.assert_close(found.loss, expected)
        d.network.takes_more_texts = d.takes_more_texts = False
        torch.testing.assert_close(
            task.discriminator_terms(batch, fakes, started(), 1).loss, expected
        )


def test_the_penalty_of_matching_pairs_equals_the_computation_by_hand() -> None:
    data = CaptionedSquares(batch_size=8)
    task = make_task(data, Hinge(matching=2.0, matching_power=6.0, matching_interval=2)).double()
    task.generator.double()
    task.discriminator.double()
    batch = data.on_after_batch_transfer(next(iter(data.train_dataloader())), 0)[0]
    batch["image"] = batch["image"].double()
    draws = Draws(0, dtype=torch.float64)
    draws.start(1)
    fakes = {name: one.detach() for name, one in task.fakes(batch, draws).items()}
    assert "penalty_matching" not in task.discriminator_terms(batch, fakes, draws, 1).added
    found = task.discriminator_terms(batch, fakes, draws, 2).added["penalty_matching"]
    expected = torch.zeros((), dtype=torch.float64)
    d = task.discriminator
    for image, number in zip(batch["image"], batch["caption"], strict=True):
        x = image[None].clone().requires_grad_()
        s = d.embed(task.condition.captions[number][None]).detach().requires_grad_()
        d.network(x, s).sum().backward()
        assert x.grad is not None
        assert s.grad is not None
        expected += (x.grad.square().sum() + s.grad.square().sum()) ** 3 / len(batch["image"])
    torch.testing.assert_close(found, 2 * 2.0 * expected)


def test_the_penalty_is_for_texts_alone() -> None:
    data = CaptionedSquares(batch_size=8)
    task = make_task(data)
    with pytest.raises(ConfigError, match=r"loss\.matching=2\.0: is for condition=text"):
        type(task)(task.generator, task.discriminator, Hinge(matching=2.0))


def test_both_sides_learn_their_encoders_and_neither_touches_the_other(tmp_path: Path) -> None:
    data = CaptionedSquares(batch_size=8)
    gan = GAN(make_task(data), generator_updates=Updates(), discriminator_updates=Updates())
    before = {name: one.clone() for name, one in gan.state_dict().items()}
    make_trainer(tmp_path, max_steps=2).fit(gan, datamodule=data)
    after = gan.state_dict()
    for side in ("generator", "discriminator"):
        name = f"{side}.encoder.words.weight"
        assert not torch.equal(before[name], after[name])


def test_samples_show_prompts_and_are_those_of_the_seed(tmp_path: Path) -> None:
    task = make_task(CaptionedSquares(batch_size=8))
    sampler = task.sampler(task.generator)
    grid = sampler.grid(20, seed=1)
    assert grid.names == task.condition.prompts[:2]
    assert (len(grid.images), grid.columns) == (16, 8)
    texts = [text for text in grid.names for _ in range(8)]
    assert torch.equal(grid.images, sampler.sample(16, 1, text=texts))
    embedded = task.generator.embed(task.condition.rows_of(texts[:3]))
    torch.testing.assert_close(sampler.sample(3, 1, text=embedded), grid.images[:3])
    drawn = sampler.given(300, 4)["text"]
    assert torch.equal(sampler.given(20, 4)["text"], drawn[:20])
    assert len(drawn.unique(dim=0)) == len(task.condition.prompt_rows.unique(dim=0))


def test_streams_of_captions_and_noise_share_no_numbers() -> None:
    """A purpose's numbers do not move when another draws more."""
    condition = make_text(CaptionedSquares(batch_size=8))
    one, other = started(), started()
    other.rows(Purpose.TRAINING_NOISE, lambda shape, g, _: torch.rand(shape, generator=g), 5)
    assert torch.equal(condition.draw(9, one)["caption"], condition.draw(9, other)["caption"])
