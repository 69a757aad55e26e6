"""Text encoders: what a caption is kept as, and the network that makes its embedding."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar

from torch import Tensor, nn
from typing_extensions import override

from forger.bounds import PositiveInt, check_bounds
from forger.errors import ConfigError
from forger.text.words import Vocabulary


class TextEncoder(ABC):
    """Base of all text encoders.

    Captions are encoded once, before training begins, to rows of numbers: those of words, which a
    network of each side embeds and learns along, or finished embeddings.
    """

    learns_words: ClassVar[bool] = False
    """Whether it takes the argument `vocabulary`, the words of the training captions."""

    @property
    @abstractmethod
    def dim(self) -> int:
        """Size of an embedding."""

    @abstractmethod
    def encode(self, texts: Sequence[str]) -> Tensor:
        """Returns a row for each text, int64 `(N, L)` or float32 `(N, dim)`."""

    def network(self) -> nn.Module:
        """Returns a new network that turns rows into embeddings `(B, dim)`."""
        return nn.Identity()

    def check(self, text: str) -> list[str]:
        """Returns words of a user's text that mean nothing to it.

        Raises:
            ConfigError: the whole text does not.
        """
        return []


class Learned(TextEncoder):
    """Embeds words and runs a GRU over them; both sides learn one of their own.

    Args:
        vocabulary: the words that are known, in the order of their numbers.
        dim: size of an embedding.
        word_dim: size of a word's embedding.
        longest: words of a text that are read; those behind are cut off.

    Raises:
        ConfigError: a size is not positive.
    """

    learns_words = True

    def __init__(
        self,
        vocabulary: Sequence[str],
        dim: PositiveInt = 128,
        word_dim: PositiveInt = 64,
        longest: PositiveInt = 24,
    ) -> None:
        for name, value in (("dim", dim), ("word_dim", word_dim), ("longest", longest)):
            check_bounds(value, PositiveInt, f"text.{name}")
        self.vocabulary, self.longest = Vocabulary(vocabulary), longest
        self._dim, self._word_dim = dim, word_dim

    @property
    def dim(self) -> int:
        """Size of an embedding."""
        return self._dim

    def encode(self, texts: Sequence[str]) -> Tensor:
        """Returns the numbers of the words that are known, int64 `(N, L)`, see `Vocabulary`."""
        return self.vocabulary.numbers(texts, self.longest)

    def network(self) -> nn.Module:
        """Returns a new `WordsToEmbedding`."""
        return WordsToEmbedding(len(self.vocabulary), self._word_dim, self._dim)

    def check(self, text: str) -> list[str]:
        """Returns the words of a text that no training caption had.

        Raises:
            ConfigError: that is all of them.
        """
        if not self.encode([text]).any():
            known = ", ".join(word for word in self.vocabulary.words[:30] if word[0].isalnum())
            raise ConfigError(
                f"text={text!r}: has no word of the training captions; those have, for example,"
                f" {known}"
            )
        return self.vocabulary.unknown(text)


class WordsToEmbedding(nn.Module):
    """Numbers of words, int64 `(B, L)`, to embeddings `(B, dim)`: a GRU's state at the last word.

    Args:
        words: how many are known; 0 stands behind the last word.
        word_dim: size of a word's embedding.
        dim: size of the GRU's state.
    """

    def __init__(self, words: int, word_dim: int, dim: int) -> None:
        super().__init__()
        self.words = nn.Embedding(words + 1, word_dim, padding_idx=0)
        self.gru = nn.GRU(word_dim, dim, batch_first=True)

    @override
    def forward(self, numbers: Tensor) -> Tensor:
        states, _ = self.gru(self.words(numbers))
        last = (numbers != 0).sum(1).clamp(min=1) - 1
        embedding: Tensor = states.gather(1, last[:, None, None].expand(-1, 1, states.shape[2]))
        return embedding[:, 0]
