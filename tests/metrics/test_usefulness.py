"""Classifiers trained on translations, on sources and on real images."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from labelled_bars import Bars
from test_translations import Of
from torch import Tensor, nn

from forger.errors import ConfigError
from forger.metrics import usefulness as module
from forger.metrics.classifier_training import Recipe
from forger.metrics.usefulness import check_useful, classification_accuracies
from forger.sampling.translator import Translator


class Dim(Bars):
    """Bars, and as sources without pairs their negatives."""

    native_source_shape = (1, 12, 12)
    paired = False

    def read(self, split: str) -> dict[str, Tensor]:
        found = super().read(split)
        sources = {"source": 255 - found["image"], "source_label": found["label"]}
        return found | sources


def sampler_of(network: nn.Module, data: Any) -> Translator:
    return Translator(network, data.test_sources, data.test_images)


def test_refined_images_teach_what_real_ones_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RECIPE", Recipe(least_updates=60))
    data, cpu = Dim(), torch.device("cpu")
    refined = sampler_of(Of(lambda source: -source), data)
    state = torch.random.get_rng_state()
    scores, floor = classification_accuracies(refined, data, 0, cpu)
    assert torch.equal(state, torch.random.get_rng_state())
    assert scores["classification_accuracy"] == floor["classification_accuracy"] > 0.9
    assert scores["classification_accuracy_of_sources"] < 0.8


def test_images_without_classes_are_refused() -> None:
    data = Dim(labels_of=("train",))
    data.read = lambda split: (
        Bars.read(data, split)
        | {  # type: ignore[method-assign]
            "source": Bars.read(data, split)["image"]
        }
    )
    with pytest.raises(ConfigError, match=r"classification_accuracy=true: .* have no classes"):
        check_useful(sampler_of(nn.Conv2d(1, 1, 1), data), data)
