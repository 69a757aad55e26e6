"""Texts as words, and words as numbers."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from unicodedata import normalize

import torch
from torch import Tensor

# Scripts without spaces between words are read sign by sign: Thai, kana, Chinese and Hangul.
_SIGN = "\u0e00-\u0e7f\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af"
_WORD = re.compile(rf"[{_SIGN}]|[^\W{_SIGN}]+(?:'[^\W{_SIGN}]+)*|[^\w\s]")


def words_of(text: str) -> list[str]:
    """Splits a text into lower-case words and punctuation marks, those of all alphabets."""
    return _WORD.findall(normalize("NFKC", text).lower())


class Vocabulary:
    """The words that captions are made of, each with a number from 1; 0 stands for none.

    Args:
        words: in the order of their numbers.
    """

    def __init__(self, words: Sequence[str]) -> None:
        self.words = tuple(words)
        self._numbers = {word: number for number, word in enumerate(self.words, 1)}

    def __len__(self) -> int:
        return len(self.words)

    @classmethod
    def of(cls, texts: Iterable[str], most: int) -> Vocabulary:
        """Returns the vocabulary of the `most` words that are most frequent in texts."""
        counts = Counter(word for text in texts for word in words_of(text))
        ordered = sorted(counts, key=lambda word: (-counts[word], word))
        return cls(ordered[:most])

    def numbers(self, texts: Sequence[str], longest: int) -> Tensor:
        """Returns the numbers of the first words of texts that are known, 0 behind them.

        Words that are not known are passed over.

        Returns:
            int64 `(N, L)`, L the words of the longest text, from 1 to `longest`.
        """
        known = self._numbers
        rows = [[known[word] for word in words_of(text) if word in known] for text in texts]
        width = min(longest, max(1, *map(len, rows))) if rows else 1
        padded = [[*row, *[0] * width][:width] for row in rows]
        return torch.tensor(padded, dtype=torch.int64).view(-1, width)

    def unknown(self, text: str) -> list[str]:
        """Returns the words of a text that are not in the vocabulary, punctuation left out."""
        found = (word for word in words_of(text) if word not in self._numbers)
        return [word for word in dict.fromkeys(found) if word[0].isalnum()]
