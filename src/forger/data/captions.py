"""Captions of images: each different one once, with a number."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor


class PromptSet(NamedTuple):
    """Captions to generate images of.

    Attributes:
        captions: the texts.
        wanted: which value each attribute of their images should have, int64 `(N, attributes)`.
    """

    captions: tuple[str, ...]
    wanted: Tensor


class CaptionTable:
    """All captions of a data set, each different one once; a caption's number is its place."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}
        self._texts: tuple[str, ...] = ()

    @property
    def texts(self) -> tuple[str, ...]:
        """The captions, in the order of their numbers."""
        if len(self._texts) < len(self._numbers):
            self._texts = tuple(self._numbers)
        return self._texts

    def add(self, captions: Sequence[Sequence[str]]) -> Tensor:
        """Takes up the captions of images, one or more for each.

        Returns:
            their numbers, int64 `(N, K)`; behind those of an image that has fewer than K stands -1.
        """
        numbers = self._numbers
        rows = [[numbers.setdefault(one, len(numbers)) for one in each] for each in captions]
        most = max(map(len, rows))
        return torch.tensor([[*row, *[-1] * (most - len(row))] for row in rows])
