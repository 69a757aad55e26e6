"""What a run must know of its captions to build its networks anew."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from forger.errors import DataError
from forger.text.words import Vocabulary

_PROMPTS = 1000  # at most
_WORDS = 20_000  # at most, the most frequent ones


class TextFacts(NamedTuple):
    """What a run's texts are, beside its config.

    Attributes:
        vocabulary: words of the training captions, in the order of their numbers.
        prompts: held-out captions, of which samples are made where the user gives no text.
    """

    vocabulary: tuple[str, ...] = ()
    prompts: tuple[str, ...] = ()

    @classmethod
    def of(cls, plain: Mapping[str, Sequence[str]]) -> TextFacts:
        """Returns what `plain` has made plain."""
        return cls(**{name: tuple(map(str, texts)) for name, texts in plain.items()})

    def plain(self) -> dict[str, list[str]]:
        """Returns it as plain containers."""
        return {name: list(texts) for name, texts in self._asdict().items()}


class Captions(Protocol):
    """The captions of a data set, each with a number."""

    @property
    def texts(self) -> tuple[str, ...]:
        """The captions, in the order of their numbers."""


class CaptionedData(Protocol):
    """A data module, as far as it has captions."""

    @property
    def captions(self) -> Captions | None:
        """All of them."""

    @property
    def train_captions(self) -> Tensor:
        """Numbers of those of training images, int64 `(N, K)`, -1 where an image has fewer."""

    @property
    def test_captions(self) -> Tensor:
        """The same of held-out images."""


def text_facts(data: CaptionedData) -> TextFacts:
    """Returns the words of training captions, and one held-out caption of some images each."""
    try:
        held_out = data.test_captions
    except DataError:  # none are held out
        held_out = data.train_captions
    wanted = min(_PROMPTS, len(held_out))
    places = torch.arange(wanted) * len(held_out) // wanted
    assert data.captions is not None
    texts = data.captions.texts
    counts = (held_out[places] >= 0).sum(1)
    chosen = held_out[places, torch.arange(len(places)) % counts]  # each of the wordings in turn
    used = torch.unique(data.train_captions)
    vocabulary = Vocabulary.of((texts[n] for n in used[used >= 0].tolist()), _WORDS)
    return TextFacts(vocabulary.words, tuple(texts[n] for n in chosen.tolist()))
