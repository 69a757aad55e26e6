"""Whether images show what their texts say, by what data measures in them."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from captioned import CaptionedSquares, make_text
from torch import Tensor, nn

from forger.data.captions import PromptSet
from forger.metrics.extractor import FeatureExtractor, Features
from forger.metrics.prompts import prompt_score_names, prompt_scores, real_prompt_scores
from forger.sampling.sampler import Sampler

PLACES = ("left", "middle", "right")


class Measured(CaptionedSquares):
    """Squares whose place is the class, and whose side is measured: 8 pixels, or another."""

    measured = ("side",)
    together: ClassVar[dict[str, tuple[str, ...]]] = {"both": ("class", "side"), "size": ("side",)}

    @property
    def prompt_sets(self) -> dict[str, PromptSet]:
        captions = tuple(f"a square on the {place}" for place in PLACES for _ in range(100))
        wanted = torch.tensor([[number, 0] for number in range(3) for _ in range(100)])
        return {"seen": PromptSet(captions, wanted)}

    @property
    def test_attributes(self) -> Tensor:
        return torch.stack((self._split("test")["label"], torch.zeros(64, dtype=torch.int64)), 1)

    def measure(self, images: Tensor) -> Tensor:
        return (((images > 128).sum((1, 2, 3)) - 64).abs() > 8).long()[:, None]


class Reader(FeatureExtractor):
    """Names the place of a square."""

    name, score_name, num_features, fingerprint = "reader", "reader_score", 1, "0"

    def __init__(self, classes: tuple[str, ...] | None) -> None:
        super().__init__()
        self.classes = classes

    @property
    def prefix(self) -> str:
        return "reader_" if self.classes else ""

    def prepare(self, data: Any, cache_dir: Path) -> None: ...

    def forward(self, images: Tensor) -> Features:
        column = images.float().amax((1, 2)).argmax(1)
        place = (column // 3).clamp(max=2)
        return Features(column[:, None].float(), nn.functional.one_hot(place, 3).float())


class Painter(nn.Module):
    """Paints what the text says, but in the middle where that is right, and smaller at the left."""

    def __init__(self, right: int, left: int) -> None:
        super().__init__()
        self.weight, self.right, self.left = nn.Parameter(torch.ones(())), right, left

    def forward(self, noise: Tensor, text: Tensor) -> Tensor:
        images = -torch.ones(len(text), 1, 16, 16)
        for image, row in zip(images, text, strict=True):
            place = 0 if self.left in row else 2 if self.right in row else 1
            side = 4 if place == 0 else 8
            column = (0, 4, 4)[place]
            image[:, 4 : 4 + side, column : column + side] = 1
        return images


def make() -> tuple[Measured, Sampler]:
    data = Measured(batch_size=8)
    condition = make_text(data)
    vocabulary = condition.encoder.vocabulary
    right, left = (int(vocabulary.numbers([word], 1)) for word in ("right", "left"))
    return data, Sampler(Painter(right, left), condition=condition)


def test_shares_of_what_is_right_of_each_and_of_all() -> None:
    data, sampler = make()
    found = prompt_scores(sampler, data, Reader(PLACES), most=300)
    assert found == pytest.approx(
        {
            **{"seen_class_right": 2 / 3, "seen_side_right": 2 / 3},
            **{"seen_both_right": 1 / 3, "seen_size_right": 2 / 3, "seen_all_right": 1 / 3},
        }
    )
    assert tuple(found) == prompt_score_names(data, Reader(PLACES))


def test_without_a_classifier_the_class_is_left_out() -> None:
    data, sampler = make()
    found = prompt_scores(sampler, data, Reader(None), most=150)
    one_in_three = ("seen_side_right", "seen_size_right", "seen_all_right")
    assert found == pytest.approx(dict.fromkeys(one_in_three, 1 / 3))
    assert tuple(found) == prompt_score_names(data, Reader(None))


def test_the_floor_is_that_of_real_images_with_their_own_texts() -> None:
    data, _ = make()
    found = real_prompt_scores(data, Reader(PLACES), torch.device("cpu"))
    assert found == dict.fromkeys(prompt_score_names(data, Reader(PLACES)), 1.0)


def test_other_data_has_no_such_scores() -> None:
    assert prompt_score_names(CaptionedSquares(batch_size=8), Reader(PLACES)) == ()
