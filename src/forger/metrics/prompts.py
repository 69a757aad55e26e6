"""Scores of images made from texts: whether they show what the texts say, where data can tell."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from forger.metrics.extractor import FeatureExtractor
from forger.metrics.sharing import in_order
from forger.sampling.sampler import CHUNK, Sampler, chunk_sizes
from forger.score_names import OF_PROMPTS


class Prompts(Protocol):
    """Texts, and which value each attribute of their images should have, `(N, attributes)`."""

    @property
    def captions(self) -> Sequence[str]:
        """The texts."""

    @property
    def wanted(self) -> Tensor:
        """int64; the first attribute is the class, which a classifier reads."""


class MeasurableData(Protocol):
    """Data whose captions tell attributes that can be measured in images."""

    @property
    def prompt_sets(self) -> Mapping[str, Prompts]:
        """Texts by the name of what they are."""

    @property
    def measured(self) -> Sequence[str]:
        """Names of the attributes behind the class."""

    @property
    def together(self) -> Mapping[str, Sequence[str]]:
        """Names of some of them, `class` too, that are also scored as one, by its name."""

    @property
    def test_attributes(self) -> Tensor:
        """Attributes of the held-out images, the class first, int64 `(M, attributes)`."""

    def measure(self, images: Tensor) -> Tensor:
        """Measures attributes in uint8 images `(N, C, H, W)`, int64 `(N, len(measured))`."""


class _Measure(NamedTuple):
    data: MeasurableData
    extractor: FeatureExtractor

    @property
    def names(self) -> tuple[str, ...]:
        """What is right of an image: each attribute, some together, and all of them."""
        return (*self._read, *self._together, "all")

    @property
    def _read(self) -> tuple[str, ...]:
        reads_class = self.extractor.prefix and self.extractor.classes is not None
        return (*(("class",) if reads_class else ()), *self.data.measured)

    @property
    def _together(self) -> dict[str, list[int]]:
        """Numbers of the attributes of each name, where all of them are read."""
        read = self._read
        groups = self.data.together.items()
        return {
            name: [read.index(one) for one in group]
            for name, group in groups
            if {*group} <= {*read}
        }

    def right(self, images: Tensor, wanted: Tensor) -> Tensor:
        """Returns what is right in images, float32 `(N, names)`."""
        found = self.data.measure(images)
        if "class" in self._read:
            read = self.extractor(images).logits.argmax(1, keepdim=True)
            found = torch.cat((read, found), 1)
        right = found == wanted.to(found.device)[:, -found.shape[1] :]
        groups = [right[:, numbers].all(1) for numbers in self._together.values()]
        return torch.cat((right, torch.stack([*groups, right.all(1)], 1)), 1).float()


def is_measurable(data: Any) -> bool:
    """Tells whether data says what its texts mean, and measures it."""
    return bool(getattr(data, "prompt_sets", None))


def prompt_score_names(data: Any, extractor: FeatureExtractor) -> tuple[str, ...]:
    """Returns the names of the scores of `prompt_scores`."""
    if not is_measurable(data):
        return ()
    names = _Measure(data, extractor).names
    return tuple(f"{kind}_{name}_{OF_PROMPTS}" for kind in data.prompt_sets for name in names)


def prompt_scores(
    sampler: Sampler, data: Any, extractor: FeatureExtractor, most: int, seed: int = 0
) -> dict[str, float]:
    """Generates an image of each prompt, and returns shares of those that are as they should be.

    Of each set of prompts the share whose `class` is what the text says, as a classifier reads it,
    that of each attribute as it is measured, and those of images where some of them, together with
    a name of their own, and `all` are.

    Args:
        sampler: its condition is of texts.
        data: whose prompts they are.
        extractor: its classifier reads classes, if it has one.
        most: images of each set.
        seed: of the noise.
    """
    measure, found = _Measure(data, extractor), dict[str, float]()
    for kind, prompts in data.prompt_sets.items():
        rows = sampler.condition.rows_of(prompts.captions[:most])

        def look(number: int, size: int, rows: Tensor = rows, prompts: Prompts = prompts) -> Tensor:
            part = slice(number * CHUNK, number * CHUNK + size)
            images = sampler.chunk(number, size, seed, {"text": rows[part]})["image"]
            return measure.right(images, prompts.wanted[part])

        right = torch.cat([one.cpu() for one in in_order(look, chunk_sizes(len(rows)))])
        found |= _named(kind, measure, right)
    return found


def real_prompt_scores(
    data: Any, extractor: FeatureExtractor, device: torch.device
) -> dict[str, float]:
    """Returns the same shares of the real held-out images, for each set of prompts."""
    measure, wanted = _Measure(data, extractor), data.test_attributes
    pairs = zip(torch.split(data.test_images, CHUNK), torch.split(wanted, CHUNK), strict=True)
    right = torch.cat([measure.right(images.to(device), own).cpu() for images, own in pairs])
    return {k: v for kind in data.prompt_sets for k, v in _named(kind, measure, right).items()}


def _named(kind: str, measure: _Measure, right: Tensor) -> dict[str, float]:
    shares = right.double().mean(0).tolist()
    return {
        f"{kind}_{n}_{OF_PROMPTS}": share for n, share in zip(measure.names, shares, strict=True)
    }
