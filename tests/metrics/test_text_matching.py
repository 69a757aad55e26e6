"""The matcher of images and texts: what it finds in right pairs, in wrong ones, and again."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from captioned import CaptionedSquares, make_task
from torch import Tensor, nn

from forger.metrics import text_matching
from forger.metrics.text_matching import MatcherNetwork, TextMatcher
from forger.text import Learned

CPU = torch.device("cpu")


class Placed(CaptionedSquares):
    """Squares whose captions tell the corner's place: 81 texts, most of them of one image alone."""

    count = 400

    def read(self, split: str) -> dict[str, Tensor]:
        members = super().read(split)
        rows, columns = (members["image"].amax((1, axis)).argmax(1).tolist() for axis in (3, 2))
        texts = [[f"row {y} column {x}"] for y, x in zip(rows, columns, strict=True)]
        return members | {"caption": self.captions.add(texts)}


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = replace(text_matching.RECIPE, batch_size=64, least_updates=160, learning_rate=0.006)
    monkeypatch.setattr(text_matching, "RECIPE", replace(recipe, most_epochs=1))


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


def test_real_pairs_are_found_and_shuffled_ones_only_by_chance(cache: Path) -> None:
    data = Placed(batch_size=8)
    matcher = TextMatcher(data, cache, CPU)
    assert len(matcher._held_out) > 60
    assert matcher.of_real(400) > 0.7
    order = torch.randperm(400, generator=torch.Generator().manual_seed(0))
    data._splits["test"]["image"] = data.test_images[order]
    assert matcher.of_real(400) < 0.1


def test_the_score_is_the_same_in_every_run_and_the_matcher_is_kept(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, again = (TextMatcher(Placed(batch_size=8), folder, CPU) for folder in (cache, tmp_path))
    assert first.trained.fingerprint == again.trained.fingerprint
    assert first.of_real(100) == again.of_real(100)
    monkeypatch.setattr(TextMatcher, "_train", None)
    kept = TextMatcher(Placed(batch_size=8), cache, CPU)
    assert kept.of_real(100) == first.of_real(100)
    assert kept.description["fingerprint"] == first.trained.fingerprint
    other = Placed(batch_size=8)
    other.captions.add([["another caption"]])
    with pytest.raises(TypeError, match="not callable"):
        TextMatcher(other, cache, CPU)


class Remembers(nn.Module):
    """A generator that looks up the held-out image of a text, and so is as good as these."""

    latent_dim, image_shape = 2, (1, 16, 16)

    def __init__(self, rows: Tensor, images: Tensor) -> None:
        super().__init__()
        self.rows, self.pictures = rows, images.float() / 127.5 - 1
        self.anchor = nn.Parameter(torch.zeros(()))

    def forward(self, noise: Tensor, text: Tensor) -> Tensor:
        place = (text[:, None] == self.rows).all(2).int().argmax(1)
        return self.pictures[place] + 0 * self.anchor


def test_generated_images_are_those_of_held_out_captions(cache: Path) -> None:
    data = Placed(batch_size=8)
    matcher = TextMatcher(data, cache, CPU)
    sampler: Any = make_task(data).sampler(nn.Identity())
    texts = [data.captions.texts[number] for number in data.test_captions[:, 0].tolist()]
    rows = sampler.condition.rows_of(texts)
    sampler.generator = Remembers(rows, data.test_images)
    assert abs(matcher.of_generated(sampler, 400) - matcher.of_real(400)) < 0.02
    sampler.generator = Remembers(rows, data.test_images.flip(0))
    assert matcher.of_generated(sampler, 400) < 0.1


def test_a_caption_that_occurs_twice_is_no_wrong_one() -> None:
    encoder = Learned(["a", "b"], 128)
    torch.manual_seed(0)
    network = MatcherNetwork((1, 16, 16), encoder).eval()
    images = torch.randint(0, 256, (3, 1, 16, 16), dtype=torch.uint8)
    words = encoder.encode(["a", "b", "a"])
    logits = 10 * network.images(images) @ network.words(words).T
    first = -torch.log_softmax(logits[0, :2], 0)[0], -torch.log_softmax(logits[2, 1:], 0)[1]
    second = -torch.log_softmax(logits[:2, 0], 0)[0], -torch.log_softmax(logits[1:, 2], 0)[1]
    middle = -torch.log_softmax(logits[1], 0)[1], -torch.log_softmax(logits[:, 1], 0)[1]
    expected = torch.stack([*first, *second, *middle]).sum() / 6
    torch.testing.assert_close(network.loss(images, words), expected)


def test_large_images_are_made_smaller() -> None:
    images = torch.full((2, 3, 64, 48), 200, dtype=torch.uint8)
    small = text_matching._small(images)
    assert small.shape == (2, 3, 32, 32)
    assert (small == 200).all()
    assert text_matching._small(small) is small
